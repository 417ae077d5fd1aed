"""Failed instances that are run again from before their failure."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from engine_hub import EPOCH, NEVER, Flaky, Hub, Status
from engine_rewinding import Calls, fail_and_rewind

from durable_ext.errors import ActivityFailedError
from durable_ext.history import (
    ExecutionCompleted,
    ExecutionRewound,
    ExecutionTerminated,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
    TimerFired,
)
from durable_ext.retry import RetryOptions

SECOND = timedelta(seconds=1)


def test_the_failed_activity_runs_again_and_the_others_do_not(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        first = yield context.call_activity("works", 1)
        second = yield context.call_activity("flaky", 2)
        return [first, second, (yield context.call_activity("works", 3))]

    instance, calls, flaky = fail_and_rewind(form(orchestrator))
    assert instance.output == [1, 2, 3]
    assert calls.made == [1, 3]
    assert flaky.calls == 2
    again = instance.turns[3].work
    assert [(item.task_id, item.name, item.input) for item in again] == [(1, "flaky", "2")]


def test_nothing_of_the_history_is_edited_and_a_marker_is_added(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        return (yield context.call_activity("flaky", 1))

    hub = Hub(activities={"flaky": Flaky(1)})
    instance = hub.start(form(orchestrator))
    hub.run()
    before = list(instance.history)
    hub.rewind("try again")
    hub.run()
    assert instance.history[: len(before)] == before
    (marker,) = instance.recorded(ExecutionRewound)
    assert marker.task_ids == (0,)
    assert marker.reason == "try again"
    assert len(instance.recorded(ExecutionCompleted)) == 2
    turn = instance.turns[-2]
    assert [type(event).__name__ for event in turn.events] == [
        "OrchestratorStarted",
        "ExecutionRewound",
        "OrchestratorCompleted",
    ]
    assert turn.status_changed
    assert turn.runtime_status is Status.Running
    assert turn.output is None


def test_new_actions_are_numbered_above_all_that_were_used(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            yield context.call_activity("flaky", 1)
        except ActivityFailedError:
            yield context.call_activity("works", "compensation")
            raise
        return (yield context.call_activity("works", "after"))

    instance, calls, _ = fail_and_rewind(form(orchestrator))
    assert instance.output == "after"
    # 0 flaky, 1 compensation, 2 the first end, 3 what comes after the rewind
    assert [event.event_id for event in instance.recorded(TaskScheduled)] == [0, 1, 3]
    assert [event.event_id for event in instance.recorded(ExecutionCompleted)] == [2, 4]
    assert calls.made == ["compensation", "after"]


def test_a_late_outcome_of_a_voided_call_is_ignored(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            yield context.call_activity("flaky", 1)
        except ActivityFailedError:
            context.call_activity("never", "compensation, number 1")
            raise
        return (yield context.wait_for_external_event("go"))

    instance, _, _ = fail_and_rewind(form(orchestrator))
    assert instance.status is Status.Running
    late = TaskCompleted(timestamp=EPOCH, task_scheduled_id=1, result='"late"')
    assert not instance.awaits(late)
    assert late not in instance.advance([late]).events
    instance.hub.raise_event("go", "end")
    instance.hub.run()
    assert instance.output == "end"


def test_a_retried_call_goes_on_with_its_last_attempt(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        return (yield context.call_activity_with_retry("flaky", RetryOptions(1000, 3), "input"))

    instance, _, flaky = fail_and_rewind(form(orchestrator), failures=3)
    assert instance.output == "input"
    assert flaky.calls == 4
    assert instance.turns[-2].work[0].attempt == 3


def test_a_rewound_call_that_fails_for_good_fails_the_instance_again(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        return (yield context.call_activity("flaky", "input"))

    instance, _, flaky = fail_and_rewind(form(orchestrator), failures=3, rewinds=3)
    assert instance.output == "input"
    assert flaky.calls == 4
    assert len(instance.recorded(ExecutionRewound)) == 3


def test_open_timers_and_calls_are_asked_for_again(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        timer = context.create_timer(60 * SECOND)
        slow = context.call_activity("slow", "slow")
        yield context.call_activity("flaky", 1)
        yield timer
        return (yield slow)

    instance, _, _ = fail_and_rewind(form(orchestrator), activities={"slow": str}, durations={"slow": 30})
    assert instance.output == "slow"
    assert len(instance.recorded(TimerFired)) == 1


def test_a_child_still_running_is_started_again_under_the_same_ids(form: Any) -> None:
    def child(context: Any) -> Any:
        return (yield context.wait_for_external_event("go"))

    def orchestrator(context: Any) -> Any:
        kid = context.call_sub_orchestrator("child", instance_id="kid")
        yield context.call_activity("flaky", 1)
        return (yield kid)

    def let_the_child_end(hub: Hub) -> None:
        hub.raise_event("go", "from the child", to="kid")
        hub.run()

    instance, _, _ = fail_and_rewind(
        form(orchestrator), meanwhile=let_the_child_end, orchestrators={"child": form(child)}
    )
    assert instance.output == "from the child"  # repeated: the first answer came to an instance that had failed


def test_events_read_before_the_failure_stay_read(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        first = yield context.wait_for_external_event("n")
        yield context.call_activity("flaky", 1)
        return [first, (yield context.wait_for_external_event("n"))]

    hub = Hub(activities={"flaky": Flaky(1)})
    instance = hub.start(form(orchestrator))
    hub.raise_event("n", 1, at=1)
    hub.raise_event("n", 2, at=1)
    hub.run()
    hub.rewind()
    hub.run()
    assert instance.status is Status.Completed
    assert instance.output == [1, 2]


def test_news_that_come_with_the_rewind_are_not_lost(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_activity("flaky", 1)
        return (yield context.wait_for_external_event("n"))

    hub = Hub(activities={"flaky": Flaky(1)})
    instance = hub.start(form(orchestrator))
    hub.run()
    rewound, raised = ExecutionRewound(timestamp=EPOCH), None
    hub.raise_event("n", "news")
    raised = hub._due.pop()[2].event
    turn = instance.advance([rewound, raised])
    assert turn.unread == [raised]
    for item in turn.work:
        hub._work(item)
    hub.run()
    assert instance.output == "news"


def test_a_terminate_behind_the_rewind_ends_the_instance(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_activity("flaky", 1)

    hub = Hub(activities={"flaky": Flaky(1)})
    instance = hub.start(form(orchestrator))
    hub.run()
    hub.check = False
    turn = instance.advance([ExecutionRewound(timestamp=EPOCH), ExecutionTerminated(timestamp=EPOCH, reason="stop")])
    assert turn.runtime_status is Status.Terminated
    assert turn.output == "stop"
    assert instance.replayed().runtime_status is Status.Terminated


def test_gather_with_several_failures_runs_them_all_again() -> None:
    async def orchestrator(context: Any) -> Any:
        return await asyncio.gather(*(context.call_activity("flaky", n) for n in range(3)))

    instance, _, flaky = fail_and_rewind(orchestrator, failures=3)
    assert instance.output == [0, 1, 2]
    assert flaky.calls == 6


@pytest.mark.parametrize("merge", [True, False])
def test_the_failures_of_a_group_are_all_taken_back(merge: bool) -> None:
    async def step(context: Any, number: int) -> Any:
        return await context.call_activity("flaky" if number else "works", number)

    async def orchestrator(context: Any) -> Any:
        found = await asyncio.gather(*(step(context, n) for n in range(3)), return_exceptions=True)
        errors = [each for each in found if isinstance(each, Exception)]
        if errors:
            raise ExceptionGroup("several", errors)
        return found

    instance, calls, flaky = fail_and_rewind(orchestrator, failures=2, merge=merge)
    assert instance.output == [0, 1, 2]
    assert calls.made == [0]
    assert flaky.calls == 4
    assert instance.recorded(ExecutionRewound)[0].task_ids == (1, 2)


def test_a_task_group_that_failed_runs_again() -> None:
    async def step(context: Any, number: int) -> Any:
        first = await context.call_activity("works", number)
        return await context.call_activity("flaky", first)

    async def orchestrator(context: Any) -> Any:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(step(context, n)) for n in range(2)]
        return [task.result() for task in tasks]

    instance, calls, _ = fail_and_rewind(orchestrator)
    assert instance.output == [0, 1]
    assert sorted(calls.made) == [0, 1]


def test_an_error_raised_from_the_failure_takes_it_back_too(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            return (yield context.call_activity("flaky", 1))
        except ActivityFailedError as error:
            raise RuntimeError("wrapped") from error

    instance, _, _ = fail_and_rewind(form(orchestrator))
    assert instance.output == 1


def test_compensation_after_the_failure_is_taken_back_with_it(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        done = []
        try:
            done.append((yield context.call_activity("works", "book")))
            done.append((yield context.call_activity("flaky", "pay")))
        except ActivityFailedError:
            yield context.call_activity("works", "unbook")
            yield context.create_timer(SECOND)
            raise
        done.append((yield context.call_activity("works", "ship")))
        return done

    instance, calls, _ = fail_and_rewind(form(orchestrator))
    assert instance.output == ["book", "pay", "ship"]
    assert calls.made == ["book", "unbook", "ship"]  # what was done outside stays done


def test_parallel_successes_after_the_failure_are_kept(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        bad, slow = context.call_activity("flaky", 1), context.call_activity("slow", 2)
        try:
            yield bad
        except ActivityFailedError:
            yield slow
            raise
        return [(yield bad), (yield slow)]

    slow = Calls()
    instance, _, _ = fail_and_rewind(form(orchestrator), activities={"slow": slow}, durations={"slow": 30})
    assert instance.output == [1, 2]
    assert slow.made == [2]


def test_a_bug_in_the_code_that_was_fixed(form: Any) -> None:
    def buggy(context: Any) -> Any:
        value = yield context.call_activity("works", 1)
        raise KeyError(value)

    def fixed(context: Any) -> Any:
        value = yield context.call_activity("works", 1)
        return [value, (yield context.call_activity("works", 2))]

    calls = Calls()
    hub = Hub(activities={"works": calls}, orchestrators={"orchestrator": form(buggy)})
    instance = hub.start("orchestrator")
    hub.run()
    assert instance.status is Status.Failed
    hub.orchestrators["orchestrator"] = form(fixed)
    hub.rewind()
    hub.run()
    assert instance.output == [1, 2]
    assert calls.made == [1, 2]
    assert instance.recorded(ExecutionRewound)[0].task_ids == ()


def test_a_bug_that_was_not_fixed_fails_the_instance_again_and_it_can_be_fixed_later(form: Any) -> None:
    def buggy(context: Any) -> Any:
        yield context.call_activity("works", 1)
        raise KeyError("bug")

    def fixed(context: Any) -> Any:
        return (yield context.call_activity("works", 1))

    hub = Hub(activities={"works": Calls()}, orchestrators={"orchestrator": form(buggy)})
    instance = hub.start("orchestrator")
    hub.run()
    for _ in range(2):
        hub.rewind()
        hub.run()
        assert instance.status is Status.Failed
    hub.orchestrators["orchestrator"] = form(fixed)
    hub.rewind()
    hub.run()
    assert instance.output == 1


def test_non_determinism_is_rewound_once_the_code_is_back(form: Any) -> None:
    def good(context: Any) -> Any:
        yield context.call_activity("slow", 1)
        return (yield context.call_activity("works", 2))

    def bad(context: Any) -> Any:
        yield context.call_activity("other", 1)

    hub = Hub(
        activities={"works": Calls(), "slow": str}, durations={"slow": 10}, orchestrators={"orchestrator": form(good)}
    )
    instance = hub.start("orchestrator")
    hub.run(until=1)
    hub.orchestrators["orchestrator"] = form(bad)
    instance.evict()
    hub.run()
    assert instance.failure.error_type == "NonDeterminismError"
    hub.rewind()
    hub.run()
    assert instance.failure.error_type == "NonDeterminismError"  # still the bad code
    hub.orchestrators["orchestrator"] = form(good)
    hub.rewind()
    hub.run()
    assert instance.output == 2


def test_two_failures_one_after_the_other(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        first = yield context.call_activity("flaky", 1)
        second = yield context.call_activity("flaky too", 2)
        return [first, second]

    instance, _, _ = fail_and_rewind(form(orchestrator), rewinds=2, activities={"flaky too": Flaky(1)})
    assert instance.output == [1, 2]
    assert [marker.task_ids for marker in instance.recorded(ExecutionRewound)] == [(0,), (2,)]


@pytest.mark.parametrize("cold", [False, True])
@pytest.mark.parametrize("merge", [False, True])
def test_warm_and_cold_agree_after_rewinds(form: Any, cold: bool, merge: bool) -> None:
    def orchestrator(context: Any) -> Any:
        made = [context.new_uuid()]
        bad = context.call_activity("flaky", 1)
        slow = context.call_activity_with_retry("slow", RetryOptions(1000, 2), 2)
        timer = context.create_timer(45 * SECOND)
        try:
            yield context.task_all([bad, slow, timer])
        except ActivityFailedError:
            yield context.create_timer(SECOND)
            yield context.wait_for_external_event("n", timeout=5, default=None)
            raise
        made.append(context.new_uuid())
        yield context.call_activity("works", 3)
        yield context.call_activity("flaky too", 4)
        return [len(set(made)), bad.get_result(), slow.get_result()]

    instance, _, _ = fail_and_rewind(
        form(orchestrator),
        rewinds=2,
        merge=merge,
        cold=cold,
        activities={"slow": Flaky(1), "flaky too": Flaky(1)},
        durations={"slow": 30},
    )
    assert instance.output == [2, 1, 2]


def test_a_call_that_timed_out_runs_again_with_all_its_time(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        value = yield context.call_activity("slow", 1, timeout=10)
        return [value, (yield context.call_activity("works", 2))]

    durations = {"slow": 100}
    hub = Hub(activities={"slow": lambda value: value, "works": Calls()}, durations=durations)
    instance = hub.start(form(orchestrator))
    hub.run()
    assert instance.failure.error_type == "ActivityTimeout"
    durations = hub.durations
    durations["slow"] = 5
    hub.now += timedelta(hours=1)
    hub.rewind()
    hub.run()
    assert instance.output == [1, 2]


def test_only_failed_instances_are_rewound(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        return (yield context.wait_for_external_event("n"))

    hub = Hub()
    instance = hub.start(form(orchestrator))
    hub.run()
    turn = instance.advance([ExecutionRewound(timestamp=EPOCH)])
    assert not [event for event in turn.events if isinstance(event, ExecutionRewound)]
    hub.raise_event("n", 1)
    hub.run()
    before = list(instance.history)
    hub.rewind()
    hub.run()
    assert instance.status is Status.Completed
    assert instance.recorded(ExecutionRewound) == []
    assert instance.history[: len(before)] == before


def test_a_failure_while_others_run_asks_for_them_again_once_each(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        calls = [context.call_activity("slow", n) for n in range(3)]
        yield context.call_activity("flaky", 9)
        return (yield context.task_all(calls))

    slow = Calls()
    instance, _, _ = fail_and_rewind(form(orchestrator), activities={"slow": slow}, durations={"slow": 30})
    assert instance.output == [0, 1, 2]
    assert slow.made == [0, 1, 2, 0, 1, 2]  # at least once: their outcomes came to an instance that had failed


def test_code_that_ends_at_once_after_the_rewind_asks_for_nothing_again(form: Any) -> None:
    def buggy(context: Any) -> Any:
        context.call_activity("never", 1)
        yield context.call_activity("works", 1)
        raise KeyError("bug")

    def fixed(context: Any) -> Any:
        context.call_activity("never", 1)
        yield context.call_activity("works", 1)
        return "fixed"

    hub = Hub(activities={"works": Calls(), "never": lambda value: NEVER}, orchestrators={"orchestrator": form(buggy)})
    instance = hub.start("orchestrator")
    hub.run()
    hub.orchestrators["orchestrator"] = form(fixed)
    hub.rewind()
    hub.run()
    assert instance.output == "fixed"
    assert not instance.turns[-1].work


def test_failures_of_before_that_were_handled_stay_as_they_were(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            yield context.call_activity("flaky", 1)
        except ActivityFailedError as error:
            handled = error.message
        return [handled, (yield context.call_activity("flaky", 2))]

    instance, _, flaky = fail_and_rewind(form(orchestrator), failures=2)
    assert instance.output == ["not yet", 2]
    assert len(instance.recorded(TaskFailed)) == 2
    assert flaky.calls == 3
