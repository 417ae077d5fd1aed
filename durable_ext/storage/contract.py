"""The store contract: what the runtime and the clients may rely on, whatever the storage is.

A store keeps instances (one status row each), the history of their current execution, messages addressed to
them, activity calls to be run (work items), and dead letters. It never runs user code and never imports the
engine.

How an instance changes
    Only by `Store.commit`, `ClientStore.create_instance` (its start) and `ClientStore.purge`. A commit carries the
    version it was computed from and counts only if the instance still has that version. Leases, ownership and claims
    save work; correctness never depends on them.

What a commit is
    History, outgoing messages, work items, the status row and the removal of what was consumed, promised together.
    A store does them as one, or in this order: history (the commit point), messages and work items, status row,
    removal of the consumed; then it records with the history what it still owes, and pays the debts of a worker that
    died. Either way: nothing is sent for a commit that lost its version check, and once history is durable
    everything else of the commit happens, crash or not, though perhaps after `Store.commit` has returned
    (`Store.flush` waits for it).

What happens to a message
    It is delivered to a worker, by `Store.receive`, until a commit consumes it, never after. It may be delivered
    again at any time before that: to this worker or to another, while the first delivery is still in hand; two
    deliveries of one message have equal receipts. What a worker has not consumed when it dies is delivered again.
    Messages to one instance come in the order they were stored, unless they come again; those with `visible_at` not
    before that time. How they are batched says nothing.

What is kept
    A commit may keep a message instead of consuming it: an external event that nobody waits for yet. It stays stored
    with its instance, through every commit that does not consume it, ends included, and goes when the instance is
    purged or replaced. The store need not deliver it any more (it may); it comes with every `Store.begin` that reads
    the instance, ahead of what was delivered, in the order in which the messages were stored.

What happens to a work item
    It is handed out, by `Store.receive_work`, or claimed by the commit that makes it, until its outcome is committed
    or stored. It may be handed out again before that, so an activity may run twice; its outcome counts once, since
    an execution takes the first outcome of a task only. Neither a crash nor a lost answer loses it.

Two workers
    Whichever worker a message is delivered to may run a turn of its instance. Two may do so at once: one of them
    loses its version check. A store that shares instances out among its hosts tells a host when it loses some.

What an answer that never came means
    Any call may fail after it has taken effect. Whoever calls again must be prepared for that: a commit made again
    loses its version check, and then `begin` says what is committed.

Who cleans up
    The store removes what a commit consumed or cancelled, the history a new generation replaces, and payloads kept
    elsewhere with the instance they belong to.

All methods are coroutines unless they say otherwise, and are called on the event loop that called `open`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol, TypeAlias

import msgspec

from durable_ext.history import ExecutionStarted, HistoryEvent, OrchestrationRuntimeStatus
from durable_ext.messages import Message, WorkItem, WorkReceipt

Version: TypeAlias = object
"""Opaque to everybody but the store that made it. Compared by nobody else."""

Receipt: TypeAlias = Hashable
"""Names one stored message to the store that delivered it: equal in every delivery of that message."""


class StoreTraits(msgspec.Struct, frozen=True, kw_only=True):
    """What a runtime does differently from store to store.

    `is_shared`: other workers, perhaps with other functions, may host the same hub, so what this app does not know
    may be known elsewhere. `status_interval`: while turns are committed, the status row is written at least this
    often. `turn_size`: how many deliveries should go into one turn at most; None: any number. `gather`: seconds worth
    waiting for more outcomes of activities that run here before they go into a turn. `directory`: where the processes
    of this machine that host the hub may keep files about themselves; None: nothing of the hub outlives its process.
    """

    is_shared: bool = False
    status_interval: timedelta = timedelta(seconds=10)
    turn_size: int | None = None
    gather: float = 0.0
    directory: Path | None = None


class Delivery(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A message in the hands of this worker, until a commit consumes or keeps its receipt or it is given back.

    `tries` estimates how often it has been delivered without being consumed, kept or given back, this time included.
    `is_kept` says that an earlier commit kept it. `unreadable` says why the stored message cannot be read, if so;
    then `event` is a GenericEvent that has it as text.
    """

    receipt: Receipt
    instance_id: str
    event: HistoryEvent
    execution_id: str | None = None
    tries: int = 1
    is_kept: bool = False
    unreadable: str | None = None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """An instance as its store last committed it.

    `version` is what the next commit must carry. `history` is that of the current execution and empty if the
    instance is unknown or has not begun. `status` is None if the instance is unknown, Pending if it is to begin (or
    to begin anew) with a start that is on its way. `unreadable` says why the history cannot be read, if so; then it
    is empty.
    """

    instance_id: str
    version: Version
    status: OrchestrationRuntimeStatus | None
    history: list[HistoryEvent]
    unreadable: str | None = None


