"""What nobody waits for any more: which timers and calls a turn says need not come."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from engine_hub import ACTIVITIES, EPOCH, Hub, Status, play, seconds

from durable_ext.engine.turn import EngineOptions
from durable_ext.errors import ActivityTimeout, DurableError
from durable_ext.history import TaskCompleted, TaskScheduled, TimerCreated
from durable_ext.retry import RetryPolicy

SECOND = timedelta(seconds=1)


def patient(pause: int) -> RetryPolicy:
    return RetryPolicy(first_retry_interval=pause * SECOND, max_number_of_attempts=3)


def cancelled(instance: Any) -> list[list[int]]:
    """What each turn that cancelled anything did cancel."""
    return [list(turn.cancelled) for turn in instance.turns if turn.cancelled]


def test_a_timer_that_lost_its_race_is_cancelled(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        timer = context.create_timer(timedelta(days=1))
        won = yield context.task_any([context.call_activity("echo", 1), timer])
        timer.cancel()
        yield context.call_activity("echo", 2)
        return won.get_result()

    instance = play(form(orchestrator))
    assert instance.output == 1
    assert cancelled(instance) == [[0]]
    assert instance.turns[1].cancelled == [0]


def test_a_timer_cancelled_in_the_turn_that_sets_it_leaves_no_trace(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        context.create_timer(SECOND).cancel()
        return (yield context.call_activity("echo", 1))

    instance = play(form(orchestrator))
    assert not instance.recorded(TimerCreated)
    assert not cancelled(instance)


def test_the_timer_of_a_wait_is_cancelled_by_its_event(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.wait_for_external_event("n", timeout=60)
        yield context.wait_for_external_event("n")

    assert cancelled(play(form(orchestrator), events=[(1, "n", 1), (2, "n", 2)])) == [[0]]


@pytest.mark.parametrize("cold", [False, True])
def test_a_call_that_timed_out_is_cancelled(form: Any, cold: bool) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            yield context.call_activity("slow", 1, timeout=5)
        except ActivityTimeout:
            yield context.create_timer(SECOND)
            return "too late"

    instance = play(form(orchestrator), activities={"slow": str}, durations={"slow": 60}, cold=cold)
    assert instance.output == "too late"
    assert cancelled(instance) == [[0]]
    assert not instance.recorded(TaskCompleted)


def test_the_deadline_of_a_call_is_cancelled_by_its_outcome(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        return (yield context.call_activity("echo", 1, timeout=5))

    assert cancelled(play(form(orchestrator))) == [[1]]


def test_a_call_cancelled_by_asyncio_is_cancelled_and_its_outcome_not_taken() -> None:
    async def orchestrator(context: Any) -> Any:
        try:
            await asyncio.wait_for(context.call_activity("slow", 1), 5)
        except TimeoutError:
            await asyncio.sleep(100)
            return "too late"

    hub = Hub(activities={"slow": str}, durations={"slow": 60})
    instance = hub.start(orchestrator)
    hub.run(until=5)
    assert cancelled(instance) == [[0]]
    late = TaskCompleted(timestamp=EPOCH, task_scheduled_id=0, result='"late"')
    assert not instance.awaits(late)
    hub.run()
    assert instance.output == "too late"
    assert not instance.recorded(TaskCompleted)


def test_a_history_with_the_outcome_of_a_cancelled_call_is_replayed() -> None:
    """Other releases record it."""

    async def orchestrator(context: Any) -> Any:
        call = context.call_activity("slow", 1)
        call.cancel()
        await context.wait_for_external_event("n")
        return await context.call_activity("echo", 2)

    hub = Hub()
    instance = hub.start(orchestrator)
    hub.run()
    outcome = TaskCompleted(timestamp=EPOCH, task_scheduled_id=0, result="1")
    instance.history = [*instance.history[:-1], outcome, instance.history[-1]]
    assert instance.replayed().non_determinism is None


def test_a_call_cancelled_before_it_was_sent_is_recorded_but_not_sent() -> None:
    async def orchestrator(context: Any) -> Any:
        context.call_activity("never", 1).cancel()
        return await context.call_activity("echo", 2)

    instance = play(orchestrator)
    assert instance.output == 2
    assert [event.event_id for event in instance.recorded(TaskScheduled)] == [0, 1]
    assert [item.task_id for item in instance.work] == [1]
    assert not cancelled(instance)


def test_the_attempt_under_way_of_a_cancelled_call_is_cancelled_with_its_deadline() -> None:
    async def orchestrator(context: Any) -> Any:
        call = context.call_activity("never", 1, retry_policy=patient(1), timeout=60)
        await asyncio.sleep(1)
        call.cancel()
        await asyncio.sleep(1)

    assert cancelled(play(orchestrator)) == [[0, 1]]


def test_the_pause_before_the_next_attempt_of_a_cancelled_call_is_cancelled() -> None:
    async def orchestrator(context: Any) -> Any:
        call = context.call_activity("boom", 1, retry_policy=patient(60))
        await asyncio.sleep(1)
        call.cancel()
        await asyncio.sleep(100)

    instance = play(orchestrator)
    assert cancelled(instance) == [[2]]
    assert len(instance.work) == 1
    assert instance.status is Status.Completed


def test_a_sub_orchestration_is_waited_for_though_the_call_was_cancelled() -> None:
    async def orchestrator(context: Any) -> Any:
        call = context.call_sub_orchestrator("child", instance_id="kid", retry_policy=patient(1))
        await asyncio.sleep(1)
        call.cancel()
        await asyncio.sleep(100)

    def child(context: Any) -> Any:
        yield context.create_timer(10 * SECOND)
        raise ValueError("no matter")

    instance = play(orchestrator, orchestrators={"child": child})
    assert not cancelled(instance)
    assert instance.hub.instances["kid"].status is Status.Failed
    assert len(instance.messages) == 3, "it is not tried again"


def test_a_shielded_call_goes_on() -> None:
    async def orchestrator(context: Any) -> Any:
        call = context.call_activity("slow", 1)
        try:
            await asyncio.wait_for(asyncio.shield(call), 5)
        except TimeoutError:
            return await call

    instance = play(orchestrator, activities={"slow": str}, durations={"slow": 60})
    assert instance.output == "1"
    assert not cancelled(instance)


def test_what_is_cancelled_on_the_way_out_of_memory_is_not_said() -> None:
    async def orchestrator(context: Any) -> Any:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.wait_for(context.call_activity("never", 1), 50))

    hub = Hub(activities=ACTIVITIES)
    instance = hub.start(orchestrator)
    hub.run(until=1)
    execution = instance.session._feeder.execution
    instance.session.close()
    assert not execution.cancelled
    assert len(execution.open) == 2


# --- what raises leaves nothing behind ---------------------------------------------------------------


@pytest.mark.parametrize("how", ["timeout", "timer", "delay"])
def test_a_time_past_the_last_day_there_is_leaves_nothing_behind(form: Any, how: str) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            match how:
                case "timeout":
                    context.call_activity("never", 1, timeout=timedelta.max)
                case "timer":
                    context.create_timer(timedelta.max)
                case "delay":
                    context.call_activity("never", 1, timeout=1e300)
        except OverflowError:
            return (yield context.call_activity("echo", "went on"))

    instance = play(form(orchestrator))
    assert instance.output == "went on"
    assert [event.event_id for event in instance.recorded(TaskScheduled)] == [0]
    assert seconds(instance) == []


def test_a_sleep_past_the_last_day_there_is_leaves_nothing_behind() -> None:
    async def orchestrator(context: Any) -> Any:
        try:
            await asyncio.sleep(1e300)
        except OverflowError:
            return await context.call_activity("echo", "went on")

    instance = play(orchestrator)
    assert instance.output == "went on"
    assert instance.work[0].task_id == 0


def test_a_call_whose_deadline_is_past_the_action_limit_leaves_nothing_behind(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            context.call_activity("never", 1, timeout=5)
        except DurableError:
            return (yield context.call_activity("echo", "went on"))

    instance = play(form(orchestrator), options=EngineOptions(max_actions=1))
    assert instance.output == "went on"
    assert [item.name for item in instance.work] == ["echo"]
