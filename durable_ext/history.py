"""The history: what happened to one execution of an orchestration, as an append-only list of events.

Names, fields and numbers are those of the Durable Task history table, so that the records can be stored in its
columns and shown by its tools. Every payload (`input`, `result`, ...) is JSON text; `None` means there is none.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TypeAlias

import msgspec

from durable_ext.errors import FailureDetails


class OrchestrationRuntimeStatus(enum.Enum):
    """Where an instance is in its life."""

    Running = "Running"
    Completed = "Completed"
    ContinuedAsNew = "ContinuedAsNew"
    Failed = "Failed"
    Canceled = "Canceled"
    Terminated = "Terminated"
    Pending = "Pending"
    Suspended = "Suspended"

    is_terminal: bool
    """Whether the instance has ended; only restart, rewind (if Failed) and purge still apply."""


_S = OrchestrationRuntimeStatus
TERMINAL = frozenset({_S.Completed, _S.Failed, _S.Terminated, _S.Canceled})
for _each in OrchestrationRuntimeStatus:
    _each.is_terminal = _each in TERMINAL  # asked several times a turn, and the hash of an enum's member is slow
LIVE = frozenset(OrchestrationRuntimeStatus) - TERMINAL

NO_TAGS: Mapping[str, str] = {}


class Event(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="EventType", tag=True, rename="pascal"
):
    """One row of history. `event_id` numbers the actions of an execution from 0; everything else has -1."""

    timestamp: datetime
    event_id: int = -1


class OrchestratorStarted(Event, frozen=True, kw_only=True):
    """A turn begins. Its timestamp is the orchestrator's current time until the next one."""


class OrchestratorCompleted(Event, frozen=True, kw_only=True):
    """A turn ends: the orchestrator awaits, or is done. Everything before this is committed."""


class ParentInstance(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    """Whom a sub-orchestration answers: the call `task_id` of one execution."""

    name: str
    instance_id: str
    execution_id: str
    task_id: int


class ExecutionStarted(Event, frozen=True, kw_only=True):
    """An execution begins. The timestamp is the starter's, so it can precede the turn's.

    `start_id` is the execution id that began this line; it survives continue-as-new. `python` is the minor
    version the first turn ran on, because asyncio orders calls differently between them. `rewinds` is how often
    earlier generations of the line were rewound.
    """

    name: str
    instance_id: str
    execution_id: str
    start_id: str
    input: str | None = None
    version: str | None = None
    parent: ParentInstance | None = None
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)
    python: str | None = None
    rewinds: int = 0


class ExecutionCompleted(Event, frozen=True, kw_only=True):
    """The execution is over: `result` is the output, the failure's text or the reason of termination."""

    orchestration_status: OrchestrationRuntimeStatus
    result: str | None = None
    failure_details: FailureDetails | None = None


class ExecutionTerminated(Event, frozen=True, kw_only=True):
    """Somebody asked to stop the execution. `recurse` asks the same of its open sub-orchestrations."""

    reason: str | None = None
    recurse: bool = False


class ExecutionSuspended(Event, frozen=True, kw_only=True):
    """The execution is paused: what arrives is recorded, and fed to the code after the resume."""

    reason: str | None = None


class ExecutionResumed(Event, frozen=True, kw_only=True):
    """The pause is over."""

    reason: str | None = None


class ExecutionRewound(Event, frozen=True, kw_only=True):
    """A failed execution runs again. The failures of the tasks in `task_ids` no longer count; the tasks run anew.

    `parent` is set where a rewound parent passes the request on to a sub-orchestration; `asked` is then the number
    that a refusal must carry to be heard.
    """

    reason: str | None = None
    task_ids: tuple[int, ...] = ()
    parent: ParentInstance | None = None
    asked: int = 0


class TaskScheduled(Event, frozen=True, kw_only=True):
    """An activity was called. `input` is stored only if host.json says so."""

    name: str
    input: str | None = None


class TaskCompleted(Event, frozen=True, kw_only=True):
    """An activity returned."""

    task_scheduled_id: int
    result: str | None = None
    asked: int = 0


