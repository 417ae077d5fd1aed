"""Answers after a rewind: which of several to one call counts."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from engine_hub import EPOCH, NEVER, Flaky, Hub, Instance, Status
from engine_rewinding import fail_and_rewind

from durable_ext.errors import ActivityTimeout
from durable_ext.history import (
    ExecutionRewound,
    ExecutionStarted,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
    TimerCreated,
    TimerFired,
    count_rewinds,
)
from durable_ext.messages import answer_to_parent
from durable_ext.retry import RetryPolicy

SECOND = timedelta(seconds=1)


def failing(form: Any, orchestrator: Any, **about: Any) -> Instance:
    """An instance that has failed, with `flaky` to succeed from its second call on."""
    activities = {"flaky": Flaky(1), "never": lambda value: NEVER, **about.pop("activities", {})}
    hub = Hub(activities=activities, **about)
    instance = hub.start(form(orchestrator))
    hub.run()
    assert instance.status is Status.Failed
    return instance


def rewind(instance: Instance) -> list[Any]:
    """Rewind, without running what it asks for; return the calls that it asks for again."""
    turn = instance.advance([ExecutionRewound(timestamp=instance.hub.now)])
    return [*turn.work, *turn.messages]


def one_call(context: Any) -> Any:
    return (yield context.call_activity("flaky", 1))


def completed(number: int, asked: int = 0) -> TaskCompleted:
    return TaskCompleted(timestamp=EPOCH, task_scheduled_id=number, result='"answer"', asked=asked)


@pytest.mark.parametrize("cold", [False, True])
def test_a_repeated_failure_that_was_voided_is_not_taken_again(form: Any, cold: bool) -> None:
    instance = failing(form, one_call)
    (failure,) = instance.recorded(TaskFailed)
    (item,) = rewind(instance)
    assert item.asked == 1
    assert item.receipt.asked == 1
    if cold:
        instance.evict()
    assert not instance.awaits(failure)
    assert not instance.awaits(completed(0))
    assert len(instance.advance([failure]).events) == 2
    assert instance.awaits(completed(0, asked=1))
    assert instance.advance([completed(0, asked=1)]).output == '"answer"'


def test_each_rewind_asks_with_a_number_of_its_own(form: Any) -> None:
    instance = failing(form, one_call)
    for asked in (1, 2, 3):
        (item,) = rewind(instance)
        assert item.asked == asked
        (failure,) = instance.recorded(TaskFailed)[:1]
        assert not instance.awaits(completed(0, asked=asked - 1))
        instance.advance([msgspec.structs.replace(failure, asked=asked)])
        assert instance.status is Status.Failed


def test_a_call_that_was_open_takes_either_answer_but_one(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        slow = context.call_activity("never", "slow")
        yield context.call_activity("flaky", 1)
        return (yield slow)

    instance = failing(form, orchestrator)
    asked = {item.task_id: item.asked for item in rewind(instance)}
    assert asked == {0: 1, 1: 1}
    assert instance.awaits(completed(0, asked=0)), "none of its answers was voided"
    assert instance.awaits(completed(0, asked=1))
    instance.advance([completed(1, asked=1), completed(0, asked=0)])
    assert instance.status is Status.Completed


def test_calls_made_after_a_rewind_are_asked_for_the_first_time(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_activity("flaky", 1)
        return (yield context.call_activity("flaky", 2))

    instance = failing(form, orchestrator)
    rewind(instance)
    turn = instance.advance([completed(0, asked=1)])
    assert [item.asked for item in turn.work] == [0]


def test_a_call_that_was_cancelled_is_not_asked_for_again() -> None:
    async def orchestrator(context: Any) -> Any:
        try:
            await asyncio.wait_for(context.call_activity("never"), 5)
        except TimeoutError:
            return await context.call_activity("flaky", 1)

    instance = failing(lambda each: each, orchestrator)
    assert [item.name for item in rewind(instance)] == ["flaky"]


def test_an_answer_held_back_by_a_suspension_is_not_asked_for_again(form: Any) -> None:
    def good(context: Any) -> Any:
        return [(yield context.call_activity("echo", 1)), (yield context.call_activity("echo", 2))]

    def bad(context: Any) -> Any:
        yield context.call_activity("other", 1)

    hub = Hub(activities={"echo": str}, durations={"echo": 10}, orchestrators={"orchestrator": form(good)})
    instance = hub.start("orchestrator")
    hub.suspend(at=5)
    hub.run()
    hub.orchestrators["orchestrator"] = form(bad)
    instance.evict()
    hub.run()
    hub.raise_event("any", at=20)
    hub.run()
    assert instance.status is Status.Failed
    hub.orchestrators["orchestrator"] = form(good)
    assert rewind(instance) == []
    assert instance.status is Status.Suspended
    hub.resume()
    hub.run()
    assert instance.output == ["1", "2"]


# --- timers ------------------------------------------------------------------------------------------


def test_an_old_firing_of_a_timer_that_was_restarted_does_not_count(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        return (yield context.call_activity("never", 1, timeout=60))

    instance = failing(form, orchestrator)
    (old,) = instance.recorded(TimerFired)
    instance.hub.now += timedelta(hours=1)
    item, message = rewind(instance)
    assert (item.task_id, item.asked) == (0, 1)
    assert message.event.fire_at == message.visible_at == instance.hub.now + 60 * SECOND
    for _ in range(2):
        assert not instance.awaits(old)
        assert instance.awaits(message.event)
        instance.evict()


def test_a_timer_restarted_at_the_moment_it_fired_is_another(form: Any) -> None:
    """With a clock that jumps a rewind may come at the very time of the failure."""

    def orchestrator(context: Any) -> Any:
        return (yield context.call_activity("never", 1, timeout=60))

    instance = failing(form, orchestrator)
    (old,) = instance.recorded(TimerFired)
    (created,) = instance.recorded(TimerCreated)
    instance.history = [
        msgspec.structs.replace(event, timestamp=event.fire_at) if event is created else event
        for event in instance.history
    ]
    _, message = rewind(instance)
    assert message.event.fire_at > old.fire_at
    assert instance.awaits(message.event)
    assert not instance.awaits(old)


def test_a_timer_that_was_restarted_and_is_open_at_the_next_failure_is_restarted_again(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        patient = context.call_activity("never", 1, timeout=60)
        yield context.task_any([patient, context.wait_for_external_event("fail")])
        if patient.is_completed:
            patient.get_result()
        yield context.call_activity("boom", 1)

    instance = failing(form, orchestrator)
    hub = instance.hub
    hub.now += timedelta(hours=1)
    rewind(instance)
    hub.raise_event("fail")
    hub.run()
    assert instance.status is Status.Failed
    hub.now += timedelta(hours=1)
    sent = rewind(instance)
    (again,) = [each.event for each in sent if isinstance(getattr(each, "event", None), TimerFired)]
    assert again.fire_at == hub.now + 60 * SECOND
    assert instance.awaits(again)


def test_a_call_that_times_out_once_more_fails_once_more(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            yield context.call_activity(
                "never", 1, timeout=10, retry_policy=RetryPolicy(first_retry_interval=SECOND, max_number_of_attempts=2)
            )
        except ActivityTimeout as error:
            raise RuntimeError("too slow") from error

    instance, _, _ = fail_and_rewind(form(orchestrator), rewinds=2)
    assert instance.status is Status.Failed
    assert len(instance.recorded(ExecutionRewound)) == 2
    first, second = instance.recorded(ExecutionRewound)
    assert first.task_ids == second.task_ids == (3, 4)


# --- children ----------------------------------------------------------------------------------------


def parent_of(name: str) -> Any:
    def orchestrator(context: Any) -> Any:
        return (yield context.call_sub_orchestrator(name, instance_id="kid"))

    return orchestrator


def test_a_child_that_ran_again_answers_with_the_number_of_its_rewinds(form: Any) -> None:
    def child(context: Any) -> Any:
        return (yield context.call_activity("flaky", "fixed"))

    instance = failing(form, parent_of("child"), orchestrators={"child": form(child)})
    (old,) = instance.recorded(SubOrchestrationInstanceFailed)
    assert old.asked == 0
    (message,) = rewind(instance)
    assert not instance.awaits(old)
    instance.hub.post(message)
    instance.hub.run()
    assert instance.output == "fixed"
    (answer,) = instance.recorded(SubOrchestrationInstanceCompleted)
    assert answer.asked == 1
    assert instance.hub.instances["kid"].answer.event == answer


def test_a_child_that_was_rewound_apart_is_heard_all_the_same(form: Any) -> None:
    def child(context: Any) -> Any:
        return (yield context.call_activity("flaky", "fixed"))

    instance = failing(form, parent_of("child"), orchestrators={"child": form(child)}, activities={"flaky": Flaky(3)})
    hub = instance.hub
    for _ in range(2):
        hub.rewind(to="kid")
        hub.run()
    assert count_rewinds(hub.instances["kid"].history) == 2
    hub.rewind()
    hub.run()
    assert instance.output == "fixed"
    assert instance.recorded(SubOrchestrationInstanceCompleted)[0].asked == 3


def test_a_rewound_child_that_continues_as_new_is_heard(form: Any) -> None:
    def child(context: Any) -> Any:
        if context.get_input() is None:
            yield context.call_activity("flaky", 1)
            context.continue_as_new("second")
            return None
        return "from the second generation"

    instance = failing(form, parent_of("child"), orchestrators={"child": form(child)})
    instance.hub.rewind()
    instance.hub.run()
    kid = instance.hub.instances["kid"]
    (started,) = kid.recorded(ExecutionStarted)
    assert (started.rewinds, kid.recorded(ExecutionRewound)) == (1, [])
    assert instance.output == "from the second generation"


def test_a_refusal_must_carry_a_number_above_what_was_voided(form: Any) -> None:
    instance = failing(form, parent_of("child"), orchestrators={"child": form(lambda context: 1 / 0)})
    for asked in (1, 2):
        (message,) = rewind(instance)
        assert message.event.asked == asked
        (failure, *_) = instance.recorded(SubOrchestrationInstanceFailed)
        assert not instance.awaits(msgspec.structs.replace(failure, asked=asked - 1))
        instance.advance([msgspec.structs.replace(failure, asked=asked)])
        assert instance.status is Status.Failed


def test_a_child_that_was_open_is_asked_in_the_way_that_any_answer_counts(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        kid = context.call_sub_orchestrator("child", instance_id="kid")
        yield context.call_activity("flaky", 1)
        return (yield kid)

    def child(context: Any) -> Any:
        return (yield context.wait_for_external_event("go"))

    instance = failing(form, orchestrator, orchestrators={"child": form(child)})
    sent = rewind(instance)
    assert [each.event.asked for each in sent if each.instance_id == "kid"] == [0]


def test_an_answer_repeats_the_number_of_rewinds(form: Any) -> None:
    def child(context: Any) -> Any:
        yield context.call_activity("flaky", 1)
        raise ValueError("again")

    instance = failing(form, parent_of("child"), orchestrators={"child": form(child)})
    instance.hub.rewind()
    instance.hub.run()
    kid = instance.hub.instances["kid"]
    assert kid.session.started is not None
    message = answer_to_parent(kid.session.started, kid.end, count_rewinds(kid.history))
    assert message is not None
    assert message.event == instance.recorded(SubOrchestrationInstanceFailed)[-1]
