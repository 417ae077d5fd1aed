"""What a rewound history means.

A failed execution is rewound by a marker, never by editing: what precedes the marker is read as if the failures it
names had not happened. Whatever the code did because of them goes with them; what came from outside stays.

A task that a rewind asks for again may still be answered by what was under way before. So answers are numbered
(`history.Outcome`), and one counts only if its number is above those of all answers that were voided.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import msgspec

from durable_ext.engine.actions import Action, CallSubOrchestrator, CreateTimer, deadline_of
from durable_ext.errors import ActivityTimeout, TaskFailedError
from durable_ext.history import (
    ExecutionCompleted,
    ExecutionRewound,
    ExecutionStarted,
    ExecutionTerminated,
    HistoryEvent,
    OrchestratorCompleted,
    SubOrchestrationInstanceFailed,
    TaskFailed,
    TimerCreated,
    TimerFired,
)
from durable_ext.messages import Message, WorkItem


class LenientMarker(msgspec.Struct, frozen=True):
    """From here to the next marker, events that answer or record nothing any more are skipped.

    New actions are numbered from `next_id`, above every number used so far, so that no late answer to a voided call
    can be taken for the answer to a new one.
    """

    next_id: int


RewoundEvent: TypeAlias = HistoryEvent | LenientMarker


class RewoundHistory(msgspec.Struct):
    """A history as its rewind markers, if any, say it is to be read.

    `rewinds` counts the markers. `voided` has the highest number of the voided answers to each task; of a timer it is
    the time for which it was set.
    """

    events: list[RewoundEvent]
    rewinds: int = 0
    voided: dict[int, Any] = {}

    @classmethod
    def of(cls, history: Sequence[HistoryEvent]) -> RewoundHistory:
        """Read a history."""
        if ExecutionRewound not in map(type, history):
            return cls(list(history))
        read = cls([])
        for event in history:
            if isinstance(event, ExecutionRewound):
                read = read.rewound(event)
            else:
                read.events.append(event)
        return read

    def rewound(self, marker: ExecutionRewound) -> RewoundHistory:
        """Read as `marker` says, and with it at the end."""
        failed = set(marker.task_ids)
        voided = dict(self.voided)
        for event in self.events:
            if _is_voided(event, failed):
                voided[_task_of(event)] = answer_number(event)  # above what was voided before, or it had not counted
        return RewoundHistory(_taken_back(self.events, failed, marker), self.rewinds + 1, voided)

    def counts(self, event: HistoryEvent, task_id: int) -> bool:
        """Whether an answer to an open task is newer than those that were voided."""
        return task_id not in self.voided or bool(answer_number(event) > self.voided[task_id])

    # --- what is asked for again ----------------------------------------------------------------------

    def ask_again(
        self, action: Action, sender: ExecutionStarted, reason: str | None, now: datetime
    ) -> Message | WorkItem:
        """What makes a task happen that had no answer when its execution was rewound, or a voided one."""
        task_id = action.action_id
        if isinstance(action, CallSubOrchestrator):
            # Whatever became of the child meanwhile: if it failed it is rewound, if it has ended it answers again.
            asked = self.voided[task_id] + 1 if task_id in self.voided else 0
            event = ExecutionRewound(timestamp=now, reason=reason, parent=action.as_parent(sender), asked=asked)
            return Message(instance_id=action.instance_id, event=event)
        if isinstance(action, CreateTimer) and task_id in self.voided:
            action = self._restarted(action, now)
        sent = action.send(sender, now)
        return msgspec.structs.replace(sent, asked=self.rewinds) if isinstance(sent, WorkItem) else sent

    def _restarted(self, timer: CreateTimer, now: datetime) -> CreateTimer:
        """A timer that runs its whole length once more, from `now` on."""
        records = (event for event in self.events if isinstance(event, TimerCreated))
        record = next(event for event in records if event.event_id == timer.action_id)
        again = now + (record.fire_at - record.timestamp)
        later = self.voided[timer.action_id] + timedelta(microseconds=1)  # or it would pass for the one that was voided
        return CreateTimer(action_id=timer.action_id, fire_at=max(again, later))


def answer_number(event: Any) -> Any:
    """What tells the answers to one task apart: the higher, the later it was asked for."""
    return event.fire_at if isinstance(event, TimerFired) else event.asked


def _taken_back(events: Sequence[RewoundEvent], failed: set[int], marker: ExecutionRewound) -> list[RewoundEvent]:
    cut = next((at for at, event in enumerate(events) if _is_voided(event, failed)), None)
    if cut is None:
        # No task is to blame: the code itself failed, and everything but the end stands.
        cut = next(at for at, event in enumerate(events) if isinstance(event, ExecutionCompleted))
    after = [event for event in events[cut:] if not isinstance(event, _ENDS) and not _is_voided(event, failed)]
    return [*events[:cut], LenientMarker(_next_id(events)), *after, marker]


# The ends of turns after the cut go too: at them the code has asked for other things than it had then.
_ENDS = (ExecutionCompleted, ExecutionTerminated, OrchestratorCompleted, ExecutionRewound, LenientMarker)


def _is_voided(event: RewoundEvent, failed: set[int]) -> bool:
    return isinstance(event, TaskFailed | SubOrchestrationInstanceFailed | TimerFired) and _task_of(event) in failed


def _task_of(event: Any) -> int:
    task_id: int = event.timer_id if isinstance(event, TimerFired) else event.task_scheduled_id
    return task_id


def _next_id(events: Iterable[RewoundEvent]) -> int:
    return 1 + max((-1 if isinstance(event, LenientMarker) else event.event_id for event in events), default=-1)


def failed_tasks(error: BaseException | None) -> tuple[int, ...]:
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
