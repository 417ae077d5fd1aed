"""Code that no longer asks for what its history recorded."""

from __future__ import annotations

import asyncio
import functools
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from engine_hub import ACTIVITIES, EPOCH, Hub, Instance, Status, as_coroutine

from durable_ext.history import ExecutionStarted, TaskCompleted, TaskScheduled

HERE = Path(__file__).name


def deploy(old: Any, new: Any, *, until: float = 5, **about: Any) -> Instance:
    """Run `old` for a while, then put `new` in its place and go on."""
    hub = Hub(activities={**ACTIVITIES, "slow": lambda value: value}, durations={"slow": 10}, **about)
    hub.orchestrators["orchestrator"] = old
    instance = hub.start("orchestrator")
    hub.run(until=until)
    assert instance.status is Status.Running
    hub.orchestrators["orchestrator"] = new
    instance.evict()
    hub.run()
    return instance


def old(context: Any) -> Any:
    yield context.call_activity("echo", 1)
    yield context.call_activity("slow", 2)
    return (yield context.call_activity("echo", 3))


def refused(instance: Instance) -> str:
    """The message of an instance that failed for non-determinism."""
    assert instance.status is Status.Failed, instance.output
    assert instance.failure.error_type == "NonDeterminismError"
    assert instance.output == instance.failure.error_message
    assert instance.output.startswith("Non-Deterministic workflow detected: ")
    assert instance.output.endswith("Was the orchestrator code changed after the instance started?")
    return str(instance.output)


def test_a_changed_name_names_step_record_request_and_line(form: Any) -> None:
    def new(context: Any) -> Any:
        yield context.call_activity("echo", 1)
        yield context.call_activity("other", 2)

    text = refused(deploy(form(old), form(new)))
    assert (
        "at step 1 the history has a call of activity 'slow', but the code asked for a call of activity 'other'" in text
    )
    assert f"{HERE}:{new.__code__.co_firstlineno + 2})" in text


def test_the_status_names_the_file_and_only_the_history_where_it_lies(form: Any) -> None:
    def new(context: Any) -> Any:
        yield context.call_activity("other", 1)

    instance = deploy(form(old), form(new))
    line = new.__code__.co_firstlineno + 1
    assert f"({HERE}:{line})" in refused(instance)
    assert str(Path(__file__).parent) not in instance.output
    assert instance.failure.stack_trace == f"{__file__}:{line}"


def test_a_changed_kind_is_told(form: Any) -> None:
    def new(context: Any) -> Any:
        yield context.call_activity("echo", 1)
        yield context.create_timer(timedelta(seconds=1))

    text = refused(deploy(form(old), form(new)))
    assert "the history has a call of activity 'slow', but the code asked for a timer" in text
    assert f"{HERE}:{new.__code__.co_firstlineno + 2})" in text


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("create_timer", "wait", ("a timer", "the code has not asked for it: it waits")),
        ("call_sub_orchestrator", "call_activity", ("a call of sub-orchestrator 'slow'", "a call of activity 'slow'")),
        ("send_event", "create_timer", ("an event sent named 'slow'", "a timer")),
    ],
)
def test_every_kind_of_action_is_compared(form: Any, before: str, after: str, words: tuple[str, str]) -> None:
    def code(method: str, context: Any) -> Any:
        match method:
            case "create_timer":
                context.create_timer(timedelta(days=1))
            case "call_activity":
                context.call_activity("slow")
            case "call_sub_orchestrator":
                context.call_sub_orchestrator("slow", instance_id="kid")
            case "send_event":
                context.send_event("somebody", "slow")
        yield context.wait_for_external_event("go")

    about = {"orchestrators": {"slow": lambda context: 1}}
    before_, after_ = (form(functools.partial(code, method)) for method in (before, after))
    hub = Hub(**about)
    hub.orchestrators["orchestrator"] = before_
    instance = hub.start("orchestrator")
    hub.run(until=0)
    hub.orchestrators["orchestrator"] = after_
    instance.evict()
    hub.raise_event("go", at=1)
    hub.run()
    text = refused(instance)
    assert f"at step 0 the history has {words[0]}" in text
    assert words[1] in text


START, CALL = "a start of orchestration 'kid'", "a call of sub-orchestrator 'kid'"


@pytest.mark.parametrize(("was_awaited", "recorded", "asked"), [(False, START, CALL), (True, CALL, START)])
def test_a_start_turned_into_a_call_and_the_reverse_is_told(
    form: Any, was_awaited: bool, recorded: str, asked: str
) -> None:
    def awaiting(context: Any) -> Any:
        yield context.call_sub_orchestrator("kid", instance_id="k")

    def starting(context: Any) -> Any:
        context.start_orchestration("kid", instance_id="k")
        yield context.wait_for_external_event("go")

    def kid(context: Any) -> Any:
        yield context.wait_for_external_event("never")

    both = (awaiting, starting) if was_awaited else (starting, awaiting)
    hub = Hub(orchestrators={"kid": form(kid), "orchestrator": form(both[0])})
    instance = hub.start("orchestrator")
    hub.run()
    hub.orchestrators["orchestrator"] = form(both[1])
    instance.evict()
    hub.raise_event("go")
    hub.run()
    assert f"at step 0 the history has {recorded}, but the code asked for {asked}" in refused(instance)


