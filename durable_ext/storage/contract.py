"""The store contract: what the runtime and the clients may rely on, whatever the storage is.

A store keeps instances (one status row each), the history of their current execution, messages addressed to
them, activity calls to be run (work items), and dead letters. It never runs user code and never imports the
engine.

How an instance changes
    Only by `Store.commit`, `Store.create_instance` (its start) and `Store.purge`. A commit carries the version it
    was computed from and counts only if the instance still has that version. Leases, ownership and claims save
    work; correctness never depends on them.

What a commit is
    History, outgoing messages, work items, the status row and the removal of what was consumed, promised
    together. SQLite does them in one transaction. A store without such transactions does them in this order:
    history (the commit point), messages and work items, status row, removal of the consumed; it records in the
    history transaction what it still owes, keeps one consumed message leased until everything is paid, and pays
    the debts of a dead worker when that message comes back. Either way: nothing is sent for a commit that lost
    its version check, and once history is durable everything else of the commit happens, crash or not.

What may happen twice
    A delivery may come again until a commit consumed it, never after. A work item may run again until its outcome
    was committed. Both are lost by no crash. Messages to one instance are delivered in the order they were stored
    (except after a crash, on stores with leases), those with `visible_at` not before that time.

Who cleans up
    The store removes what a commit consumed, the history a new generation replaces, and payloads kept elsewhere
    with the instance they belong to.

All methods are coroutines unless they say otherwise, and are called on the event loop that called `open`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol, TypeAlias

import msgspec

from durable_ext.history import ExecutionStarted, HistoryEvent, OrchestrationRuntimeStatus
from durable_ext.messages import Message, WorkItem

Version: TypeAlias = object
"""Opaque to everybody but the store that made it. Compared by nobody else."""

Receipt: TypeAlias = object
"""Names one stored message to the store that delivered it, or (a `WorkReceipt`) a work item. Hashable."""


SUSPECT_DELIVERIES = 3
"""From this delivery on a work item may be what kills the process that runs it."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A message in the hands of this worker, until a commit consumes its receipt or it is given back.

    `deaths` counts the workers that died holding it without any commit of its instance in between. `damage` says why
    the stored message cannot be read, if so; then `event` is a GenericEvent that has it as text.
    """

    receipt: Receipt
    instance_id: str
    event: HistoryEvent
    execution_id: str | None = None
    deaths: int = 0
    damage: str | None = None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """An instance as its store last committed it.

    `version` is what the next commit must carry. `history` is that of the current execution and empty if the
    instance is unknown or has not begun.
    """

    instance_id: str
    version: Version
    status: OrchestrationRuntimeStatus | None
    history: list[HistoryEvent]


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """What `Store.begin` answers: `snapshot` is None if the `known` version may still be current."""

    snapshot: Snapshot | None
    deliveries: Sequence[Delivery]


class StatusChange(msgspec.Struct, frozen=True, kw_only=True):
    """The status row as of this commit. `started` is given when the commit holds an ExecutionStarted.

    An UNSET `custom_status` leaves the row's as it is, or empty where `started` begins a new line (has another
    `start_id`). The row's creation time is that of the first start of the line.
    """

    runtime_status: OrchestrationRuntimeStatus
    updated_at: datetime
    custom_status: str | msgspec.UnsetType | None = msgspec.UNSET
    output: str | None = None
    started: ExecutionStarted | None = None


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """Something that could not be processed, kept with its payload and the reason. `letter_id` 0 means not stored."""

    kind: str
    instance_id: str
    name: str
    payload: str | None
    reason: str
    created_at: datetime
    letter_id: int = 0


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of one instance, or (with no events) a version-checked removal of messages it has no use for.

    `version` comes from the `Snapshot`, or from the previous commit of this worker.
    `replaces_history`: the events begin a new generation; the former one's history goes, in the same transaction.
    `work` whose `deliveries` is 1 is claimed by this worker, which starts it when the commit returns; the rest is
    offered by `receive_work`. A work item whose identity is already stored is the same call asked again (after a
    rewind): it is kept once.
    """

    instance_id: str
    execution_id: str
    version: Version
    events: Sequence[HistoryEvent] = ()
    replaces_history: bool = False
    messages: Sequence[Message] = ()
    work: Sequence[WorkItem] = ()
    status: StatusChange | None = None
    consumed: Collection[Receipt] = ()
    dead_letters: Sequence[DeadLetter] = ()


class InstanceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The status row of an instance. Payloads are JSON text, except the texts of failures and reasons in `output`."""

    instance_id: str
    execution_id: str
    name: str
    runtime_status: OrchestrationRuntimeStatus
    created_at: datetime
    updated_at: datetime
    input: str | None = None
    output: str | None = None
    custom_status: str | None = None
    version: str | None = None
    parent_instance_id: str | None = None
    tags: dict[str, str] = msgspec.field(default_factory=dict)


class InstanceQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which instances. An empty `statuses` means any; bounds of `created` are inclusive."""

    created_from: datetime | None = None
    created_to: datetime | None = None
    statuses: frozenset[OrchestrationRuntimeStatus] = frozenset()
    instance_id_prefix: str | None = None
    name: str | None = None
    page_size: int = 100
    continuation_token: str | None = None
    with_payloads: bool = True


class InstancePage(msgspec.Struct, frozen=True, kw_only=True):
    """Some instances, in a stable order, and the token of the next page. No token: that was the last one."""

    instances: list[InstanceRecord]
    continuation_token: str | None = None


