"""What a turn records: the rows, their order, and their columns."""

from __future__ import annotations

import sys
import typing
from datetime import timedelta
from typing import Any

import pytest
from engine_hub import EPOCH, Hub, Status, play

from durable_ext.engine.feeding import ARRIVALS, FEEDERS, Feeder
from durable_ext.engine.rewind import LenientMarker
from durable_ext.engine.turn import EngineOptions
from durable_ext.history import (
    EventRaised,
    ExecutionCompleted,
    ExecutionStarted,
    HistoryEvent,
    OrchestratorCompleted,
    OrchestratorStarted,
    Outcome,
    TaskCompleted,
    TaskScheduled,
)

SIXTEEN = [
    "OrchestratorStarted",
    "ExecutionStarted",
    "TaskScheduled",
    "OrchestratorCompleted",
    "OrchestratorStarted",
    "TaskCompleted",
    "TaskScheduled",
    "OrchestratorCompleted",
    "OrchestratorStarted",
    "TaskCompleted",
    "TaskScheduled",
    "OrchestratorCompleted",
    "OrchestratorStarted",
    "TaskCompleted",
    "ExecutionCompleted",
    "OrchestratorCompleted",
]


def hello_sequence(context: Any) -> Any:
    said = []
    for city in ("Tokyo", "Seattle", "London"):
        greeting = yield context.call_activity("E1_SayHello", city)
        said += [greeting]
    return said


@pytest.fixture
def sequence(form: Any) -> Any:
    hub = Hub(activities={"E1_SayHello": lambda city: f"Hello {city}!"}, durations={"E1_SayHello": 2})
    instance = hub.start(form(hello_sequence))
    hub.now += timedelta(seconds=3)  # the worker takes the start up later than it was sent
    hub.run()
    return instance


def test_three_activities_in_sequence_are_sixteen_rows(sequence: Any) -> None:
    assert sequence.kinds == SIXTEEN
    assert sequence.output == ["Hello Tokyo!", "Hello Seattle!", "Hello London!"]


def test_actions_are_numbered_from_zero_and_the_end_takes_a_number_too(sequence: Any) -> None:
    numbers = [event.event_id for event in sequence.history]
    assert numbers == [-1, -1, 0, -1, -1, -1, 1, -1, -1, -1, 2, -1, -1, -1, 3, -1]
    assert [event.task_scheduled_id for event in sequence.recorded(TaskCompleted)] == [0, 1, 2]


def test_a_start_and_an_outcome_precede_the_turn_they_are_read_in(sequence: Any) -> None:
    first, started = sequence.history[:2]
    assert started.timestamp == EPOCH
    assert first.timestamp == EPOCH + timedelta(seconds=3)
    for turn in sequence.turns[1:]:
        opened, outcome = turn.events[:2]
        assert outcome.timestamp < opened.timestamp


def test_what_a_turn_produces_has_the_time_of_the_turn(sequence: Any) -> None:
    for turn in sequence.turns:
        opened, *_, closed = turn.events
        assert isinstance(opened, OrchestratorStarted)
        assert isinstance(closed, OrchestratorCompleted)
        own = [event for event in turn.events if isinstance(event, TaskScheduled | ExecutionCompleted)]
        assert {event.timestamp for event in [*own, closed]} == {opened.timestamp}


def test_payloads_are_json_text(sequence: Any) -> None:
    assert sequence.recorded(ExecutionStarted)[0].input == "null"
    assert [event.result for event in sequence.recorded(TaskCompleted)] == [
        '"Hello Tokyo!"',
        '"Hello Seattle!"',
        '"Hello London!"',
    ]
    assert sequence.end.result == '["Hello Tokyo!","Hello Seattle!","Hello London!"]'


def test_only_the_last_row_but_one_has_a_status(sequence: Any) -> None:
    with_status = [at for at, event in enumerate(sequence.history) if hasattr(event, "orchestration_status")]
    assert with_status == [14]
    assert sequence.end.orchestration_status is Status.Completed


@pytest.mark.parametrize(("stored", "expected"), [(False, None), (True, '"Tokyo"')])
def test_inputs_are_recorded_only_if_the_host_says_so(stored: bool, expected: str | None) -> None:
    instance = play(
        hello_sequence,
        activities={"E1_SayHello": str},
        options=EngineOptions(store_inputs=stored),
    )
    assert instance.recorded(TaskScheduled)[0].input == expected
    assert instance.work[0].input == '"Tokyo"'  # the activity gets it either way


def test_the_start_records_the_python_it_ran_on(sequence: Any) -> None:
    assert sequence.recorded(ExecutionStarted)[0].python == f"{sys.version_info.major}.{sys.version_info.minor}"


def test_the_status_changes_with_the_first_turn_and_the_last(sequence: Any) -> None:
    assert [turn.status_changed for turn in sequence.turns] == [True, False, False, True]
    assert [turn.started is not None for turn in sequence.turns] == [True, False, False, False]


def test_the_turn_clock_never_goes_back() -> None:
    hub = Hub(activities={"E1_SayHello": str})
    instance = hub.start(hello_sequence)
    session = instance.session
    start = hub._due[0][2].event
    session.advance(EPOCH, [start])
    done = TaskCompleted(timestamp=EPOCH, task_scheduled_id=0, result="1")
    turn = session.advance(EPOCH - timedelta(seconds=5), [done])
    assert {event.timestamp for event in turn.events} == {EPOCH}


def test_a_turn_that_brings_no_news_records_only_itself() -> None:
    hub = Hub(activities={"E1_SayHello": str})
    instance = hub.start(hello_sequence)
    hub.run(until=-1)
    instance.advance([hub._due[0][2].event])
    turn = instance.advance([TaskCompleted(timestamp=EPOCH, task_scheduled_id=7, result="1")])
    assert [type(event).__name__ for event in turn.events] == ["OrchestratorStarted", "OrchestratorCompleted"]
    assert not turn.status_changed
    assert instance.execution_id == "e0"


def test_every_kind_of_event_has_an_entry_in_the_table_of_what_it_does() -> None:
    assert set(FEEDERS) == {*typing.get_args(HistoryEvent), LenientMarker}


def test_what_arrives_is_every_outcome_and_external_events() -> None:
    assert set(ARRIVALS) == {*typing.get_args(Outcome), EventRaised}
    assert {kind for kind, feeder in FEEDERS.items() if feeder is Feeder._arrived} == set(ARRIVALS)


def test_a_session_tells_what_it_runs(form: Any) -> None:
    instance = play(form(hello_sequence), activities={"E1_SayHello": str})
    fresh = instance.hub.new_session(instance.name)
    assert (fresh.execution_id, fresh.name) == (None, None)
    assert fresh.parent is None
    assert fresh.runtime_status is Status.Pending
    assert not fresh.is_finished
    fresh.replay(instance.history)
    assert fresh.execution_id == "e0"
    assert fresh.name == "hello_sequence"
    assert fresh.is_finished