def test_a_removed_call_is_told_by_the_one_in_its_place(form: Any) -> None:
    def new(context: Any) -> Any:
        yield context.call_activity("slow", 2)

    assert "at step 0 the history has a call of activity 'echo', but" in refused(deploy(form(old), form(new)))


def test_an_extra_call_before_recorded_ones_is_told(form: Any) -> None:
    def new(context: Any) -> Any:
        yield context.call_activity("echo", 1)
        yield context.call_activity("extra", 1)
        yield context.call_activity("slow", 2)

    text = refused(deploy(form(old), form(new)))
    assert (
        "at step 1 the history has a call of activity 'slow', but the code asked for a call of activity 'extra'" in text
    )


def test_an_extra_call_of_the_same_name_is_told_too(form: Any) -> None:
    def recorded(context: Any) -> Any:
        yield context.call_activity("echo", 1)
        yield context.call_activity("echo", 2)
        yield context.call_activity("slow")

    def new(context: Any) -> Any:
        both = [context.call_activity("echo", 1), context.call_activity("echo", 1.5)]
        yield context.task_all(both)
        yield context.call_activity("echo", 2)
        yield context.call_activity("slow")

    text = refused(deploy(form(recorded), form(new)))
    assert "at step 1 the history has nothing, but the code asked for a call of activity 'echo'" in text
    assert f"{HERE}:{new.__code__.co_firstlineno + 1})" in text


def test_code_that_ends_before_its_history_does_is_told(form: Any) -> None:
    def new(context: Any) -> Any:
        yield context.call_activity("echo", 1)
        return "early"

    text = refused(deploy(form(old), form(new)))
    assert "at step 1 the history has a call of activity 'slow', but the code has come to its end" in text


def test_an_error_of_the_new_code_is_not_hidden(form: Any) -> None:
    def new(context: Any) -> Any:
        yield context.call_activity("echo", 1)
        raise KeyError("a bug in the new code")

    text = refused(deploy(form(old), form(new)))
    assert "but the code raised KeyError: 'a bug in the new code'" in text


def test_code_that_waits_for_something_else_is_told_with_its_line(form: Any) -> None:
    def helper(context: Any) -> Any:
        yield context.wait_for_external_event("something else")

    def new(context: Any) -> Any:
        yield context.call_activity("echo", 1)
        yield from helper(context)

    text = refused(deploy(form(old), form(new)))
    assert "at step 1 the history has a call of activity 'slow', but the code has not asked for it: it waits" in text
    if form is not as_coroutine:
        assert f"{HERE}:{helper.__code__.co_firstlineno + 1})" in text


def test_the_line_of_a_waiting_coroutine_is_the_innermost() -> None:
    async def before(context: Any) -> Any:
        await context.call_activity("echo", 1)
        await context.call_activity("slow", 2)

    async def helper(context: Any) -> Any:
        await context.wait_for_external_event("something else")

    async def after(context: Any) -> Any:
        await context.call_activity("echo", 1)
        await helper(context)

    assert f"{HERE}:{helper.__code__.co_firstlineno + 1})" in refused(deploy(before, after))


def test_a_result_for_a_call_never_made_is_told(form: Any) -> None:
    hub = Hub(activities=ACTIVITIES)
    hub.orchestrators["orchestrator"] = form(old)
    instance = hub.start("orchestrator")
    hub.run(until=-1)
    instance.advance([hub._due[0][2].event])
    opened, closed = instance.history[0], instance.history[-1]
    stray = TaskCompleted(timestamp=EPOCH, task_scheduled_id=5, result="1")
    instance.history += [opened, stray, closed]
    instance.session = instance.replayed()
    text = refused_after(instance, TaskCompleted(timestamp=EPOCH, task_scheduled_id=0, result="1"))
    assert "at step 5 the history has an outcome, but the code has not asked for it" in text


def refused_after(instance: Instance, event: Any) -> str:
    instance.hub.check = False
    instance.advance([event])
    return refused(instance)


def test_user_code_cannot_catch_it(form: Any) -> None:
    def new(context: Any) -> Any:
        while True:
            try:
                yield context.call_activity("echo", 1)
                yield context.call_activity("other", 2)
            except BaseException:
                return "caught"

    refused(deploy(form(old), form(new)))


def test_nothing_but_the_end_is_recorded(form: Any) -> None:
    def new(context: Any) -> Any:
        yield context.call_activity("other", 1)
        yield context.call_activity("echo", 2)

    instance = deploy(form(old), form(new))
    last = instance.turns[-1]
    assert [type(event).__name__ for event in last.events] == [
        "OrchestratorStarted",
        "ExecutionCompleted",
        "OrchestratorCompleted",
    ]
    assert not last.work
    assert not last.messages
    assert last.status_changed


