"""Orchestrators written the wrong way: each error comes at the line at fault and names the remedy."""

# ruff: noqa: SIM105, RUF006 - swallowing loops and tasks nobody keeps are what is tested here

from __future__ import annotations

import asyncio
import functools
import inspect
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from engine_hub import Status, play

from durable_ext.engine import drivers
from durable_ext.errors import OrchestratorCodeError


def helper(context: Any) -> Any:
    yield context.call_activity("echo")


@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (lambda context: None, "yield what context.call_activity"),
        (lambda context: 5, "yield what context.call_activity"),
        (lambda context: [context.call_activity("echo")], "task_all"),
        (lambda context: (), "task_all"),
        (lambda context: {1}, "task_all"),
        (helper, "yield from"),
        (lambda context: asyncio.Future.__await__, "yield what"),
    ],
    ids=["none", "int", "list", "tuple", "set", "generator", "function"],
)
def test_yielding_something_else_raises_at_that_line(make: Any, remedy: str) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            yield make(context)
        except OrchestratorCodeError as error:
            return str(error)

    text = play(orchestrator).output
    assert "which is not a durable task" in text
    assert remedy in text


def test_yielding_a_coroutine_raises_at_that_line() -> None:
    async def step() -> None: ...

    def orchestrator(context: Any) -> Any:
        coroutine = step()
        try:
            yield coroutine
        except OrchestratorCodeError as error:
            coroutine.close()
            return str(error)

    assert "`async def`, with `await`" in play(orchestrator).output


def test_uncaught_it_fails_the_instance_and_the_traceback_shows_the_line() -> None:
    def orchestrator(context: Any) -> Any:
        yield [context.call_activity("echo")]

    instance = play(orchestrator)
    assert instance.status is Status.Failed
    assert instance.failure.error_type == "OrchestratorCodeError"
    assert 'yield [context.call_activity("echo")]' in (instance.failure.stack_trace or "")


def test_code_that_swallows_the_error_for_ever_is_ended() -> None:
    def orchestrator(context: Any) -> Any:
        while True:
            try:
                yield 5
            except Exception:
                pass

    instance = play(orchestrator, check=False)
    assert instance.status is Status.Failed
    assert instance.failure.error_type == "OrchestratorCodeError"


def test_a_coroutine_that_swallows_the_error_for_ever_is_ended() -> None:
    foreign = asyncio.new_event_loop()

    async def orchestrator(context: Any) -> Any:
        future = foreign.create_future()
        while True:
            try:
                await future
            except Exception:
                pass

    instance = play(orchestrator, check=False)
    foreign.close()
    assert instance.status is Status.Failed
    assert instance.failure.error_type == "OrchestratorCodeError"


def test_an_async_generator_fails_and_is_told_both_ways_out() -> None:
    async def orchestrator(context: Any) -> Any:
        yield context.call_activity("echo")

    instance = play(orchestrator)
    assert instance.status is Status.Failed
    assert "cannot be an async generator" in instance.output
    assert "`async def` and `await`" in instance.output


def test_a_plain_function_completes_with_what_it_returns() -> None:
    def orchestrator(context: Any) -> Any:
        context.call_activity("never", 1)
        return context.get_input() + 1

    instance = play(orchestrator, 41)
    assert instance.output == 42
    assert [item.name for item in instance.work] == ["never"]


def test_a_plain_function_can_continue_as_new() -> None:
    def orchestrator(context: Any) -> Any:
        if context.get_input() == 3:
            return "end"
        context.continue_as_new(context.get_input() + 1)

    assert play(orchestrator, 0).output == "end"


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


class Callable:
    def __call__(self, context: Any) -> Any:
        return (yield context.call_activity("echo", 1)) + 1


class AsyncCallable:
    async def __call__(self, context: Any) -> Any:
        return await context.call_activity("echo", 1) + 1


def generator(context: Any) -> Any:
    return (yield context.call_activity("echo", 1)) + 1


async def coroutine(context: Any) -> Any:
    return await context.call_activity("echo", 1) + 1


@pytest.mark.parametrize(
    "orchestrator",
    [
        decorated(generator),
        decorated(coroutine),
        functools.partial(generator),
        functools.partial(coroutine),
        Callable(),
        AsyncCallable(),
        Callable().__call__,
        lambda context: generator(context),
        lambda context: coroutine(context),
    ],
    ids=[
        "wrapped generator",
        "wrapped coroutine",
        "partial generator",
        "partial coroutine",
        "callable",
        "async callable",
        "method",
        "lambda generator",
        "lambda coroutine",
    ],
)
def test_what_the_function_returns_decides_how_it_is_run(orchestrator: Any) -> None:
    assert play(orchestrator).output == 2