class LoadedTurn(msgspec.Struct, frozen=True, kw_only=True):
    """What a turn starts from. `snapshot` is None if the `known` version may still be current."""

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
    `replaces_history`: the events begin a new generation; the former one's history goes, in the same step.
    `queued` work items are offered by `receive_work`. `inline` ones are claimed by this worker, which starts them
    when the commit returns; both carry the number of tries they have had. The same call may be asked for again after
    a rewind (`WorkItem.asked` tells the two apart): it may run twice, and counts once.
    `consumed` messages go. `kept` ones stay with the instance.
    `completed` names the work items whose outcomes came to this turn without being stored first: they go.
    `cancelled` are the numbers of calls and timers of this execution that nobody waits for any more: their work items
    and messages need not come, and may. With `cancels_all` that holds for every call and every message for later that
    the instance had before this commit.
    """

    instance_id: str
    execution_id: str
    version: Version
    events: Sequence[HistoryEvent] = ()
    replaces_history: bool = False
    messages: Sequence[Message] = ()
    queued: Sequence[WorkItem] = ()
    inline: Sequence[WorkItem] = ()
    status: StatusChange | None = None
    consumed: Collection[Receipt] = ()
    kept: Collection[Receipt] = ()
    completed: Collection[WorkReceipt] = ()
    cancelled: Collection[int] = ()
    cancels_all: bool = False
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
        """Store the instance as Pending, and its start message. Once the instance is there, the message will be.

        An existing instance whose status is in `overridable` is replaced: its history goes, and none of its messages
        and work items reaches the successor. Otherwise raises `InstanceAlreadyExistsError` and changes nothing; of
        two concurrent calls with one id exactly one succeeds.
        """
        ...

    async def send(self, message: Message, *, accepted: frozenset[OrchestrationRuntimeStatus]) -> None:
        """Store a message for an instance whose status is in `accepted`.

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

    @property
    def traits(self) -> StoreTraits:
        """What a runtime does differently with this store. The same all through the life of the object."""
        ...

    async def host(self, owner: str, lost: Callable[[], None]) -> None:
        """Become a host of the hub. `owner` is how a person would find this process.

        A store that allows one host only raises `StoreInUseError` naming the present one. What hosts that died held
        is offered again, now or when the store has noticed. `lost` is called, on the event loop, when instances are
        no longer this worker's (see `is_local`): what it knows of them may be out of date from then on.
        """
        ...

    def is_local(self, instance_id: str) -> bool:
        """Whether this worker is the one that runs the instance's turns now. Not a coroutine; a hint, not a lock."""
        ...

    async def receive(self) -> list[Delivery]:
        """Wait for messages; return one or more. Cancellation loses none.

        Messages are fetched only while somebody waits here: a runtime that stops calling takes no more work.
        """
        ...

    async def begin(self, instance_id: str, known: Version | None, deliveries: Sequence[Delivery]) -> LoadedTurn:
        """Start a turn: say what is committed, and which of the deliveries are news.

        With `known` None the snapshot is always given; otherwise it may be left out: optimism that `commit` checks.
        With a snapshot comes every message kept. Of an instance that was never delivered before, the store may take
        for granted that its start is all there is.

        A message is left out of the answer if it was consumed before (then whatever followed from it is durable), or
        went with an instance that was purged or replaced. One that comes too early, ahead of the start of its
        instance or of a former line, may be held back and delivered again. The answer may hold a message that was not
        asked about: the start of an instance that has yet to begin. None comes twice in one answer.
        """
        ...

    async def commit(self, commit: Commit) -> Version:
        """Make the turn durable and return the new version. Raises `VersionConflictError`, having done nothing."""
        ...

    async def flush(self) -> None:
        """Return once all that the commits of this worker still owed is done. `close` implies it."""
        ...

    async def give_back(self, deliveries: Sequence[Delivery], delay: float) -> None:
        """Deliver these again, after `delay` seconds, in the order they had among themselves.

        Messages stored later may overtake them. Giving back is not a try.
        """
        ...

    async def receive_work(self, limit: int) -> list[WorkItem]:
        """Wait for work items; return 1 to `limit`, each claimed and its tries counted.

        Cancellation loses none and counts none: once it is over, what was claimed meanwhile is offered again.
        """
        ...

    async def complete_work(self, item: WorkItem, outcome: HistoryEvent) -> None:
        """Turn a work item into a stored message with its outcome, for whoever runs the instance.

        Does nothing if the store knows that the work item is gone: nobody waits for the outcome then. Made again, it
        may store the outcome again.
        """
        ...

    async def give_back_work(self, items: Sequence[WorkItem], delay: float = 0.0) -> None:
        """Offer items again that were claimed but not run, after `delay` seconds; the try is uncounted.

        Items that the store does not have are no matter: so a commit whose answer never came is asked to let go of its
        inline work, whether it took effect or not.
        """
        ...

    async def sweep(self) -> None:
        """Offer again whatever no message in flight covers, and tidy up. Called every few seconds."""
        ...
