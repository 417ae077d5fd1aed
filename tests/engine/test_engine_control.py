"""Suspend, resume, terminate, and beginning again."""

from __future__ import annotations

from datetime import timedelta
from time import perf_counter
from typing import Any

import pytest
from engine_hub import EPOCH, NEVER, Hub, Status

from durable_ext.errors import SubOrchestrationFailedError
from durable_ext.history import (
    EventRaised,
    ExecutionResumed,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
    OrchestratorCompleted,
    OrchestratorStarted,
    TaskCompleted,
    TaskScheduled,
)


def two_steps(context: Any) -> Any:
    first = yield context.call_activity("slow", 1)
    return [first, (yield context.call_activity("echo", 2))]


def hub(**more: Any) -> Hub:
    about = {
        "activities": {"slow": lambda value: value, "echo": lambda value: value, "never": lambda value: NEVER},
        "durations": {"slow": 10},
        **more,
    }
    return Hub(**about)


# --- suspend and resume ------------------------------------------------------------------------------


def test_a_suspended_instance_records_what_arrives_and_moves_on_after_the_resume(form: Any) -> None:
    played = hub()
    instance = played.start(form(two_steps))
    played.suspend("lunch", at=5)
    played.run()
    assert instance.status is Status.Suspended
    assert instance.turns[-2].output == "lunch"
    assert instance.turns[-2].status_changed
    assert len(instance.recorded(TaskCompleted)) == 1
    assert len(instance.work) == 1
    played.resume(at=20)
    played.run()
    assert instance.output == [1, 2]


def test_the_reason_of_a_suspension_is_the_output_until_the_resume(form: Any) -> None:
    played = hub()
    instance = played.start(form(two_steps))
    played.suspend("lunch", at=5)
    played.resume(at=6)
    played.run(until=6)
    assert [turn.output for turn in instance.turns] == [None, "lunch", None]
    assert [turn.runtime_status for turn in instance.turns] == [Status.Running, Status.Suspended, Status.Running]


def test_suspending_the_suspended_and_resuming_the_running_leaves_no_trace(form: Any) -> None:
    played = hub()
    instance = played.start(form(two_steps))
    played.resume(at=1)
    played.suspend("first", at=2)
    played.suspend("second", at=3)
    played.run(until=4)
    assert instance.status is Status.Suspended
    assert instance.turns[-1].output == "first"
    assert len(instance.recorded(ExecutionSuspended)) == 1


def test_of_two_outcomes_while_suspended_the_first_counts(form: Any) -> None:
    played = hub()
    instance = played.start(form(two_steps))
    played.suspend(at=5)
    played.run()
    again = TaskCompleted(timestamp=EPOCH, task_scheduled_id=0, result="9")
    assert not instance.awaits(again)
    assert again not in instance.advance([again]).events
    played.resume(at=20)
    played.run()
    assert instance.output == [1, 2]


def test_outcomes_while_suspended_are_taken_in_time_proportional_to_their_number() -> None:
    def orchestrator(context: Any) -> Any:
        yield context.task_all([context.call_activity("never") for _ in range(20_000)])

    played = hub(check=False)
    instance = played.start(orchestrator)
    played.suspend(at=1)
    played.run()
    outcomes = [TaskCompleted(timestamp=EPOCH, task_scheduled_id=n, result="1") for n in range(20_000)]
    began = perf_counter()
    assert len(instance.advance(outcomes).events) == 20_002
    assert not any(instance.awaits(each) for each in outcomes)
    assert perf_counter() - began < 10  # tens of milliseconds; a look at each held one for each new one takes a minute


def test_a_suspension_that_comes_with_the_start_comes_before_the_code(form: Any) -> None:
    played = hub()
    instance = played.start(form(two_steps))
    played.suspend()
    played.run()
    assert instance.status is Status.Suspended
    assert instance.output == "wait"
    assert instance.kinds == [
        "OrchestratorStarted",
        "ExecutionStarted",
        "ExecutionSuspended",
        "OrchestratorCompleted",
    ]
    assert instance.turns[0].status_changed
    played.resume(at=20)
    played.run(until=20)
    assert [item.name for item in instance.work] == ["slow"]
    played.run()
    assert instance.status is Status.Completed


@pytest.mark.parametrize("cold", [False, True])
def test_the_code_of_an_instance_suspended_with_its_start_begins_at_the_time_of_the_resume(
    form: Any, cold: bool
) -> None:
    def orchestrator(context: Any) -> Any:
        began = context.current_utc_datetime
        yield context.create_timer(timedelta(seconds=1))
        return [str(began), (yield context.wait_for_external_event("n"))]

    played = hub(cold=cold)
    instance = played.start(form(orchestrator))
    played.suspend()
    played.raise_event("n", 1)
    played.raise_event("n", 2, at=10)
    played.resume(at=20)
    played.run()
    assert instance.output == [str(EPOCH + timedelta(seconds=20)), 1]


