"""A task hub in memory: what is stored, and how commits and clients change it.

Its methods are plain functions, so whatever one of them does happens as one. Records are stored as they are: they are
frozen, and lists are copied.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import timedelta
from itertools import count

import msgspec

from durable_ext.clock import Clock, SystemClock
from durable_ext.errors import (
    InstanceAlreadyExistsError,
    InstanceNotFoundError,
    InstanceStateError,
    VersionConflictError,
)
from durable_ext.history import ExecutionStarted, HistoryEvent, OrchestrationRuntimeStatus
from durable_ext.messages import Message, WorkItem, WorkReceipt
from durable_ext.storage.contract import (
    Commit,
    DeadLetter,
    Delivery,
    InstanceQuery,
    InstanceRecord,
    LoadedTurn,
    Snapshot,
    StatusChange,
    StoreTraits,
    Version,
)
from durable_ext.storage.memory.offers import Offers
from durable_ext.storage.memory.records import (
    Belongings,
    Connection,
    Instance,
    Stored,
    StoredMessage,
    StoredWork,
    first_row,
    matches,
    next_row,
)

UNKNOWN = 0
"""The version of an instance that does not exist."""


class MemoryHub:
    """A task hub that lasts as long as this object. Any number of stores may be clients and hosts of it.

    They all live on one event loop, and `clock` is theirs too.
    """

    def __init__(self, clock: Clock | None = None, traits: StoreTraits | None = None) -> None:
        self.clock = clock or SystemClock()
        self.traits = traits or StoreTraits()
        self.offers = Offers(self.clock)
        self.connections: list[Connection] = []
        self.instances: dict[str, Instance] = {}
        self.dead_letters: list[DeadLetter] = []
        self.belongings: defaultdict[str, Belongings] = defaultdict(Belongings)
        # One counter, never reset: no version and no receipt comes twice, whatever is removed meanwhile.
        self._numbers = count(UNKNOWN + 1)

    # --- who is connected --------------------------------------------------------------------------------

    def leave(self, connection: Connection) -> None:
        """A store has been closed, or has died: what it had in hand is offered again."""
        self.connections.remove(connection)
        if connection in self.offers.hosts:
            in_hand = [each for owned in self.belongings.values() for each in owned if each.holder is connection]
            self.offers.leave(connection, in_hand)

    # --- instances ---------------------------------------------------------------------------------------

    def create(self, start: ExecutionStarted, overridable: Collection[OrchestrationRuntimeStatus]) -> None:
        """Store a Pending instance and its start message, instead of what had the id before."""
        present = self.row(start.instance_id)
        if present is not None:
            if present.runtime_status not in overridable:
                raise InstanceAlreadyExistsError(start.instance_id, present.runtime_status.value)
            self._remove(start.instance_id)
        self._insert(
            start.execution_id,
            StatusChange(runtime_status=OrchestrationRuntimeStatus.Pending, updated_at=start.timestamp, started=start),
        )
        self._tell(start.instance_id, is_end=False)
        self.send_start(Message(instance_id=start.instance_id, event=start, execution_id=start.execution_id))

    def send_start(self, message: Message) -> None:
        """The start message of an instance that a client has created."""
        self.store_message(message)

    def _insert(self, execution_id: str, status: StatusChange) -> Instance:
        start = status.started
        if start is None:
            raise ValueError("the first commit of an instance needs a status with its start event")
        instance = Instance(first_row(start, execution_id, status), start.start_id, next(self._numbers))
        self.instances[start.instance_id] = instance
        return instance

    def purge(self, instance_ids: Collection[str]) -> int:
        """Remove those that have ended, with all they own."""
        ended = [each for each in set(instance_ids) if (row := self.row(each)) and row.runtime_status.is_terminal]
        for each in ended:
            self._remove(each)
            self._tell(each, is_end=True)
        return len(ended)

    def _remove(self, instance_id: str) -> None:
        del self.instances[instance_id]
        for each in self.belongings.pop(instance_id, Belongings()):
            each.is_gone = True
        self.offers.set_alarm()

    def row(self, instance_id: str) -> InstanceRecord | None:
        """The status row."""
        instance = self.instances.get(instance_id)
        return None if instance is None else instance.row

    def rows(self, query: InstanceQuery) -> list[InstanceRecord]:
        """The status rows that match, of all pages, by id."""
        rows = map(self.row, sorted(self.instances))
        return [row for row in rows if row is not None and matches(query, row)]

    def _tell(self, instance_id: str, *, is_end: bool) -> None:
        for connection in self.connections:
            connection.changes.happened(instance_id, is_end=is_end)

    # --- turns -------------------------------------------------------------------------------------------

    def begin(self, instance_id: str, known: Version | None, deliveries: Sequence[Delivery]) -> LoadedTurn:
        """What is committed, and which of the deliveries are still there: others were consumed, or went."""
        instance, owned = self.instances.get(instance_id), self.belongings.get(instance_id, Belongings())
        found = [owned.messages[each.receipt] for each in deliveries if each.receipt in owned.messages]
        version = instance.version if instance is not None else UNKNOWN
        snapshot = None
        if known != version:
            snapshot = Snapshot(
                instance_id=instance_id,
                version=version,
                status=instance.row.runtime_status if instance is not None else None,
                history=list(instance.history) if instance is not None else [],
            )
            found = [*(each for each in owned.messages.values() if each.is_kept), *found]
        return LoadedTurn(snapshot=snapshot, deliveries=[each.as_delivery() for each in dict.fromkeys(found)])

    def commit(self, committer: Connection, commit: Commit) -> Version:
        """Everything of a turn, or nothing."""
        version = self.advance(commit)
        self.clear_away(commit)
        self.send_out(commit, committer)
        self.restate(commit)
        return version

    def advance(self, commit: Commit) -> Version:
        """The version check, and the history."""
        instance = self.instances.get(commit.instance_id)
        if commit.version != (instance.version if instance is not None else UNKNOWN):
            raise VersionConflictError(commit.instance_id)
        if instance is None:
            if commit.status is None:
                if commit.events:
                    raise ValueError(f"instance '{commit.instance_id}' cannot have a history before it has a status")
                return UNKNOWN  # messages to nobody are removed
            instance = self._insert(commit.execution_id, commit.status)
        if commit.replaces_history:
            instance.history.clear()
        instance.history.extend(commit.events)
        instance.version = next(self._numbers)
        return instance.version

    def send_out(self, commit: Commit, claimant: Connection | None) -> None:
        """The outgoing messages, work items and dead letters. Without a claimant, inline work is offered too."""
        for message in commit.messages:
            self.store_message(message)
        for item in commit.inline:
            self.store_work(item, claimant)
        for item in commit.queued:
            self.store_work(item, None)
        for letter in commit.dead_letters:
            self.dead_letters.append(msgspec.structs.replace(letter, letter_id=len(self.dead_letters) + 1))

    def restate(self, commit: Commit) -> None:
        """The status row."""
        instance, status = self.instances.get(commit.instance_id), commit.status
        if instance is not None and status is not None:
            instance.row = next_row(instance, commit.execution_id, status)
            if status.started is not None:
                instance.start_id = status.started.start_id
            self._tell(commit.instance_id, is_end=status.runtime_status.is_terminal)

    def clear_away(self, commit: Commit) -> None:
        """What was consumed, kept, completed, or is of no more use."""
        if (owned := self.belongings.get(commit.instance_id)) is None:
            return
        for receipt in commit.kept:
            if receipt in owned.messages:
                owned.messages[receipt].is_kept, owned.messages[receipt].holder = True, None
        for receipt in commit.consumed:
            owned.remove_message(receipt)
        for work in commit.completed:
            owned.remove_work(work)
        self.clear_unwanted(commit, owned)
        if not owned.messages and not owned.work:
            del self.belongings[commit.instance_id]
        self.offers.set_alarm()

    def clear_unwanted(self, commit: Commit, owned: Belongings) -> None:
        """Work items and timers that nobody waits for any more."""
        if not commit.cancels_all and not commit.cancelled:
            return
        numbers, execution_id = set(commit.cancelled), commit.execution_id
        for work in list(owned.work):
            if commit.cancels_all or (work.execution_id == execution_id and work.task_id in numbers):
                owned.remove_work(work)
        for stored, event in list(owned.timers()):
            if commit.cancels_all or (stored.message.execution_id == execution_id and event.timer_id in numbers):
                owned.remove_message(stored.receipt)

    # --- messages and work items ---------------------------------------------------------------------------

    def send(self, message: Message, accepted: Collection[OrchestrationRuntimeStatus]) -> None:
        """Store a message if its instance is in one of these statuses."""
        row = self.row(message.instance_id)
        if row is None:
            raise InstanceNotFoundError(message.instance_id)
        if row.runtime_status not in accepted:
            raise InstanceStateError(message.instance_id, row.runtime_status.value)
        self.store_message(message)

    def store_message(self, message: Message) -> None:
        """Store a message, and offer it when its time has come."""
        stored = StoredMessage(next(self._numbers), message)
        self.belongings[message.instance_id].messages[stored.receipt] = stored
        if message.visible_at is not None and message.visible_at > self.clock.now():
            self.offers.offer_at(message.visible_at, stored)
        else:
            self.offers.offer(stored)

    def store_work(self, item: WorkItem, claimant: Connection | None) -> None:
        """Store a work item, claimed, or offered to all."""
        stored, owned = StoredWork(item, claimant), self.belongings[item.instance_id]
        owned.remove_work(item.receipt)
        owned.work[item.receipt] = stored
        if claimant is None:
            self.offers.offer(stored)

    def complete_work(self, item: WorkItem, outcome: HistoryEvent) -> None:
        """Store a message instead of the work item, unless that is gone: then nobody waits for the outcome."""
        if self.find_work(item.receipt) is not None:
            self.belongings[item.instance_id].remove_work(item.receipt)
            self.store_message(Message(instance_id=item.instance_id, event=outcome, execution_id=item.execution_id))

    def find_message(self, delivery: Delivery) -> StoredMessage | None:
        """The message, if it is still there."""
        owned = self.belongings.get(delivery.instance_id)
        return None if owned is None else owned.messages.get(delivery.receipt)

    def find_work(self, receipt: WorkReceipt) -> StoredWork | None:
        """The work item, if it is still there."""
        owned = self.belongings.get(receipt.instance_id)
        return None if owned is None else owned.work.get(receipt)

    def offer_again(self, each: Stored, delay: float) -> None:
        """Offer what was in somebody's hands, after a delay."""
        if delay > 0:
            self.offers.offer_at(self.clock.now() + timedelta(seconds=delay), each)
        else:
            self.offers.offer(each)
