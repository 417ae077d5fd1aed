"""Actions: what orchestrator code asks of the outside, how it is recorded and how it is sent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime
from types import CodeType
from typing import Any, ClassVar

from durable_ext.history import (
    Event,
    EventRaised,
    EventSent,
    ExecutionStarted,
    HistoryEvent,
    ParentInstance,
    SubOrchestrationInstanceCreated,
    TaskScheduled,
    TimerCreated,
    TimerFired,
)
from durable_ext.ids import child_execution_id
from durable_ext.messages import Message, WorkItem


@dataclass(slots=True, kw_only=True)
class Action(ABC):
    """A numbered wish. `site` is where the code asked for it, for error messages.

    One that `is_withdrawn` was cancelled before it was sent: it is recorded, as it has its number, but never sent.
    """

    recorded_as: ClassVar[type[Event]]
    kind: ClassVar[str]

    action_id: int
    name: str = ""
    site: tuple[CodeType, int] | None = None
    is_withdrawn: bool = False

    @abstractmethod
    def record(self, now: datetime, *, with_input: bool) -> HistoryEvent:
        """The row that says this action was taken."""

    @abstractmethod
    def send(self, sender: ExecutionStarted, now: datetime) -> Message | WorkItem:
        """What makes it happen. Sent again, it is the same message."""

    @abstractmethod
    def take_over(self, record: Any) -> None:
        """Become what was recorded, wherever the code makes up something else by now.

        That is what was sent: a child is reached by the id under which it was started. Names need not be taken over:
        they were compared. An input is recorded in some apps only.
        """

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}'" if self.name else self.kind


@dataclass(slots=True, kw_only=True)
class CallActivity(Action):
    """Run an activity."""

    recorded_as = TaskScheduled
    kind = "a call of activity"

    input: str | None
    attempt: int = 1

    def record(self, now: datetime, *, with_input: bool) -> HistoryEvent:
        return TaskScheduled(
            timestamp=now, event_id=self.action_id, name=self.name, input=self.input if with_input else None
        )

    def send(self, sender: ExecutionStarted, now: datetime) -> WorkItem:
        return WorkItem(
            instance_id=sender.instance_id,
            execution_id=sender.execution_id,
            task_id=self.action_id,
            name=self.name,
            orchestrator=sender.name,
            input=self.input,
            attempt=self.attempt,
        )

    def take_over(self, record: TaskScheduled) -> None:
        if record.input is not None:
            self.input = record.input


@dataclass(slots=True, kw_only=True)
class CallSubOrchestrator(Action):
    """Start another orchestration, and hear of its end unless `fire_and_forget`."""

    recorded_as = SubOrchestrationInstanceCreated
    kind = "a call of sub-orchestrator"

    instance_id: str
    input: str | None
    version: str | None = None
    fire_and_forget: bool = False

    def record(self, now: datetime, *, with_input: bool) -> HistoryEvent:
        return SubOrchestrationInstanceCreated(
            timestamp=now,
            event_id=self.action_id,
            name=self.name,
            instance_id=self.instance_id,
            version=self.version,
            input=self.input if with_input else None,
            fire_and_forget=self.fire_and_forget,
        )

    def send(self, sender: ExecutionStarted, now: datetime) -> Message:
        """The child's execution id follows from the call, so that a repeated start is known."""
        execution_id = child_execution_id(sender.execution_id, self.action_id)
        start = ExecutionStarted(
            timestamp=now,
            name=self.name,
            instance_id=self.instance_id,
            execution_id=execution_id,
            start_id=execution_id,
            input=self.input,
            version=self.version,
            parent=None if self.fire_and_forget else self.as_parent(sender),
            tags=sender.tags,
        )
        return Message(instance_id=self.instance_id, execution_id=execution_id, event=start)

    def take_over(self, record: SubOrchestrationInstanceCreated) -> None:
        self.instance_id, self.version = record.instance_id, record.version
        if record.input is not None:
            self.input = record.input

    def as_parent(self, sender: ExecutionStarted) -> ParentInstance:
        """Whom the child answers."""
        return ParentInstance(
            name=sender.name,
            instance_id=sender.instance_id,
            execution_id=sender.execution_id,
            task_id=self.action_id,
        )

    def __str__(self) -> str:
        return f"{_kind_of_start(self.fire_and_forget)} '{self.name}'"


@dataclass(slots=True, kw_only=True)
class CreateTimer(Action):
    """Wake up at a time."""

    recorded_as = TimerCreated
    kind = "a timer"

    fire_at: datetime

    def record(self, now: datetime, *, with_input: bool) -> HistoryEvent:
        return TimerCreated(timestamp=now, event_id=self.action_id, fire_at=self.fire_at)

    def send(self, sender: ExecutionStarted, now: datetime) -> Message:
        fired = TimerFired(timestamp=self.fire_at, timer_id=self.action_id, fire_at=self.fire_at)
        return Message(
            instance_id=sender.instance_id,
            execution_id=sender.execution_id,
            event=fired,
            visible_at=self.fire_at,
        )

    def take_over(self, record: TimerCreated) -> None:
        self.fire_at = record.fire_at


@dataclass(slots=True, kw_only=True)
class SendEvent(Action):
    """Raise an event on another instance."""

    recorded_as = EventSent
    kind = "an event sent named"

    instance_id: str
    input: str | None

    def record(self, now: datetime, *, with_input: bool) -> HistoryEvent:
        return EventSent(
            timestamp=now,
            event_id=self.action_id,
            instance_id=self.instance_id,
            name=self.name,
            input=self.input if with_input else None,
        )

    def send(self, sender: ExecutionStarted, now: datetime) -> Message:
        raised = EventRaised(timestamp=now, name=self.name, input=self.input)
        return Message(instance_id=self.instance_id, event=raised)

    def take_over(self, record: EventSent) -> None:
        self.instance_id = record.instance_id
        if record.input is not None:
            self.input = record.input


def deadline_of(task_id: int) -> int:
    """The number of the timer that bounds a call with a timeout: it is set right after the call is made."""
    return task_id + 1


_KINDS: dict[type[Event], str] = {
    each.recorded_as: each.kind for each in (CallActivity, CallSubOrchestrator, CreateTimer, SendEvent)
}


def _kind_of_start(fire_and_forget: bool) -> str:
    return "a start of orchestration" if fire_and_forget else CallSubOrchestrator.kind


def describe_record(record: Any) -> str:
    """A recorded action in the words of the action."""
    kind = _KINDS[type(record)]
    if isinstance(record, SubOrchestrationInstanceCreated):
        kind = _kind_of_start(record.fire_and_forget)
    return kind if isinstance(record, TimerCreated) else f"{kind} '{record.name}'"
