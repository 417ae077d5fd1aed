"""A turn in the making: what it has recorded, sent and kept so far."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import datetime

import msgspec

from durable_ext.engine.backlog import Kept
from durable_ext.engine.execution import Execution
from durable_ext.history import (
    EventRaised,
    ExecutionStarted,
    ExecutionTerminated,
    GenericEvent,
    HistoryEvent,
    OrchestratorCompleted,
    OrchestratorStarted,
)
from durable_ext.messages import Message, WorkItem


class TurnBuilder:
    """A Turn in the making, from what is left of its inbox."""

    started: ExecutionStarted | None = None
    stop: ExecutionTerminated | None = None
    cut: GenericEvent | None = None  # what says at its end that the turn has left events for the next one
    custom_status: str | msgspec.UnsetType | None = msgspec.UNSET  # of generations that have ended
    replaces_history = False
    events_fed = 0  # external ones, since it was last decided whether the turn goes on
    idle_generations = 0  # in a row that took nothing from outside
    _has_searched = False
    _found: ExecutionTerminated | None = None

    def __init__(self, now: datetime, inbox: Iterable[HistoryEvent]) -> None:
        self.now, self.inbox = now, deque(inbox)
        self.records: list[HistoryEvent] = [OrchestratorStarted(timestamp=now)]
        self.messages: list[Message] = []
        self.work: list[WorkItem] = []
        self.unread: dict[int, EventRaised] = {}  # by their numbers in the backlog
        self.read: list[EventRaised] = []

    def begin(self, started: ExecutionStarted) -> None:
        """Record the start of an execution."""
        self.started = started
        self.records.append(started)

    def begin_generation(self, custom_status: str | msgspec.UnsetType | None) -> None:
        """Drop the records of the generation that ends; what it sent is sent, and its custom status stays."""
        self.records = [OrchestratorStarted(timestamp=self.now)]
        self.replaces_history = True
        self.idle_generations += 1
        if custom_status is not msgspec.UNSET:
            self.custom_status = custom_status

    def record(self, event: HistoryEvent) -> None:
        """Record something from outside."""
        self.records.append(event)
        self.idle_generations = 0

    def record_boundary(self) -> None:
        """Say that the code has come to rest here, as between two turns."""
        self.records += [OrchestratorCompleted(timestamp=self.now), OrchestratorStarted(timestamp=self.now)]

    def take_calls(self, execution: Execution) -> None:
        """Record and send what the code has asked for."""
        for action in execution.pending.values():
            self.records.append(action.record(self.now, with_input=execution.options.store_inputs))
            if not action.is_withdrawn:
                self.send(action.send(execution.started, self.now))
        execution.pending.clear()

    def send(self, what: Message | WorkItem) -> None:
        """Put it where it belongs."""
        if isinstance(what, WorkItem):
            self.work.append(what)
        else:
            self.messages.append(what)

    def keep(self, kept: Kept) -> None:
        """An event of this inbox went into the backlog."""
        self.unread[kept.number] = kept.event

    def release(self, kept: Kept) -> None:
        """An event has left the backlog."""
        if self.unread.pop(kept.number, None) is None:
            self.read.append(kept.event)

    def record_stop(self, event: ExecutionTerminated) -> None:
        """Nothing is fed any more."""
        self.stop = event
        self.record(event)

    def find_stop(self) -> ExecutionTerminated | None:
        """The first terminate that is still in the inbox."""
        if not self._has_searched:
            self._has_searched = True
            self._found = next((event for event in self.inbox if isinstance(event, ExecutionTerminated)), None)
        return self._found
