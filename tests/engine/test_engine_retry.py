"""Retries and timeouts of calls."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from engine_hub import EPOCH, NEVER, Flaky, Hub, Status, play, seconds

from durable_ext.engine.turn import EngineOptions
from durable_ext.errors import ActivityFailedError, ActivityTimeout, TaskFailedError
from durable_ext.history import TaskCompleted, TaskScheduled, TimerCreated, TimerFired
from durable_ext.retry import RetryOptions, RetryPolicy

SECOND = timedelta(seconds=1)


def policy(attempts: int = 3, first: float = 1, **more: Any) -> RetryPolicy:
    return RetryPolicy(first_retry_interval=timedelta(seconds=first), max_number_of_attempts=attempts, **more)


def retrying(retry: RetryPolicy) -> Any:
    """An orchestrator that calls `flaky` under a policy and returns its result, or attempt and text of its error."""

    def orchestrator(context: Any) -> Any:
        try:
            return (yield context.call_activity("flaky", 42, retry_policy=retry))
        except TaskFailedError as error:
            return [error.attempt, error.message]

    return orchestrator


def test_a_call_that_succeeds_in_the_end_has_succeeded(form: Any) -> None:
    instance = play(form(retrying(policy(3))), activities={"flaky": Flaky(2)})
    assert instance.output == 42
    assert [(item.task_id, item.attempt, item.input) for item in instance.work] == [
        (0, 1, "42"),
        (2, 2, "42"),
        (4, 3, "42"),
    ]
    assert [event.event_id for event in instance.recorded(TimerCreated)] == [1, 3]


def test_the_last_error_is_raised_and_no_timer_follows_the_last_attempt(form: Any) -> None:
    instance = play(form(retrying(policy(3))), activities={"flaky": Flaky(9)})
    assert instance.output == [3, "not yet"]
    assert len(instance.work) == 3
    assert len(instance.recorded(TimerCreated)) == 2


def test_one_attempt_is_no_retry(form: Any) -> None:
    instance = play(form(retrying(policy(1))), activities={"flaky": Flaky(9)})
    assert instance.output == [1, "not yet"]
    assert not instance.recorded(TimerCreated)


def test_pauses_grow_up_to_the_longest(form: Any) -> None:
    grow = policy(6, backoff_coefficient=2, max_retry_interval=timedelta(seconds=5))
    instance = play(form(retrying(grow)), activities={"flaky": Flaky(9)})
    assert seconds(instance) == [1, 3, 7, 12, 17]


def test_the_total_time_is_looked_at_before_a_pause(form: Any) -> None:
    bounded = policy(100, first=2, retry_timeout=timedelta(seconds=5))
    instance = play(form(retrying(bounded)), activities={"flaky": Flaky(99)})
    assert seconds(instance) == [2, 4, 6]
    assert instance.output[0] == 4


def test_the_predicate_sees_the_error_and_decides(form: Any) -> None:
    def only_value_errors(error: ActivityFailedError) -> bool:
        return error.type == "ValueError"

    once = play(form(retrying(policy(5, handle=only_value_errors))), activities={"flaky": Flaky(2)})
    never = play(form(retrying(policy(5, handle=only_value_errors))), activities={"flaky": Flaky(2, KeyError("k"))})
    assert once.output == 42
    assert never.output == [1, "'k'"]


def test_a_final_error_is_not_retried(form: Any) -> None:
    error = ValueError("give up")
    error.final = True  # type: ignore[attr-defined]
    instance = play(form(retrying(policy(5))), activities={"flaky": Flaky(9, error)})
    assert instance.output == [1, "give up"]


def test_a_predicate_that_raises_leaves_the_error_of_the_activity(form: Any) -> None:
    def broken(error: Any) -> bool:
        raise RuntimeError("the predicate is broken")

    instance = play(form(retrying(policy(5, handle=broken))), activities={"flaky": Flaky(9)})
    assert instance.output == [1, "not yet"]


def test_retry_options_in_milliseconds_mean_the_same(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        options = RetryOptions(1500, 3)
        return (yield context.call_activity_with_retry("flaky", options, "input"))

    instance = play(form(orchestrator), activities={"flaky": Flaky(2)})
    assert instance.output == "input"
    assert seconds(instance) == [1.5, 3]


def test_retries_inside_task_all_and_task_any_come_to_an_end(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        first = context.call_activity("flaky", 1, retry_policy=policy(3))
        second = context.call_activity("other", 2, retry_policy=policy(3, first=5))
        winner = yield context.task_any([first, second])
        late = context.call_activity("boom", 3, retry_policy=policy(2))
        results = yield context.task_all([first, second])
        try:
            yield context.task_all([late, context.call_activity("echo", 4)])
        except ActivityFailedError as error:
            return [winner is first, results, error.attempt]

    instance = play(form(orchestrator), activities={"flaky": Flaky(2), "other": Flaky(2)})
    assert instance.output == [True, [1, 2], 2]


def test_the_same_retried_task_can_race_several_times(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        task, rounds = context.call_activity("flaky", 1, retry_policy=policy(4, first=10)), 0
        while True:
            rounds += 1
            winner = yield context.task_any([task, context.create_timer(timedelta(seconds=4))])
            if winner is task:
                return [rounds, winner.get_result()]

    instance = play(form(orchestrator), activities={"flaky": Flaky(3)})
    assert instance.output == [8, 1]


def test_running_out_of_actions_between_attempts_fails_the_call(form: Any) -> None:
    instance = play(form(retrying(policy(100))), activities={"flaky": Flaky(99)}, options=EngineOptions(max_actions=5))
    assert instance.status is Status.Failed
    assert "Maximum amount of orchestration actions (5)" in instance.output


# --- timeouts ----------------------------------------------------------------------------------------


def with_timeout(**more: Any) -> Any:
    def orchestrator(context: Any) -> Any:
        try:
            return (yield context.call_activity("slow", 1, timeout=10, **more))
        except ActivityTimeout as error:
            assert issubclass(ActivityTimeout, TimeoutError)
            return [error.task_name, error.type, error.attempt, (context.current_utc_datetime - EPOCH).seconds]

    return orchestrator


def test_a_call_that_takes_too_long_raises_a_timeout(form: Any) -> None:
    instance = play(form(with_timeout()), activities={"slow": lambda value: NEVER})
    assert instance.output == ["slow", "ActivityTimeout", 1, 10]
    assert [event.event_id for event in instance.recorded(TimerCreated)] == [1]


def test_an_outcome_after_the_timeout_is_dropped(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            yield context.call_activity("slow", 1, timeout=timedelta(seconds=10))
        except ActivityTimeout:
            yield context.create_timer(timedelta(minutes=1))
            return "timed out"

    instance = play(form(orchestrator), activities={"slow": lambda value: value}, durations={"slow": 30})
    assert instance.output == "timed out"
    assert not instance.recorded(TaskCompleted)


def test_a_call_in_time_leaves_no_timer_behind(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        first = yield context.call_activity("slow", 1, timeout=10)
        yield context.create_timer(timedelta(minutes=1))
        return first

    instance = play(form(orchestrator), activities={"slow": lambda value: value}, durations={"slow": 3})
    assert instance.output == 1
    assert [event.timer_id for event in instance.recorded(TimerFired)] == [2]


def test_a_timeout_counts_as_a_failed_attempt(form: Any) -> None:
    instance = play(form(with_timeout(retry_policy=policy(3))), activities={"slow": lambda value: NEVER})
    assert instance.output == ["slow", "ActivityTimeout", 3, 32]
    assert len(instance.recorded(TaskScheduled)) == 3
    assert seconds(instance) == [10, 11, 21, 22, 32]


@pytest.mark.parametrize("timeout", [0, -1, timedelta(0)])
def test_a_timeout_must_be_positive(timeout: Any) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            context.call_activity("slow", timeout=timeout)
        except ValueError as error:
            return str(error)
        yield

    assert "must be positive" in play(orchestrator).output


def test_a_cancelled_call_is_not_tried_again() -> None:
    async def orchestrator(context: Any) -> Any:
        import asyncio

        call = context.call_activity("boom", 1, retry_policy=policy(5, first=10))
        await asyncio.sleep(3)  # the first attempt has failed, the second is not due
        call.cancel()
        await asyncio.sleep(60)

    instance = play(orchestrator)
    assert instance.status is Status.Completed
    assert len(instance.work) == 1


def test_a_child_is_retried_with_an_id_of_its_own_each_time(form: Any) -> None:
    def child(context: Any) -> Any:
        return (yield context.call_activity("flaky", "done"))

    def orchestrator(context: Any) -> Any:
        return (yield context.call_sub_orchestrator_with_retry("child", policy(3)))

    hub = Hub(activities={"flaky": Flaky(2)}, orchestrators={"child": form(child)})
    instance = hub.start(form(orchestrator))
    hub.run()
    assert instance.output == "done"
    assert list(hub.instances) == ["abc123", "e0:0", "e0:2", "e0:4"]


def test_a_retried_child_with_a_given_id_keeps_it(form: Any) -> None:
    def child(context: Any) -> Any:
        return (yield context.call_activity("flaky", "done"))

    def orchestrator(context: Any) -> Any:
        return (yield context.call_sub_orchestrator("child", instance_id="mine", retry_policy=policy(3)))

    hub = Hub(activities={"flaky": Flaky(2)}, orchestrators={"child": form(child)})
    instance = hub.start(form(orchestrator))
    hub.run()
    assert instance.output == "done"
    assert list(hub.instances) == ["abc123", "mine"]
