"""The projection of a history that the status shows, row by row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from durable_ext.client.history_view import show_history
from durable_ext.errors import FailureDetails
from durable_ext.history import (
    EventRaised,
    ExecutionCompleted,
    ExecutionResumed,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
    HistoryEvent,
    OrchestrationRuntimeStatus,
    OrchestratorCompleted,
    OrchestratorStarted,
    ParentInstance,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceCreated,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
    TimerCreated,
    TimerFired,
)

T0 = datetime(2018, 2, 28, 5, 18, 49, 345237, tzinfo=UTC)


def at(seconds: int) -> datetime:
    return T0 + timedelta(seconds=seconds)


STARTED = ExecutionStarted(
    timestamp=T0,
    name="E1_HelloSequence",
    instance_id="abc123",
    execution_id="e1",
    start_id="e1",
    input='{"city":"Tokyo"}',
    version="2",
    parent=ParentInstance(name="Boss", instance_id="b", execution_id="b1", task_id=0),
    tags={"team": "red"},
    python="3.13",
)
CHAIN: list[HistoryEvent] = [
    OrchestratorStarted(timestamp=T0),
    STARTED,
    TaskScheduled(timestamp=at(1), event_id=0, name="E1_SayHello", input='"Tokyo"'),
    OrchestratorCompleted(timestamp=at(1)),
    OrchestratorStarted(timestamp=at(2)),
    TaskCompleted(timestamp=at(2), task_scheduled_id=0, result='"Hello Tokyo!"'),
    ExecutionCompleted(
        timestamp=at(3),
        event_id=1,
        orchestration_status=OrchestrationRuntimeStatus.Completed,
        result='["Hello Tokyo!"]',
    ),
    OrchestratorCompleted(timestamp=at(3)),
]


def test_a_chain_shows_what_happened_and_nothing_of_the_bookkeeping() -> None:
    assert show_history(CHAIN, with_results=True) == [
        {
            "EventType": "ExecutionStarted",
            "FunctionName": "E1_HelloSequence",
            "Input": '{"city":"Tokyo"}',
            "Timestamp": "2018-02-28T05:18:49.345237Z",
        },
        {
            "EventType": "TaskCompleted",
            "FunctionName": "E1_SayHello",
            "ScheduledTime": "2018-02-28T05:18:50.345237Z",
            "Input": '"Tokyo"',
            "Result": "Hello Tokyo!",
            "Timestamp": "2018-02-28T05:18:51.345237Z",
        },
        {
            "EventType": "ExecutionCompleted",
            "OrchestrationStatus": "Completed",
            "FailureDetails": None,
            "Result": ["Hello Tokyo!"],
            "Timestamp": "2018-02-28T05:18:52.345237Z",
        },
    ]


def test_what_was_folded_in_comes_after_the_time() -> None:
    assert [list(item) for item in show_history(CHAIN, with_results=True)] == [
        ["EventType", "Input", "Timestamp", "FunctionName"],
        ["EventType", "Result", "Timestamp", "ScheduledTime", "FunctionName", "Input"],
        ["EventType", "OrchestrationStatus", "Result", "FailureDetails", "Timestamp"],
    ]


def test_results_are_left_out_unless_asked_for() -> None:
    assert not [item for item in show_history(CHAIN) if "Result" in item]


def test_inputs_are_left_out_if_not_wanted() -> None:
    events = [*CHAIN, EventRaised(timestamp=at(4), name="Go", input="1")]
    assert [item for item in show_history(events) if "Input" in item]
    assert not [item for item in show_history(events, with_inputs=False) if "Input" in item]


def test_an_activity_without_outcome_keeps_its_own_row() -> None:
    assert show_history([TaskScheduled(timestamp=T0, event_id=4, name="Slow")]) == [
        {"EventType": "TaskScheduled", "Name": "Slow", "Input": None, "Timestamp": "2018-02-28T05:18:49.345237Z"}
    ]


def test_a_failed_activity_keeps_its_reason() -> None:
    failure = FailureDetails(error_type="ValueError", error_message="no")
    (item,) = show_history(
        [
            TaskScheduled(timestamp=T0, event_id=0, name="Bad"),
            TaskFailed(timestamp=T0, task_scheduled_id=0, reason="why", details="how", failure_details=failure),
        ]
    )
    assert (item["FunctionName"], item["Reason"], item["Details"]) == ("Bad", "why", "how")
    assert item["FailureDetails"]["ErrorMessage"] == "no"
    assert "TaskScheduledId" not in item


def test_children_fold_like_activities_and_ids_of_the_two_kinds_do_not_mix() -> None:
    failure = FailureDetails(error_type="ValueError", error_message="no")
    items = show_history(
        [
            SubOrchestrationInstanceCreated(timestamp=T0, event_id=0, name="Left", instance_id="l", version="1"),
            SubOrchestrationInstanceCreated(timestamp=T0, event_id=1, name="Right", instance_id="r"),
            SubOrchestrationInstanceCreated(timestamp=T0, event_id=2, name="Open", instance_id="o", version="1"),
            SubOrchestrationInstanceCompleted(timestamp=at(1), task_scheduled_id=0, result="1"),
            SubOrchestrationInstanceFailed(timestamp=at(1), task_scheduled_id=1, reason="x", failure_details=failure),
            TaskCompleted(timestamp=at(1), task_scheduled_id=2),
        ]
    )
    assert [(item["EventType"], item.get("FunctionName") or item.get("Name")) for item in items] == [
        ("SubOrchestrationInstanceCreated", "Open"),
        ("SubOrchestrationInstanceCompleted", "Left"),
        ("SubOrchestrationInstanceFailed", "Right"),
        ("TaskCompleted", None),
    ]
    assert not [item for item in items if "Version" in item]
    assert [item.get("InstanceId") for item in items] == ["o", "l", "r", None]


def test_timers_show_when_they_fire_but_not_their_ids() -> None:
    items = show_history(
        [
            TimerCreated(timestamp=T0, event_id=0, fire_at=at(60)),
            TimerFired(timestamp=at(61), timer_id=0, fire_at=at(60)),
        ]
    )
    assert [item["FireAt"] for item in items] == ["2018-02-28T05:19:49.345237Z"] * 2
    assert not [item for item in items if "TimerId" in item or "EventId" in item]


def test_a_call_repeated_after_a_rewind_shows_both_outcomes() -> None:
    failure = FailureDetails(error_type="ValueError", error_message="no")
    items = show_history(
        [
            TaskScheduled(timestamp=T0, event_id=0, name="Flaky"),
            TaskFailed(timestamp=at(1), task_scheduled_id=0, reason="x", failure_details=failure),
            TaskCompleted(timestamp=at(2), task_scheduled_id=0, result="1"),
        ]
    )
    assert [(item["EventType"], item["FunctionName"]) for item in items] == [
        ("TaskFailed", "Flaky"),
        ("TaskCompleted", "Flaky"),
    ]


def test_reasons_are_shown() -> None:
    items = show_history([ExecutionSuspended(timestamp=T0, reason="lunch"), ExecutionResumed(timestamp=T0)])
    assert [item["Reason"] for item in items] == ["lunch", None]


def test_the_reason_of_a_termination_is_its_input() -> None:
    events = [ExecutionTerminated(timestamp=T0, reason="enough"), ExecutionTerminated(timestamp=T0)]
    items = show_history(events)
    assert [item["Input"] for item in items] == ["enough", None]
    assert not [item for item in items if "Reason" in item]
    assert not [item for item in show_history(events, with_inputs=False) if "Input" in item]


def test_keys_are_there_even_if_nothing_is_in_them() -> None:
    events = [
        ExecutionStarted(timestamp=T0, name="Hello", instance_id="a", execution_id="e", start_id="e"),
        EventRaised(timestamp=T0, name="Go"),
        TaskScheduled(timestamp=T0, event_id=0, name="Act"),
        TaskCompleted(timestamp=T0, task_scheduled_id=0),
        SubOrchestrationInstanceCreated(timestamp=T0, event_id=1, name="Open", instance_id="o"),
    ]
    assert [item["Input"] for item in show_history(events)] == [None] * 4
