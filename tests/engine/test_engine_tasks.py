"""Activities, one after the other and side by side, and what combines them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from engine_hub import EPOCH, NEVER, Hub, Status, play

from durable_ext.engine.tasks import TaskState
from durable_ext.errors import ActivityFailedError
from durable_ext.history import TaskCompleted, TaskScheduled


def test_a_call_is_scheduled_when_it_is_made_not_when_it_is_yielded(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        context.call_activity("never", "not awaited")
        return (yield context.call_activity("echo", "awaited"))

    instance = play(form(orchestrator))
    assert instance.output == "awaited"
    assert [(item.task_id, item.name) for item in instance.work] == [(0, "never"), (1, "echo")]


def test_parallel_calls_go_out_in_one_turn_in_call_order(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        return (yield context.task_all([context.call_activity("echo", n) for n in range(3)]))

    instance = play(form(orchestrator))
    assert instance.output == [0, 1, 2]
    assert [item.task_id for item in instance.turns[0].work] == [0, 1, 2]
    assert len(instance.turns) == 2


def test_task_all_gives_results_in_argument_order_whatever_comes_first(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        return (yield context.task_all([context.call_activity("slow", 1), context.call_activity("echo", 2)]))

    instance = play(form(orchestrator), activities={"slow": lambda value: value}, durations={"slow": 9})
    assert instance.output == [1, 2]


def test_task_all_fails_with_the_first_failure_at_once(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        slow, late, bad = (context.call_activity(name, name) for name in ("slow", "late", "boom"))
        try:
            yield context.task_all([late, slow, bad])
        except ActivityFailedError as error:
            return [error.task_name, late.is_completed, (yield slow)]

    instance = play(
        form(orchestrator),
        activities={"slow": str, "late": str},
        durations={"slow": 5, "late": 9},
    )
    assert instance.output == ["boom", False, "slow"]


def test_task_all_of_nothing_is_an_empty_list_at_once(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        return (yield context.task_all([]))

    instance = play(form(orchestrator))
    assert instance.output == []
    assert len(instance.turns) == 1


def test_task_any_of_nothing_is_none_at_once(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        return [(yield context.task_any([]))]

    assert play(form(orchestrator)).output == [None]


def test_the_same_task_twice_in_task_all_gives_its_result_twice(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        task = context.call_activity("echo", 1)
        return (yield context.task_all([task, task]))

    instance = play(form(orchestrator))
    assert instance.output == [1, 1]
    assert len(instance.work) == 1


def test_task_any_gives_the_winning_task_itself(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        slow, quick = context.call_activity("slow", 1), context.call_activity("echo", 2)
        winner = yield context.task_any([slow, quick])
        return [winner is quick, winner == quick, winner.get_result(), slow.is_completed, (yield slow)]

    instance = play(form(orchestrator), activities={"slow": lambda value: value}, durations={"slow": 9})
    assert instance.output == [True, True, 2, False, 1]


def test_a_failed_winner_raises_when_it_is_yielded(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        winner = yield context.task_any([context.call_activity("never"), context.call_activity("boom", 7)])
        state = (winner.is_completed, winner.is_failed, winner.state is TaskState.FAILED)
        with pytest.raises(ActivityFailedError):
            winner.get_result()
        try:
            yield winner
        except ActivityFailedError as error:
            return [*state, error.message]

    assert play(form(orchestrator)).output == [True, True, True, "boom 7"]


def test_of_several_finished_tasks_the_first_argument_wins(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        tasks = [context.call_activity("echo", n) for n in range(3)]
        yield context.task_all(tasks)
        winner = yield context.task_any([tasks[2], tasks[0], tasks[1]])
        return winner is tasks[2]

    assert play(form(orchestrator)).output is True


def test_compounds_nest(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        both = context.task_all([context.call_activity("echo", 1), context.call_activity("echo", 2)])
        slow = context.task_all([context.call_activity("never"), context.call_activity("echo", 3)])
        winner = yield context.task_any([slow, both])
        nested = context.task_all([context.task_any([context.call_activity("echo", 4)]), both])
        inner, outer = yield nested
        return [winner is both, inner.get_result(), outer]

    assert play(form(orchestrator)).output == [True, 4, [1, 2]]


def test_one_task_serves_several_compounds(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        shared, other = context.call_activity("echo", 1), context.call_activity("slow", 2)
        first = context.task_any([shared, other])
        second = context.task_all([shared, other])
        third = context.task_all([shared])
        return [(yield first) is shared, (yield third), (yield second)]

    instance = play(form(orchestrator), activities={"slow": lambda value: value}, durations={"slow": 3})
    assert instance.output == [True, [1], [1, 2]]


def test_a_finished_task_can_be_yielded_again_and_schedules_nothing(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        task = context.call_activity("echo", 1)
        return [(yield task), (yield task), (yield task)]

    instance = play(form(orchestrator))
    assert instance.output == [1, 1, 1]
    assert len(instance.recorded(TaskScheduled)) == 1


def test_a_failed_task_raises_each_time_it_is_yielded(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        task, seen = context.call_activity("boom", 1), []
        for _ in range(3):
            try:
                yield task
            except ActivityFailedError as error:
                seen.append(error.message)
        return seen

    assert play(form(orchestrator)).output == ["boom 1"] * 3


def test_racing_the_same_task_round_after_round_keeps_nothing_of_the_lost_rounds() -> None:
    def orchestrator(context: Any) -> Any:
        patient = context.call_activity("slow", 0)
        for _ in range(50):
            timer = context.create_timer(timedelta(seconds=1))
            yield context.task_any([patient, timer])
        assert len(patient._parents) == 0
        return (yield patient)

    instance = play(orchestrator, activities={"slow": lambda value: value}, durations={"slow": 100})
    assert instance.output == 0


def test_an_outcome_for_a_call_that_is_not_open_is_not_recorded() -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_activity("echo", 1)
        return (yield context.call_activity("never"))

    hub = Hub(activities={"echo": str, "never": lambda value: NEVER})
    instance = hub.start(orchestrator)
    hub.run()
    outcome = instance.turns[1].events[1]
    assert not instance.awaits(outcome)
    assert outcome not in instance.advance([outcome, outcome]).events


def test_of_two_outcomes_in_one_turn_the_first_counts() -> None:
    def orchestrator(context: Any) -> Any:
        return (yield context.call_activity("never"))

    hub = Hub(activities={"never": lambda value: NEVER})
    instance = hub.start(orchestrator)
    hub.run()
    first, second = (TaskCompleted(timestamp=EPOCH, task_scheduled_id=0, result=result) for result in "12")
    assert instance.awaits(first)
    turn = instance.advance([first, second])
    assert turn.output == "1"
    assert second not in turn.events


@pytest.mark.parametrize("combine", ["task_all", "task_any"])
def test_a_compound_over_something_else_raises_at_that_line(combine: str) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            getattr(context, combine)([context.call_activity("echo", 1), 5])
        except TypeError as error:
            return str(error)
        yield

    text = play(orchestrator).output
    assert "5" in text
    assert "int" in text


def test_yield_from_a_task_says_to_yield_it() -> None:
    def orchestrator(context: Any) -> Any:
        return (yield from context.call_activity("echo", 1))

    instance = play(orchestrator)
    assert instance.status is Status.Failed
    assert "yield task" in instance.output


def test_helper_generators_run_with_yield_from() -> None:
    def helper(context: Any, value: int) -> Any:
        return (yield context.call_activity("echo", value)) + 1

    def orchestrator(context: Any) -> Any:
        return (yield from helper(context, 1)) + (yield from helper(context, 10))

    assert play(orchestrator).output == 13


@pytest.mark.parametrize("value", [None, 0, "", "text", [1, [2]], {"a": {"b": None}}, 1.5, True])
def test_json_values_travel_unchanged(form: Any, value: Any) -> None:
    def orchestrator(context: Any) -> Any:
        return (yield context.call_activity("echo", context.get_input()))

    instance = play(form(orchestrator), value)
    assert instance.output == value
    assert type(instance.output) is type(value)


def test_a_tuple_carries_several_values_as_one_input(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        return (yield context.call_activity("echo", ("computer science", 2)))

    assert play(form(orchestrator)).output == ["computer science", 2]


def test_a_thousand_fold_fan_out_comes_back_in_order(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        return sum((yield context.task_all([context.call_activity("echo", n) for n in range(1000)])))

    assert play(form(orchestrator), check=False).output == 499500


@pytest.mark.parametrize("name", ["", None, 5])
def test_a_call_without_a_name_raises_at_that_line(name: Any) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            context.call_activity(name)
        except ValueError as error:
            return str(error)
        yield

    assert play(orchestrator).output