def test_a_suspension_that_is_over_with_the_start_leaves_the_code_to_begin(form: Any) -> None:
    played = hub()
    instance = played.start(form(two_steps))
    for control in (played.suspend, played.resume, played.suspend, played.resume, played.resume):
        control()
    played.run(until=0)
    assert instance.status is Status.Running
    assert [item.name for item in instance.work] == ["slow"]
    assert instance.kinds[2:3] == ["TaskScheduled"], "what was over before the code began leaves no trace"
    played.run()
    assert instance.status is Status.Completed


@pytest.mark.parametrize("cold", [False, True])
def test_a_start_suspended_again_after_a_resume_waits_for_the_next(form: Any, cold: bool) -> None:
    def orchestrator(context: Any) -> Any:
        return (yield context.wait_for_external_event("n"))

    played = hub(cold=cold)
    instance = played.start(form(orchestrator))
    for control in (played.suspend, played.resume, played.suspend):
        control()
    played.raise_event("n", 1, at=5)
    played.run()
    assert instance.status is Status.Suspended
    assert [event.input for event in instance.kept] == ["1"], "the code does not wait for it yet"
    played.resume(at=9)
    played.run()
    assert instance.output == 1


@pytest.mark.parametrize("tail", [[], ["TaskScheduled"]])
def test_a_suspension_recorded_behind_code_that_had_begun_is_understood(form: Any, tail: list[str]) -> None:
    """Other releases let the code begin first: its calls stand behind the suspension that came with the start."""

    def waits(context: Any) -> Any:
        if tail:
            return (yield context.call_activity("slow"))
        return (yield context.wait_for_external_event("n"))

    played = hub()
    instance = played.start(form(waits))
    started = played._due[0][2].event
    calls = [TaskScheduled(timestamp=EPOCH, event_id=0, name="slow")] if tail else []
    instance.history = [
        OrchestratorStarted(timestamp=EPOCH),
        started,
        ExecutionSuspended(timestamp=EPOCH),
        *calls,
        OrchestratorCompleted(timestamp=EPOCH),
    ]
    session = instance.replayed()
    assert session.non_determinism is None
    assert session.runtime_status is Status.Suspended
    answer = (
        TaskCompleted(timestamp=EPOCH, task_scheduled_id=0, result="7")
        if tail
        else EventRaised(timestamp=EPOCH, name="n", input="7")
    )
    turn = session.advance(EPOCH, [answer, ExecutionResumed(timestamp=EPOCH)])
    assert (turn.runtime_status, turn.output) == (Status.Completed, "7")
    assert not turn.work