def test_a_child_that_breaks_tells_its_parent(form: Any) -> None:
    def parent(context: Any) -> Any:
        try:
            yield context.call_sub_orchestrator("child")
        except Exception as error:
            return error.type

    def child(context: Any) -> Any:
        yield context.call_activity("slow")

    def changed(context: Any) -> Any:
        yield context.call_activity("other")

    hub = Hub(activities={"slow": lambda value: value}, durations={"slow": 10}, orchestrators={"child": form(child)})
    instance = hub.start(form(parent))
    hub.run(until=1)
    hub.orchestrators["child"] = form(changed)
    hub.instances["e0:0"].evict()
    hub.run()
    assert instance.output == "NonDeterminismError"


@pytest.mark.parametrize("change", ["input", "case of the name", "due time"])
def test_what_is_not_compared_may_change(form: Any, change: str) -> None:
    def before(context: Any) -> Any:
        yield context.task_any([context.call_activity("slow", 1), context.create_timer(timedelta(days=1))])
        return "end"

    def after(context: Any) -> Any:
        name = "SLOW" if change == "case of the name" else "slow"
        delay = timedelta(days=2 if change == "due time" else 1)
        yield context.task_any(
            [context.call_activity(name, 2 if change == "input" else 1), context.create_timer(delay)]
        )
        return "end"

    assert deploy(form(before), form(after)).output == "end"


def test_calls_appended_after_everything_recorded_are_taken(form: Any) -> None:
    def new(context: Any) -> Any:
        yield context.call_activity("echo", 1)
        slow, appended = context.call_activity("slow", 2), context.call_activity("echo", "appended")
        yield slow
        return (yield appended)

    instance = deploy(form(old), form(new))
    assert instance.output == "appended"


def test_appended_calls_replay_too(form: Any) -> None:
    def new(context: Any) -> Any:
        yield context.call_activity("echo", 1)
        slow, appended = context.call_activity("slow", 2), context.call_activity("echo", "appended")
        yield slow
        yield context.create_timer(timedelta(minutes=1))
        yield context.create_timer(timedelta(minutes=1))
        return (yield appended)

    assert deploy(form(old), form(new), cold=True).output == "appended"
    assert deploy(form(old), form(new), merge=False).output == "appended"


def test_an_appended_call_while_suspended_is_taken_and_replays(form: Any) -> None:
    def new(context: Any) -> Any:
        yield context.call_activity("echo", 1)
        slow, appended = context.call_activity("slow", 2), context.call_activity("echo", "appended")
        yield slow
        return (yield appended)

    hub = Hub(activities={**ACTIVITIES, "slow": lambda value: value}, durations={"slow": 10}, cold=True)
    hub.orchestrators["orchestrator"] = form(old)
    instance = hub.start("orchestrator")
    hub.suspend(at=3)
    hub.resume(at=20)
    hub.run(until=2)
    hub.orchestrators["orchestrator"] = form(new)
    hub.run()
    assert instance.output == "appended"


def moved(instance: Instance, python: str) -> None:
    """As if the instance had begun on another Python."""
    instance.history = [
        msgspec.structs.replace(event, python=python) if isinstance(event, ExecutionStarted) else event
        for event in instance.history
    ]
    instance.evict()


@pytest.mark.parametrize("same", [True, False])
def test_for_a_coroutine_another_python_is_named_first(same: bool) -> None:
    async def before(context: Any) -> Any:
        await asyncio.gather(context.call_activity("slow", 1), context.call_activity("slow", 2))

    async def after(context: Any) -> Any:
        await asyncio.sleep(1)

    hub = Hub(activities={"slow": lambda value: value}, durations={"slow": 10})
    hub.orchestrators["orchestrator"] = before
    instance = hub.start("orchestrator")
    hub.run(until=1)
    hub.orchestrators["orchestrator"] = after
    moved(instance, hub.options.python if same else "3.2")
    hub.run()
    assert ("the instance began on Python 3.2 and this is Python 3." in refused(instance)) is not same


def test_for_a_generator_the_python_does_not_matter() -> None:
    def new(context: Any) -> Any:
        yield context.call_activity("other")

    hub = Hub(activities={**ACTIVITIES, "slow": lambda value: value}, durations={"slow": 10})
    hub.orchestrators["orchestrator"] = old
    instance = hub.start("orchestrator")
    hub.run(until=1)
    hub.orchestrators["orchestrator"] = new
    moved(instance, "3.2")
    hub.run()
    assert "Python" not in refused(instance)


def test_an_instance_that_began_on_another_python_goes_on_as_long_as_it_matches(form: Any) -> None:
    hub = Hub(activities={**ACTIVITIES, "slow": lambda value: value}, durations={"slow": 10})
    instance = hub.start(form(old))
    hub.run(until=1)
    moved(instance, "3.2")
    hub.run()
    assert instance.output == 3
    assert len(instance.recorded(TaskScheduled)) == 3


def test_the_line_of_a_call_made_inside_asyncio_is_the_users() -> None:
    async def before(context: Any) -> Any:
        await context.call_activity("slow")

    async def after(context: Any) -> Any:
        await asyncio.wait_for(context.wait_for_external_event("n"), 5)

    text = refused(deploy(before, after))
    assert "the code asked for a timer" in text
    assert f"{HERE}:{after.__code__.co_firstlineno + 1})" in text
