"""What is known of an instance between its turns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

import msgspec

from durable_ext.engine.session import Session
from durable_ext.engine.turn import Turn
from durable_ext.history import (
    EventRaised,
    ExecutionCompleted,
    ExecutionStarted,
    OrchestrationRuntimeStatus,
    TaskCompleted,
    TaskFailed,
    count_rewinds,
)
from durable_ext.messages import WorkItem
from durable_ext.storage.contract import DeadLetter, Delivery, Receipt, Snapshot


class LocalOutcome(msgspec.Struct, frozen=True, tag=True):
    """The outcome of an activity that ran here, on its way into a turn without having been stored first.

    `dead_letter` is to be stored with it, where the call was given up.
    """

    item: WorkItem
    event: TaskCompleted | TaskFailed
    dead_letter: DeadLetter | None = None

    is_kept: ClassVar[bool] = False

    @property
    def instance_id(self) -> str:
        """Whose call it was."""
        return self.item.instance_id

    @property
    def execution_id(self) -> str:
        """The execution that made the call."""
        return self.item.execution_id


Arrival = Delivery | LocalOutcome
"""What goes into a turn."""


class InstanceState(msgspec.Struct, frozen=True):
    """What is committed of an instance, as far as it decides what may come next.

    `started` is None while no execution has begun. `completed` is how the execution ended, if it did. `rewinds` is how
    often the line has been rewound, where somebody is to be told.
    """

    instance_id: str
    status: OrchestrationRuntimeStatus | None = None
    started: ExecutionStarted | None = None
    completed: ExecutionCompleted | None = None
    rewinds: int = 0

    @classmethod
    def of(cls, snapshot: Snapshot) -> InstanceState:
        """The state of an instance as its store has it."""
        started = next((each for each in snapshot.history if isinstance(each, ExecutionStarted)), None)
        ended = None
        if snapshot.status is not None and snapshot.status.is_terminal:
            ended = next((each for each in reversed(snapshot.history) if isinstance(each, ExecutionCompleted)), None)
        has_parent = started is not None and started.parent is not None
        rewinds = count_rewinds(snapshot.history) if has_parent else 0
        return cls(snapshot.instance_id, snapshot.status, started, ended, rewinds)

    def after(self, turn: Turn) -> InstanceState:
        """The state once the turn is committed."""
        if turn.started is not None:
            return InstanceState(self.instance_id, turn.runtime_status, turn.started, rewinds=turn.started.rewinds)
        if turn.runtime_status is self.status:
            return self
        rewound = self.has_ended and not turn.runtime_status.is_terminal
        return msgspec.structs.replace(self, status=turn.runtime_status, completed=None, rewinds=self.rewinds + rewound)

    @property
    def name(self) -> str:
        """The orchestrator's name, empty before the start."""
        return self.started.name if self.started is not None else ""

    @property
    def execution_id(self) -> str | None:
        """The current execution, if one has begun."""
        return self.started.execution_id if self.started is not None else None

    @property
    def has_ended(self) -> bool:
        """Whether the instance is in a terminal status."""
        return self.status is not None and self.status.is_terminal


class KeptEvents:
    """The messages that the store keeps for an instance, because nobody waits for their events yet."""

    __slots__ = ("_by_event", "receipts")

    def __init__(self) -> None:
        # By identity: the session hands back the very events it was fed. Held here, they keep their addresses.
        self._by_event: dict[int, Delivery] = {}
        self.receipts: set[Receipt] = set()
        """What names them."""

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """Remember messages whose events went unread."""
        for each in deliveries:
            self._by_event[id(each.event)] = each
            self.receipts.add(each.receipt)

    def take(self, events: Sequence[EventRaised]) -> list[Receipt]:
        """Forget the messages of events that were read, and return what names them."""
        receipts = [self._by_event.pop(id(event)).receipt for event in events]
        self.receipts.difference_update(receipts)
        return receipts

    def take_all(self) -> list[Receipt]:
        """Forget all, and return what names them."""
        receipts = [each.receipt for each in self._by_event.values()]
        self.clear()
        return receipts

    def clear(self) -> None:
        """Forget all."""
        self._by_event.clear()
        self.receipts.clear()


class Memory:
    """What a worker has in mind of an instance: its state, its session while it is warm, and what is kept for it.

    A turn changes it as if the turn were committed already; a turn that is not committed makes it worthless.
    """

    __slots__ = ("kept", "session", "state")

    def __init__(self, instance_id: str) -> None:
        self.state = InstanceState(instance_id)
        self.session: Session | None = None
        self.kept = KeptEvents()

    def forget(self) -> None:
        """Drop the session and what is kept. The state stays, to be looked at only."""
        if self.session is not None:
            self.session.close()
            self.session = None
        self.kept.clear()