class Watch(Protocol):
    """Somebody's interest in one instance."""

    async def changed(self, timeout: float) -> None:
        """Return once the status row may have changed since the watch began, or since this returned last.

        Returns after `timeout` seconds in any case; too early is allowed, so read again.
        """
        ...


class ClientStore(Protocol):
    """What clients need. Safe to use beside a host, from another process."""

    async def open(self) -> None:
        """Create the hub if it does not exist, check its schema, connect. Raises `StoreSchemaError`."""
        ...

    async def close(self) -> None:
        """Finish what was accepted and let go. Deliveries not consumed come again at the next open.

        Whoever still waits in `receive` or `receive_work` gets a `StoreError`. Closing twice is no matter.
        """
        ...

    async def create_instance(
        self,
        start: ExecutionStarted,
        *,
        overridable: frozenset[OrchestrationRuntimeStatus],
    ) -> None:
        """Store the instance as Pending, and its start message, atomically.

        An existing instance whose status is in `overridable` is replaced: its history, unread messages and work
        items go. Otherwise raises `InstanceAlreadyExistsError` and changes nothing; of two concurrent calls with
        one id exactly one succeeds.
        """
        ...

    async def send(
        self, message: Message, *, accepted: frozenset[OrchestrationRuntimeStatus]
    ) -> OrchestrationRuntimeStatus:
        """Store a message for an instance whose status is in `accepted`; return the status it had.

        Raises `InstanceNotFoundError` or `InstanceStateError`, having stored nothing.
        """
        ...

    async def get_instance(self, instance_id: str, *, with_payloads: bool = True) -> InstanceRecord | None:
        """The status row, or None. `with_payloads=False` may leave `input` out."""
        ...

    async def list_instances(self, query: InstanceQuery) -> InstancePage:
        """One page of instances, ordered by the code points of their ids.

        The prefix is compared exactly, the name without regard to the case of ASCII letters.
        Entities (ids that begin with "@") are left out unless the prefix begins with "@". Tokens are printable ASCII;
        one that this store did not give raises ValueError.
        """
        ...

    async def read_history(self, instance_id: str) -> list[HistoryEvent]:
        """The committed history of the current execution; empty if unknown or not begun."""
        ...

    def watch(self, instance_id: str, *, until_ended: bool = False) -> AbstractContextManager[Watch]:
        """Notice changes of an instance's status row from now on. Begin the watch, then read, then wait.

        With `until_ended` only its end, or its removal, counts. Not a coroutine.
        """
        ...

    async def purge(self, instance_ids: Collection[str]) -> int:
        """Remove those of the instances that exist and have ended, with everything they own; return how many.

        Dead letters stay: they are kept for people, not for the instance.
        """
        ...

    async def purge_matching(self, query: InstanceQuery) -> int:
        """`purge` every instance the query matches that has ended (paging fields are ignored)."""
        ...

    async def list_dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """The most recent dead letters first."""
        ...


class Store(ClientStore, Protocol):
    """What the runtime needs besides. At most one runtime uses a Store object."""

    async def host(self, owner: str) -> None:
        """Become a host of the hub. `owner` is how a person would find this process.

        A store that allows one host only raises `StoreInUseError` naming the present one. Messages and work items
        left by hosts that died are offered again, their `deaths` and `deliveries` counted.
        """
        ...

    def is_local(self, instance_id: str) -> bool:
        """Whether this worker is the one that runs the instance's turns now. Not a coroutine; a hint, not a lock."""
        ...

    async def receive(self) -> list[Delivery]:
        """Wait for messages; return one or more, oldest first. Cancellation loses none."""
        ...

    async def begin(self, instance_id: str, known: Version | None, deliveries: Sequence[Delivery]) -> Opening:
        """Start a turn: say what is committed, and which of the deliveries are news.

        With `known` None the snapshot is always read. Otherwise it may be left out: optimism that `commit` checks.
        A store whose deliveries can come again after a commit consumed them leaves those out of the answer, having
        seen to it that whatever followed from them is durable. Left out too are messages that went with an instance
        purged or replaced since they were delivered. A delivery whose receipt is a `WorkReceipt` is passed on.
        """
        ...

    async def commit(self, commit: Commit) -> Version:
        """Make the turn durable and return the new version. Raises `VersionConflictError`, having done nothing."""
        ...

    async def give_back(self, deliveries: Sequence[Delivery], delay: float) -> None:
        """Deliver these again, after `delay` seconds, in the order they had among themselves.

        Messages stored later may overtake them.
        """
        ...

    async def receive_work(self, limit: int) -> list[WorkItem]:
        """Wait for work items; return 1 to `limit`, each counted as delivered and claimed.

        Suspects (see `SUSPECT_DELIVERIES`) come one at a time and after the others, for at most a minute: a process
        that dies then is counted against one of them, not against all.

        Cancellation loses none and counts none: once it is over, what was claimed meanwhile is offered again.
        """
        ...

    async def complete_work(self, item: WorkItem, outcome: HistoryEvent) -> None:
        """Turn a work item into a stored message with its outcome, for whoever runs the instance.

        Does nothing if the store knows that the work item is gone: nobody waits for the outcome then.
        """
        ...

    async def give_back_work(self, items: Sequence[WorkItem]) -> None:
        """Offer items again that were claimed but not run; the delivery is uncounted."""
        ...

    async def sweep(self) -> None:
        """Offer again whatever no message in flight covers, and tidy up. Called every few seconds."""
        ...