def test_a_generation_suspended_behind_its_beginning_has_begun_for_whoever_replays_it(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        first = yield context.wait_for_external_event("n")
        if context.get_input() is None:
            context.continue_as_new([first, str(context.current_utc_datetime)])
            return None
        return [*context.get_input(), first]

    for cold in (False, True):
        played = hub(cold=cold)
        instance = played.start(form(orchestrator))
        played.raise_event("n", 1, at=5)
        played.suspend(at=5)
        played.raise_event("n", 2, at=6)
        played.run()
        assert len(instance.recorded(EventRaised)) == 1, "the code waits for it already"
        played.resume(at=7)
        played.run()
        assert instance.output == [1, str(EPOCH + timedelta(seconds=5)), 2]


# --- terminate ---------------------------------------------------------------------------------------


def test_terminate_ends_the_instance_with_its_reason(form: Any) -> None:
    played = hub()
    instance = played.start(form(two_steps))
    played.terminate("enough", at=5)
    played.run()
    assert instance.status is Status.Terminated
    assert instance.output == "enough"
    assert instance.kinds[-4:] == [
        "OrchestratorStarted",
        "ExecutionTerminated",
        "ExecutionCompleted",
        "OrchestratorCompleted",
    ]
    assert not instance.recorded(TaskCompleted)


def test_what_was_asked_for_before_terminate_in_the_same_turn_still_goes_out(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.wait_for_external_event("go")
        yield context.call_activity("never", "asked")

    played = hub()
    instance = played.start(form(orchestrator))
    played.raise_event("go", at=5)
    played.terminate(at=5)
    played.run()
    assert instance.status is Status.Terminated
    assert [item.input for item in instance.work] == ['"asked"']
    assert instance.kinds[-5:-1] == ["EventRaised", "ExecutionTerminated", "TaskScheduled", "ExecutionCompleted"]


def test_terminate_works_while_suspended(form: Any) -> None:
    played = hub()
    instance = played.start(form(two_steps))
    played.suspend(at=2)
    played.terminate("enough", at=5)
    played.run()
    assert (instance.status, instance.output) == (Status.Terminated, "enough")


def test_terminate_beats_continue_as_new_in_the_same_turn(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.wait_for_external_event("go")
        context.continue_as_new(None)

    played = hub()
    instance = played.start(form(orchestrator))
    played.raise_event("go", at=5)
    played.terminate("enough", at=5)
    played.run()
    assert (instance.status, instance.output) == (Status.Terminated, "enough")
    assert len(instance.recorded(ExecutionTerminated)) == 1
    assert instance.execution_id == "e0"


def test_the_end_beats_a_terminate_behind_it(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        return (yield context.wait_for_external_event("go"))

    played = hub()
    instance = played.start(form(orchestrator))
    played.raise_event("go", "done", at=5)
    played.terminate(at=5)
    played.run()
    assert (instance.status, instance.output) == (Status.Completed, "done")


@pytest.mark.parametrize("recurse", [False, True])
def test_terminate_reaches_children_if_asked_to(form: Any, recurse: bool) -> None:
    def child(context: Any) -> Any:
        yield context.call_activity("never")

    def orchestrator(context: Any) -> Any:
        context.start_orchestration("child", instance_id="own life")
        yield context.call_sub_orchestrator("quick")
        yield context.task_all([context.call_sub_orchestrator("child", instance_id=name) for name in ("a", "b")])

    played = hub(orchestrators={"child": form(child), "quick": lambda context: 1})
    instance = played.start(form(orchestrator))
    played.run()
    played.terminate("stop", at=5, recurse=recurse)
    played.run()
    assert instance.status is Status.Terminated
    expected = Status.Terminated if recurse else Status.Running
    assert {name: played.instances[name].status for name in ("a", "b", "own life", "e0:1")} == {
        "a": expected,
        "b": expected,
        "own life": Status.Running,
        "e0:1": Status.Completed,
    }


@pytest.mark.parametrize("cold", [False, True])
def test_what_is_terminated_with_its_start_never_begins(form: Any, cold: bool) -> None:
    called: list[Any] = []

    def orchestrator(context: Any) -> Any:
        called.append(context)
        yield context.call_activity("slow")

    played = hub(cold=cold)
    instance = played.start(form(orchestrator))
    played.suspend()
    played.raise_event("n", 1)
    played.terminate("never mind")
    played.run()
    assert (instance.status, instance.output) == (Status.Terminated, "never mind")
    assert instance.kinds == [
        "OrchestratorStarted",
        "ExecutionStarted",
        "ExecutionTerminated",
        "ExecutionCompleted",
        "OrchestratorCompleted",
    ]
    assert not instance.work
    assert not called
    assert instance.turns[0].status_changed


def test_what_is_terminated_while_suspended_from_its_start_never_begins(form: Any) -> None:
    called: list[Any] = []

    def orchestrator(context: Any) -> Any:
        called.append(context)
        yield context.call_activity("slow")

    played = hub()
    instance = played.start(form(orchestrator))
    played.suspend()
    played.terminate("never mind", at=5)
    played.run()
    assert (instance.status, instance.output) == (Status.Terminated, "never mind")
    assert not called


def test_a_child_terminated_with_its_start_tells_its_parent(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            yield context.call_sub_orchestrator("child", instance_id="a")
        except SubOrchestrationFailedError as error:
            return str(error)

    played = hub(orchestrators={"child": form(two_steps)})
    instance = played.start(form(orchestrator))
    played.run(until=-1)
    turn = instance.advance([played._due.pop()[2].event])
    for message in turn.messages:
        played.post(message)
    played.terminate("never mind", to="a")
    played.run()
    assert "was terminated: never mind" in instance.output


def test_a_child_called_in_the_turn_of_the_terminate_is_started_then_stopped(form: Any) -> None:
    def child(context: Any) -> Any:
        yield context.call_activity("never")

    def orchestrator(context: Any) -> Any:
        yield context.wait_for_external_event("go")
        yield context.call_sub_orchestrator("child", instance_id="a")

    played = hub(orchestrators={"child": form(child)})
    instance = played.start(form(orchestrator))
    played.raise_event("go", at=1)
    played.terminate(recurse=True, at=1)
    played.run()
    assert [type(message.event) for message in instance.messages] == [ExecutionStarted, ExecutionTerminated]
    assert played.instances["a"].status is Status.Terminated
