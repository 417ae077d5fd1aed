"""Continue-as-new: a new generation with a new input and an empty history."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from engine_hub import ACTIVITIES, EPOCH, Hub, Status, play

from durable_ext.engine import orchestration
from durable_ext.history import (
    EventRaised,
    ExecutionCompleted,
    ExecutionStarted,
    OrchestratorStarted,
    TaskCompleted,
    TaskScheduled,
)
from durable_ext.ids import next_execution_id
from durable_ext.messages import Message


def countdown(context: Any) -> Any:
    left = context.get_input()
    if left == 3:
        context.set_custom_status("began")
    yield context.create_timer(timedelta(seconds=1))
    if left:
        context.continue_as_new(left - 1)
        return "ignored"
    return "lift-off"


def test_continue_as_new_begins_again_with_a_new_input_and_an_empty_history(form: Any) -> None:
    instance = play(form(countdown), 3)
    assert instance.output == "lift-off"
    assert len(instance.generations) == 3
    assert [turn.replaces_history for turn in instance.turns] == [False, True, True, True, False]
    (started,) = instance.recorded(ExecutionStarted)
    assert started.input == "0"


def test_each_generation_has_an_execution_id_that_follows_from_the_last(form: Any) -> None:
    instance = play(form(countdown), 3)
    expected = "e0"
    for generation in [*instance.generations, instance.history]:
        started = next(event for event in generation if isinstance(event, ExecutionStarted))
        assert started.execution_id == expected
        assert started.start_id == "e0"
        expected = next_execution_id(expected)


def test_the_custom_status_stays_until_it_is_set_again(form: Any) -> None:
    instance = play(form(countdown), 1)
    assert all(turn.custom_status is not None for turn in instance.turns)
    instance = play(form(countdown), 3)
    assert instance.turns[1].custom_status == '"began"'  # the turn that ends the generation that set it


def test_a_new_generation_starts_a_new_turn_in_the_history(form: Any) -> None:
    instance = play(form(countdown), 1)
    assert instance.kinds == [
        "OrchestratorStarted",
        "ExecutionStarted",
        "TimerCreated",
        "OrchestratorCompleted",
        "OrchestratorStarted",
        "TimerFired",
        "ExecutionCompleted",
        "OrchestratorCompleted",
    ]
    assert instance.history[1].timestamp == instance.history[0].timestamp == EPOCH + timedelta(seconds=1)


def test_what_a_generation_asked_for_goes_out_though_its_history_goes(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        round_ = context.get_input()
        context.call_activity("never", round_)
        if round_ < 2:
            context.continue_as_new(round_ + 1)
            return
        yield context.call_activity("echo", "done")

    instance = play(form(orchestrator), 0)
    assert [(item.input, item.execution_id == "e0") for item in instance.turns[0].work] == [
        ("0", True),
        ("1", False),
        ("2", False),
        ('"done"', False),
    ]
    assert [event.event_id for event in instance.recorded(TaskScheduled)] == [0, 1]


def test_calls_open_when_a_generation_ends_are_forgotten(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        if context.get_input() == "second":
            return (yield context.call_activity("slow", "second's"))
        context.call_activity("slow", "first's")
        yield context.create_timer(timedelta(seconds=1))
        context.continue_as_new("second")

    instance = play(form(orchestrator), "first", activities={"slow": lambda value: value}, durations={"slow": 5})
    assert instance.output == "second's"
    assert len(instance.hub.dropped) == 1


def test_an_outcome_behind_the_end_of_a_generation_is_not_taken_for_the_next(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        call = context.call_activity("never")
        if context.get_input() is None:
            yield context.wait_for_external_event("go")
            context.continue_as_new("second")
            return None
        return (yield call)

    played = Hub(activities=ACTIVITIES)
    instance = played.start(form(orchestrator))
    played.run()
    outcome = TaskCompleted(timestamp=EPOCH, task_scheduled_id=0, result='"of the first"')
    turn = instance.advance([EventRaised(timestamp=EPOCH, name="go"), outcome])
    assert turn.replaces_history
    assert outcome not in turn.events
    assert turn.runtime_status is Status.Running


def test_an_error_after_continue_as_new_fails_the_instance(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        context.continue_as_new(1)
        yield context.create_timer(timedelta(seconds=1))
        raise ValueError("after all")

    instance = play(form(orchestrator))
    assert instance.status is Status.Failed


def test_the_last_continue_as_new_counts(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        if context.get_input():
            return context.get_input()
        assert not context.will_continue_as_new
        context.continue_as_new("first")
        assert context.will_continue_as_new
        context.continue_as_new("second")
        yield context.create_timer(timedelta(seconds=1))

    assert play(form(orchestrator)).output == "second"


def test_a_suspension_behind_the_end_of_a_generation_suspends_the_next(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        read = [*(context.get_input() or []), (yield context.wait_for_external_event("n"))]
        if len(read) == 2:
            return read
        context.continue_as_new(read)

    played = Hub(activities=ACTIVITIES)
    instance = played.start(form(orchestrator))
    played.raise_event("n", 1, at=5)
    played.suspend(at=5)
    played.raise_event("n", 2, at=5)
    played.run()
    assert instance.status is Status.Suspended
    played.resume(at=6)
    played.run()
    assert instance.output == [1, 2]


def test_continuing_as_new_without_waiting_runs_on_in_the_same_turn_within_bounds(
    form: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def orchestrator(context: Any) -> Any:
        if context.get_input() == 100:
            return "end"
        context.continue_as_new(context.get_input() + 1)
        return
        yield

    assert play(form(orchestrator), 0).output == "end"
    monkeypatch.setattr(orchestration, "_MAX_IDLE_GENERATIONS", 50)
    endless = play(form(orchestrator), 0)
    assert endless.status is Status.Failed
    assert "endless loop" in endless.output


def test_a_terminate_stops_a_loop_of_generations_at_its_place(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.wait_for_external_event("n")
        context.continue_as_new(None)

    played = Hub(activities=ACTIVITIES)
    instance = played.start(form(orchestrator))
    for _ in range(5):
        played.raise_event("n", at=5)
    played.terminate("enough", at=5)
    played.run()
    assert instance.status is Status.Terminated
    assert len(instance.recorded(ExecutionCompleted)) == 1


def test_tasks_of_a_coroutine_end_with_their_generation() -> None:
    ended = []

    async def background(context: Any) -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append("background")

    async def orchestrator(context: Any) -> Any:
        task = asyncio.create_task(background(context))
        await asyncio.sleep(1)
        if context.get_input():
            return task.done()
        context.continue_as_new("second")

    instance = play(orchestrator, check=False)
    assert instance.output is False
    assert ended == ["background"]


def test_every_message_of_a_turn_is_addressed(form: Any) -> None:
    instance = play(form(countdown), 2)
    assert all(isinstance(message, Message) and message.execution_id for message in instance.messages)
    assert all(isinstance(turn.events[0], OrchestratorStarted) for turn in instance.turns)
