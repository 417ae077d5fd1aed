"""The history as clients are shown it: one item per thing that happened, results decoded, bookkeeping left out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from durable_ext.client.status import json_or_text
from durable_ext.history import (
    EventRaised,
    ExecutionCompleted,
    ExecutionResumed,
    ExecutionRewound,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
    HistoryEvent,
    OrchestratorCompleted,
    OrchestratorStarted,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceCreated,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
    TimerFired,
)

# What an item never shows, by kind of event. Versions, event ids and task ids are shown of no event.
_EVERYWHERE = ("EventId", "TaskScheduledId", "Version", "Asked")
_HIDDEN: dict[type, tuple[str, ...]] = {
    ExecutionStarted: ("InstanceId", "ExecutionId", "StartId", "Parent", "Tags", "Python", "Rewinds"),
    TimerFired: ("TimerId",),
}
_SKIPPED = (OrchestratorStarted, OrchestratorCompleted)
_CALL_OF: dict[type, type] = {
    TaskCompleted: TaskScheduled,
    TaskFailed: TaskScheduled,
    SubOrchestrationInstanceCompleted: SubOrchestrationInstanceCreated,
    SubOrchestrationInstanceFailed: SubOrchestrationInstanceCreated,
}
# Keys that an item has even if there is nothing in them, so that clients can index without asking.
_ALWAYS: dict[type, tuple[str, ...]] = {
    ExecutionStarted: ("Input",),
    ExecutionSuspended: ("Reason",),
    ExecutionResumed: ("Reason",),
    ExecutionRewound: ("Reason",),
    ExecutionTerminated: ("Input",),
    ExecutionCompleted: ("Result", "FailureDetails"),
    EventRaised: ("Input",),
    TaskScheduled: ("Input",),
    TaskCompleted: ("Result",),
    TaskFailed: ("FailureDetails",),
    SubOrchestrationInstanceCreated: ("Input",),
    SubOrchestrationInstanceCompleted: ("Result",),
    SubOrchestrationInstanceFailed: ("FailureDetails",),
}
_WITH_RESULT = (TaskCompleted, SubOrchestrationInstanceCompleted, ExecutionCompleted)


def show_history(
    history: Iterable[HistoryEvent], *, with_results: bool = False, with_inputs: bool = True
) -> list[dict[str, Any]]:
    """The `historyEvents` of the management API.

    The row of a call is folded into the row of its outcome; a call without outcome keeps its own. `Result` is a JSON
    value, `Input` the JSON text that is stored; both are left out unless asked for.
    """
    events = list(history)
    calls = {
        (type(event), event.event_id): event
        for event in events
        if isinstance(event, (TaskScheduled, SubOrchestrationInstanceCreated))
    }
    call_of = {position: call for position, event in enumerate(events) if (call := _answered(event, calls))}
    folded = {id(call) for call in call_of.values()}
    return [
        _item(event, call_of.get(position), with_results, with_inputs)
        for position, event in enumerate(events)
        if not isinstance(event, _SKIPPED) and id(event) not in folded
    ]


_Call = TaskScheduled | SubOrchestrationInstanceCreated


def _answered(event: HistoryEvent, calls: dict[tuple[type, int], _Call]) -> _Call | None:
    kind = _CALL_OF.get(type(event))
    return None if kind is None else calls.get((kind, getattr(event, "task_scheduled_id", -1)))


def _item(event: HistoryEvent, call: _Call | None, with_results: bool, with_inputs: bool) -> dict[str, Any]:
    item = _own(event)
    if call is not None:
        item["ScheduledTime"] = msgspec.to_builtins(call.timestamp)
        item["FunctionName"] = call.name
        if isinstance(call, SubOrchestrationInstanceCreated):
            item["InstanceId"] = call.instance_id
        item["Input"] = call.input
    if not with_inputs:
        item.pop("Input", None)
    if not with_results:
        item.pop("Result", None)
    elif isinstance(event, _WITH_RESULT):
        item["Result"] = json_or_text(event.result)
    return item


def _own(event: HistoryEvent) -> dict[str, Any]:
    """What the event itself has to show, its time last."""
    item: dict[str, Any] = msgspec.to_builtins(event)
    timestamp = item.pop("Timestamp")
    for key in (*_EVERYWHERE, *_HIDDEN.get(type(event), ())):
        item.pop(key, None)
    if isinstance(event, ExecutionTerminated):  # here the reason is the input, and declined with it
        item["Input"] = item.pop("Reason", None)
    for key in _ALWAYS.get(type(event), ()):
        item.setdefault(key, None)
    item["Timestamp"] = timestamp
    if isinstance(event, ExecutionStarted):
        item["FunctionName"] = item.pop("Name")
    return item
