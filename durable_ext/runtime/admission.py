"""Which messages get into a turn. Whatever is dropped is dropped here, for a stated reason.

Everything that can arrive late, twice or for somebody else meets one filter, whether it came through the store or
straight from an activity that ran here. Pure: the worker acts on the answer, and a version-checked commit makes
sure that nothing is dropped on an outdated view.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from durable_ext.history import (
    ExecutionCompleted,
    ExecutionRewound,
    ExecutionStarted,
    HistoryEvent,
    OrchestrationRuntimeStatus,
    count_rewinds,
    outcome_task_id,
)
from durable_ext.messages import Message, answer_to_parent
from durable_ext.runtime.replies import refuse_rewind, refuse_start
from durable_ext.storage.contract import Delivery, Snapshot

Status = OrchestrationRuntimeStatus


@dataclass(frozen=True, slots=True)
class Standing:
    """What is committed of an instance, as far as it decides what may come next.

    `started` is None while no execution has begun. `completed` is how the execution ended, if it did.
    """

    instance_id: str
    status: OrchestrationRuntimeStatus | None = None
    started: ExecutionStarted | None = None
    completed: ExecutionCompleted | None = None
    rewinds: int = 0

    @classmethod
    def of(cls, snapshot: Snapshot) -> Standing:
        """The standing of an instance as its store has it."""
        started = next((each for each in snapshot.history if isinstance(each, ExecutionStarted)), None)
        ended = None
        if snapshot.status is not None and snapshot.status.is_terminal:
            ended = next((each for each in reversed(snapshot.history) if isinstance(each, ExecutionCompleted)), None)
        return cls(snapshot.instance_id, snapshot.status, started, ended, count_rewinds(snapshot.history))

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


@dataclass(frozen=True, slots=True)
class Drop:
    """A message nobody has a use for. `is_loss` if somebody may have counted on it."""

    delivery: Delivery
    reason: str
    is_loss: bool = False


@dataclass(slots=True)
class Admission:
    """What to do with a batch of deliveries.

    `events` are to be fed, in this order. `begins` is the start among them that opens a new line, whatever history
    there is; `rewinds` says that a failed execution goes on. `deferred` came too early, before their start or
    together with a rewind.
    """

    events: list[HistoryEvent] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)
    replies: list[Message] = field(default_factory=list)
    deferred: list[Delivery] = field(default_factory=list)
    begins: ExecutionStarted | None = None
    rewinds: bool = False


def admit(
    standing: Standing, deliveries: Sequence[Delivery], awaits: Callable[[HistoryEvent], bool], now: datetime
) -> Admission:
    """Decide about each delivery.

    `awaits` answers for the live execution, if there is one: whether an event is the first outcome of an open task
    (True for what is no outcome).
    """
    gate = _Gate(standing, awaits, now)
    for each in _starts_first(deliveries):
        gate.pass_judgement(each)
    return gate.admission


def _starts_first(deliveries: Sequence[Delivery]) -> Iterable[Delivery]:
    """Starts before the rest, and among them those of clients: a client was told that its start succeeded."""
    if not any(type(each.event) is ExecutionStarted for each in deliveries):
        return deliveries
    return sorted(deliveries, key=_rank)


def _rank(delivery: Delivery) -> int:
    if not isinstance(delivery.event, ExecutionStarted):
        return 2
    return 0 if delivery.event.parent is None else 1


class _Gate:
    """The instance's standing as it moves with each event let through."""

    __slots__ = ("_answered", "_awaits", "_now", "_standing", "admission")

    def __init__(self, standing: Standing, awaits: Callable[[HistoryEvent], bool], now: datetime) -> None:
        self._standing, self._awaits, self._now = standing, awaits, now
        self._answered: set[int] = set()
        self.admission = Admission()

    def pass_judgement(self, delivery: Delivery) -> None:
        event, started = delivery.event, self._standing.started
        if isinstance(event, ExecutionStarted):
            self._start(delivery, event)
        elif started is None:
            self._before_the_start(delivery)
        elif isinstance(event, ExecutionRewound):
            self._rewind(delivery, event, started)
        elif self._standing.has_ended:
            addressed = delivery.execution_id is None  # to whatever runs, by somebody who saw it live
            self._drop(delivery, "the instance has ended", is_loss=addressed)
        elif delivery.execution_id is not None and delivery.execution_id != started.execution_id:
            self._drop(delivery, "it is for an execution that is over")
        elif self.admission.rewinds:
            self.admission.deferred.append(delivery)  # what is open again is known after the rewinding turn
        else:
            self._admit_if_awaited(delivery)

    def _admit_if_awaited(self, delivery: Delivery) -> None:
        task_id = outcome_task_id(delivery.event)
        if task_id is not None:
            if task_id in self._answered or not self._awaits(delivery.event):
                self._drop(delivery, f"task {task_id} is not open")
                return
            self._answered.add(task_id)
        self.admission.events.append(delivery.event)

    def _start(self, delivery: Delivery, start: ExecutionStarted) -> None:
        standing = self._standing
        if standing.started is None:
            self._begin(start)
        elif start.execution_id == standing.started.start_id:
            self._drop(delivery, "this start has been seen")
            self._repeat_answer()
        elif standing.has_ended:
            self._begin(start)
        elif start.parent is not None:
            self._drop(delivery, f"the id belongs to a live instance ({self._status.value}); its parent is told")
            self.admission.replies.append(refuse_start(start, start.parent, self._status, self._now))
        elif standing.status is Status.Pending:  # a client replaced the row, and with it this live execution
            self._begin(start)
        else:
            self._drop(delivery, f"the id belongs to a live instance ({self._status.value})", is_loss=True)

    def _begin(self, start: ExecutionStarted) -> None:
        self.admission.begins = start
        self.admission.events.append(start)
        self._awaits = _no_task_is_open
        self._standing = Standing(start.instance_id, Status.Running, start)

    def _before_the_start(self, delivery: Delivery) -> None:
        if delivery.execution_id is not None:
            self._drop(delivery, "it is for an execution that is over")
        elif self._standing.has_ended:
            self._drop(delivery, "the instance has ended", is_loss=True)
        elif self._standing.status is not None:
            self.admission.deferred.append(delivery)
        else:
            self._drop(delivery, "there is no such instance", is_loss=True)
            if isinstance(delivery.event, ExecutionRewound):
                self._refuse_rewind(delivery.event)

    def _rewind(self, delivery: Delivery, event: ExecutionRewound, started: ExecutionStarted) -> None:
        if event.parent is not None and event.parent != started.parent:
            self._drop(delivery, "the instance belongs to another caller by now; the one that rewinds is told")
            self._refuse_rewind(event)
        elif not self._standing.has_ended:
            self._drop(delivery, "there is nothing to rewind: the instance runs")
        elif self._standing.status is Status.Failed:
            self._standing = replace(self._standing, status=Status.Running, completed=None)
            self.admission.rewinds = True
            self.admission.events.append(event)
        else:
            self._drop(delivery, f"only failed instances can be rewound, and this one is {self._status.value}")
            self._repeat_answer()

    def _repeat_answer(self) -> None:
        """Tell the parent again how this ended; it may not have heard, and drops what it knows."""
        started, completed = self._standing.started, self._standing.completed
        if started is not None and completed is not None:
            answer = answer_to_parent(started, completed, self._standing.rewinds)
            if answer is not None:
                self.admission.replies.append(answer)

    def _refuse_rewind(self, event: ExecutionRewound) -> None:
        if event.parent is not None:
            refusal = refuse_rewind(self._standing.instance_id, event.parent, event.asked, self._now)
            self.admission.replies.append(refusal)

    def _drop(self, delivery: Delivery, reason: str, *, is_loss: bool = False) -> None:
        self.admission.drops.append(Drop(delivery, reason, is_loss))

    @property
    def _status(self) -> OrchestrationRuntimeStatus:
        return self._standing.status or Status.Running


def _no_task_is_open(event: HistoryEvent) -> bool:
    return outcome_task_id(event) is None