def uses_asyncio(context: Any) -> Any:
    try:
        asyncio.get_running_loop().create_task(asyncio.sleep(0))
    except OrchestratorCodeError as error:
        return str(error)
    yield


@pytest.mark.filterwarnings("ignore:coroutine 'sleep' was never awaited")
@pytest.mark.parametrize("wrap", [lambda function: function, decorated], ids=["plain", "wrapped"])
def test_asyncio_in_a_generator_raises_and_names_async_def(wrap: Any) -> None:
    assert "orchestrators written as `async def`" in play(wrap(uses_asyncio)).output


def test_asyncio_in_a_plain_function_raises_too() -> None:
    def orchestrator(context: Any) -> Any:
        asyncio.get_running_loop().call_soon(print)

    instance = play(orchestrator)
    assert instance.status is Status.Failed
    assert "call_soon()" in instance.output


@pytest.mark.parametrize("name", ["run_in_executor", "getaddrinfo", "call_soon_threadsafe", "create_connection"])
def test_every_use_of_the_loop_in_a_generator_raises(name: str) -> None:
    def orchestrator(context: Any) -> Any:
        getattr(asyncio.get_running_loop(), name)(None, print)
        yield

    instance = play(orchestrator)
    assert instance.failure.error_type == "OrchestratorCodeError"
    assert f"{name}()" in instance.output


def test_asyncio_run_in_an_orchestrator_raises(form: Any) -> None:
    async def inner() -> None: ...

    def orchestrator(context: Any) -> Any:
        made = inner()
        try:
            asyncio.run(made)
        except RuntimeError as error:
            made.close()
            return str(error)
        yield

    assert "running event loop" in play(form(orchestrator)).output


def test_a_durable_task_given_to_create_task_raises_at_that_line() -> None:
    async def orchestrator(context: Any) -> Any:
        line = inspect.currentframe().f_lineno  # type: ignore[union-attr]
        try:
            asyncio.create_task(context.call_activity("echo"))
        except TypeError as error:
            frames = inspect.getinnerframes(error.__traceback__)  # type: ignore[arg-type]  # what was raised has one
            return [str(error), frames[0].lineno - line]

    text, distance = play(orchestrator).output
    assert "a coroutine was expected" in text
    assert distance == 2


def test_an_orchestrator_of_the_wrong_arity_fails_readably() -> None:
    def orchestrator() -> Any:
        yield

    instance = play(orchestrator)
    assert instance.status is Status.Failed
    assert "positional argument" in instance.output


def test_waiting_for_a_cancelled_timer_raises_instead_of_waiting_for_ever() -> None:
    def orchestrator(context: Any) -> Any:
        timer = context.create_timer(timedelta(hours=1))
        timer.cancel()
        said = []
        try:
            yield timer
        except OrchestratorCodeError as error:
            said.append(str(error))
        try:
            yield context.task_all([timer, context.call_activity("echo")])
        except ValueError as error:
            said.append(str(error))
        return said

    played = play(orchestrator)
    assert played.status is Status.Completed, played.output
    assert [said.rpartition(": ")[2] for said in played.output] == ["it would wait for ever"] * 2


@pytest.mark.parametrize("activity", ["boom", "echo"])
def test_a_loop_around_a_task_that_has_its_outcome_fails_the_instance_and_names_the_line(
    activity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drivers, "MAX_ANSWERS", 1_000)

    def orchestrator(context: Any) -> Any:
        task = context.call_activity(activity)
        while True:
            try:
                yield task
            except Exception:
                pass

    instance = play(orchestrator, check=False)
    instance.session.close()
    assert instance.status is Status.Failed
    assert instance.failure.error_type == "OrchestratorCodeError"
    line = orchestrator.__code__.co_firstlineno + 4
    assert f"have their outcome 1,000 times in a row ({Path(__file__).name}:{line})" in instance.output


def test_many_yields_of_tasks_that_have_their_outcomes_are_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drivers, "MAX_ANSWERS", 1_000)

    def orchestrator(context: Any) -> Any:
        tasks = [context.call_activity("echo", n) for n in range(900)]
        yield context.task_all(tasks)
        total = 0
        for task in tasks:
            total += yield task
        return total

    assert play(orchestrator, check=False).output == sum(range(900))