class TaskFailed(Event, frozen=True, kw_only=True):
    """An activity raised, or could not be run."""

    task_scheduled_id: int
    reason: str
    details: str | None = None
    failure_details: FailureDetails
    asked: int = 0


class SubOrchestrationInstanceCreated(Event, frozen=True, kw_only=True):
    """A sub-orchestration was called, or started without waiting for it (`fire_and_forget`)."""

    name: str
    instance_id: str
    version: str | None = None
    input: str | None = None
    fire_and_forget: bool = False


class SubOrchestrationInstanceCompleted(Event, frozen=True, kw_only=True):
    """A sub-orchestration returned."""

    task_scheduled_id: int
    result: str | None = None
    asked: int = 0


class SubOrchestrationInstanceFailed(Event, frozen=True, kw_only=True):
    """A sub-orchestration failed, was terminated, or could not be started."""

    task_scheduled_id: int
    reason: str
    details: str | None = None
    failure_details: FailureDetails
    asked: int = 0


class TimerCreated(Event, frozen=True, kw_only=True):
    """A durable timer was set."""

    fire_at: datetime


class TimerFired(Event, frozen=True, kw_only=True):
    """A timer came due. `timer_id` names the TimerCreated it answers."""

    timer_id: int
    fire_at: datetime


class EventSent(Event, frozen=True, kw_only=True):
    """The orchestrator sent an event to another instance."""

    instance_id: str
    name: str
    input: str | None = None


class EventRaised(Event, frozen=True, kw_only=True):
    """An external event arrived."""

    name: str
    input: str | None = None


class GenericEvent(Event, frozen=True, kw_only=True):
    """A wake-up without meaning of its own."""

    data: str | None = None


HistoryEvent: TypeAlias = (
    OrchestratorStarted
    | OrchestratorCompleted
    | ExecutionStarted
    | ExecutionCompleted
    | ExecutionTerminated
    | ExecutionSuspended
    | ExecutionResumed
    | ExecutionRewound
    | TaskScheduled
    | TaskCompleted
    | TaskFailed
    | SubOrchestrationInstanceCreated
    | SubOrchestrationInstanceCompleted
    | SubOrchestrationInstanceFailed
    | TimerCreated
    | TimerFired
    | EventSent
    | EventRaised
    | GenericEvent
)

Outcome: TypeAlias = (
    TaskCompleted | TaskFailed | SubOrchestrationInstanceCompleted | SubOrchestrationInstanceFailed | TimerFired
)
"""Events that answer one numbered action of one execution.

`asked` tells the answers to one call apart when a rewind has asked for it again: of an activity it is
`messages.WorkItem.asked`, of a sub-orchestration `count_rewinds` of its own history. An answer counts only if
its number is above those of all answers that a rewind has voided.
"""

_encoder = msgspec.json.Encoder()
_event_decoder = msgspec.json.Decoder(HistoryEvent)
_events_decoder = msgspec.json.Decoder(list[HistoryEvent])


def encode_event(event: Event) -> bytes:
    """One event as a JSON object."""
    return _encoder.encode(event)


def decode_event(data: bytes | str) -> HistoryEvent:
    """The inverse of `encode_event`. Raises `msgspec.DecodeError` on anything else."""
    event: HistoryEvent = _event_decoder.decode(data)
    return event


def encode_events(events: list[HistoryEvent]) -> bytes:
    """Events as a JSON array."""
    return _encoder.encode(events)


def decode_events(data: bytes | str) -> list[HistoryEvent]:
    """The inverse of `encode_events`. Raises `msgspec.DecodeError` on anything else."""
    return _events_decoder.decode(data)


def count_rewinds(history: Iterable[Event]) -> int:
    """How often a line of generations was rewound, as the history of its current execution says."""
    rewinds = 0
    for event in history:
        if isinstance(event, ExecutionStarted):
            rewinds += event.rewinds
        elif isinstance(event, ExecutionRewound):
            rewinds += 1
    return rewinds


def outcome_task_id(event: Event) -> int | None:
    """The action an event answers, or None if it answers none."""
    if isinstance(event, TimerFired):
        return event.timer_id
    return getattr(event, "task_scheduled_id", None)
