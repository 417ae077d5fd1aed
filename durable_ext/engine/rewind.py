"""What a rewound history means.

A failed execution is rewound by a marker, never by editing: what precedes the marker is read as if the failures it
names had not happened. Whatever the code did because of them goes with them; what came from outside stays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypeAlias

import msgspec

from durable_ext.engine.actions import CreateTimer, deadline_of
from durable_ext.errors import ActivityTimeout, TaskFailedError
from durable_ext.history import (
    ExecutionCompleted,
    ExecutionRewound,
    ExecutionTerminated,
    HistoryEvent,
    OrchestratorCompleted,
    SubOrchestrationInstanceFailed,
    TaskFailed,
    TimerCreated,
    TimerFired,
)


class Reread(msgspec.Struct, frozen=True):
    """From here to the next marker, events that answer or record nothing any more are skipped.

    New actions are numbered from `next_id`, above every number used so far, so that no late answer to a voided call
    can be taken for the answer to a new one.
    """

    next_id: int


Reading: TypeAlias = HistoryEvent | Reread


def read(history: Sequence[HistoryEvent]) -> Sequence[Reading]:
    """The history as its rewind markers, if any, say it is to be read."""
    if not any(type(event) is ExecutionRewound for event in history):
        return history
    reading: list[Reading] = []
    for event in history:
        if isinstance(event, ExecutionRewound):
            reading = take_back(reading, event)
        else:
            reading.append(event)
    return reading


def take_back(reading: Sequence[Reading], marker: ExecutionRewound) -> list[Reading]:
    """What precedes `marker`, read as the marker says, and the marker."""
    voided = set(marker.task_ids)
    cut = next((at for at, event in enumerate(reading) if _is_voided(event, voided)), None)
    if cut is None:
        # No task is to blame: the code itself failed, and everything but the end stands.
        cut = next(at for at, event in enumerate(reading) if isinstance(event, ExecutionCompleted))
    after = [event for event in reading[cut:] if not isinstance(event, _ENDS) and not _is_voided(event, voided)]
    return [*reading[:cut], Reread(_next_id(reading)), *after, marker]


# The ends of turns after the cut go too: at them the code has asked for other things than it had then.
_ENDS = (ExecutionCompleted, ExecutionTerminated, OrchestratorCompleted, ExecutionRewound, Reread)


def _is_voided(event: Reading, voided: set[int]) -> bool:
    if isinstance(event, TaskFailed | SubOrchestrationInstanceFailed):
        return event.task_scheduled_id in voided
    return isinstance(event, TimerFired) and event.timer_id in voided


def _next_id(reading: Iterable[Reading]) -> int:
    return 1 + max((-1 if isinstance(event, Reread) else event.event_id for event in reading), default=-1)


def restarted(timer: CreateTimer, reading: Iterable[Reading], now: datetime) -> CreateTimer:
    """A timer that runs its whole length once more, from `now` on."""
    record = next(event for event in reading if isinstance(event, TimerCreated) and event.event_id == timer.action_id)
    return dataclasses.replace(timer, fire_at=now + (record.fire_at - record.timestamp))


def culprits(error: BaseException | None) -> tuple[int, ...]:
    """The failed tasks an orchestrator's error came from: itself one, or caused by one, or a group of such.

    A call that timed out comes with its deadline.
    """
    found: set[int] = set()
    _collect(error, found, set())
    return tuple(sorted(found))


def _collect(error: BaseException | None, found: set[int], seen: set[int]) -> None:
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    if isinstance(error, TaskFailedError):
        found.add(error.task_id)
        if isinstance(error, ActivityTimeout):
            found.add(deadline_of(error.task_id))
    elif isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            _collect(each, found, seen)
    else:
        _collect(error.__cause__ or (None if error.__suppress_context__ else error.__context__), found, seen)
