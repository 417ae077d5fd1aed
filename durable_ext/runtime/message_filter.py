"""The message filter: what gets into a turn. Whatever is dropped is dropped here, for a stated reason.

Everything that can arrive late, twice or for somebody else meets one filter, whether it came through the store or
straight from an activity that ran here. Pure: the worker acts on the answer, and a version-checked commit makes
sure that nothing is dropped on an outdated view.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

import msgspec

from durable_ext.history import (
    ExecutionRewound,
    ExecutionStarted,
    HistoryEvent,
    OrchestrationRuntimeStatus,
    outcome_task_id,
)
from durable_ext.messages import Message, answer_to_parent
from durable_ext.runtime.replies import refuse_rewind, refuse_start
from durable_ext.runtime.state import Arrival, InstanceState

Status = OrchestrationRuntimeStatus

IsOpen: TypeAlias = Callable[[int, HistoryEvent], bool]


class Drop(msgspec.Struct, frozen=True):
    """Something that arrived and that nobody has a use for. `is_loss` if somebody may have counted on it."""

    event: HistoryEvent
    reason: str
    is_loss: bool = False


@dataclass(slots=True)
class Filtered:
    """What to do with what arrived.

    `events` are to be fed, in this order. `begins` is the start among them that opens a new line, whatever history
    there is; `rewinds` says that a failed execution goes on. `deferred` came too early, before their start or
    together with a rewind. `left` stays kept.
    """

    events: list[HistoryEvent] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)
    replies: list[Message] = field(default_factory=list)
    deferred: list[Arrival] = field(default_factory=list)
    left: list[Arrival] = field(default_factory=list)
    begins: ExecutionStarted | None = None
    rewinds: bool = False


def filter_messages(state: InstanceState, arrivals: Sequence[Arrival], is_open: IsOpen, now: datetime) -> Filtered:
    """Decide about each arrival.

    `is_open(task id, outcome)` answers for the live execution, if there is one: whether a task waits for this outcome,
    which would be the first it gets.
    """
    messages = _MessageFilter(state, is_open, now)
    kept: list[Arrival] = []
    for each in _starts_first(arrivals) if len(arrivals) > 1 else arrivals:
        if each.is_kept:
            kept.append(each)
        else:
            messages.take(each)
    if kept:
        messages.take_kept(kept)
    return messages.filtered


def _starts_first(arrivals: Sequence[Arrival]) -> Iterable[Arrival]:
    """Starts before the rest, and among them those of clients: a client was told that its start succeeded."""
    for each in arrivals:
        if type(each.event) is ExecutionStarted:
            return sorted(arrivals, key=_rank)
    return arrivals


def _rank(arrival: Arrival) -> int:
    if not isinstance(arrival.event, ExecutionStarted):
        return 2
    return 0 if arrival.event.parent is None else 1


class _MessageFilter:
    """The instance's state as it moves with each event let through."""

    __slots__ = ("_answered", "_is_open", "_now", "_state", "filtered")

    def __init__(self, state: InstanceState, is_open: IsOpen, now: datetime) -> None:
        self._state, self._is_open, self._now = state, is_open, now
        self._answered: set[int] = set()
        self.filtered = Filtered()

    def take(self, arrival: Arrival) -> None:
        """Decide about one that is not kept."""
        event, started = arrival.event, self._state.started
        if isinstance(event, ExecutionStarted):
            self._start(event)
        elif started is None:
            self._before_the_start(arrival)
        elif isinstance(event, ExecutionRewound):
            self._rewind(event, started)
        elif self._state.has_ended:
            addressed = arrival.execution_id is None  # to whatever runs, by somebody who saw it live
            self._drop(event, "the instance has ended", is_loss=addressed)
        elif arrival.execution_id is not None and arrival.execution_id != started.execution_id:
            self._drop(event, "it is for an execution that is over")
        elif self.filtered.rewinds:
            self.filtered.deferred.append(arrival)  # what is open again is known after the rewinding turn
        else:
            self._pass_if_awaited(event)

    def take_kept(self, kept: Sequence[Arrival]) -> None:
        """Decide about the events left unread before: they are older than all the rest, but for a rewind."""
        filtered = self.filtered
        if filtered.begins is not None:
            for each in kept:
                self._drop(each.event, "it was for the instance that had this id before")
        elif self._state.started is None or self._state.has_ended:
            filtered.left += kept
        else:
            at = 1 if filtered.rewinds else 0
            filtered.events[at:at] = [each.event for each in kept]

    def _pass_if_awaited(self, event: HistoryEvent) -> None:
        task_id = outcome_task_id(event)
        if task_id is not None:
            if task_id in self._answered or not self._is_open(task_id, event):
                self._drop(event, f"task {task_id} is not open")
                return
            self._answered.add(task_id)
        self.filtered.events.append(event)

    def _start(self, start: ExecutionStarted) -> None:
        state = self._state
        if state.started is None:
            self._begin(start)
        elif start.execution_id == state.started.start_id:
            self._drop(start, "this start has been seen")
            self._repeat_answer()
        elif state.has_ended:
            self._begin(start)
        elif start.parent is not None:
            self._drop(start, f"the id belongs to a live instance ({self._status.value}); its parent is told")
            self.filtered.replies.append(refuse_start(start, start.parent, self._status, self._now))
        elif state.status is Status.Pending:  # a client replaced the row, and with it this live execution
            self._begin(start)
        else:
            self._drop(start, f"the id belongs to a live instance ({self._status.value})", is_loss=True)

    def _begin(self, start: ExecutionStarted) -> None:
        self.filtered.begins = start
        self.filtered.events.append(start)
        self._is_open = _no_task_is_open
        self._state = InstanceState(start.instance_id, Status.Running, start)

    def _before_the_start(self, arrival: Arrival) -> None:
        event = arrival.event
        if arrival.execution_id is not None:
            self._drop(event, "it is for an execution that is over")
        elif self._state.has_ended:
            self._drop(event, "the instance has ended", is_loss=True)
        elif self._state.status is not None:
            self.filtered.deferred.append(arrival)
        else:
            self._drop(event, "there is no such instance", is_loss=True)
            if isinstance(event, ExecutionRewound):
                self._refuse_rewind(event)

    def _rewind(self, event: ExecutionRewound, started: ExecutionStarted) -> None:
        if event.parent is not None and event.parent != started.parent:
            self._drop(event, "the instance belongs to another caller by now; the one that rewinds is told")
            self._refuse_rewind(event)
        elif not self._state.has_ended:
            self._drop(event, "there is nothing to rewind: the instance runs")
        elif self._state.status is Status.Failed:
            self._state = msgspec.structs.replace(self._state, status=Status.Running, completed=None)
            self.filtered.rewinds = True
            self.filtered.events.append(event)
        else:
            self._drop(event, f"only failed instances can be rewound, and this one is {self._status.value}")
            self._repeat_answer()

    def _repeat_answer(self) -> None:
        """Tell the parent again how this ended; it may not have heard, and drops what it knows."""
        started, completed = self._state.started, self._state.completed
        if started is not None and completed is not None:
            answer = answer_to_parent(started, completed, self._state.rewinds)
            if answer is not None:
                self.filtered.replies.append(answer)

    def _refuse_rewind(self, event: ExecutionRewound) -> None:
        if event.parent is not None:
            refusal = refuse_rewind(self._state.instance_id, event.parent, event.asked, self._now)
            self.filtered.replies.append(refusal)

    def _drop(self, event: HistoryEvent, reason: str, *, is_loss: bool = False) -> None:
        self.filtered.drops.append(Drop(event, reason, is_loss))

    @property
    def _status(self) -> OrchestrationRuntimeStatus:
        return self._state.status or Status.Running


def _no_task_is_open(task_id: int, outcome: HistoryEvent) -> bool:
    return False
