"""What reaches outside of an `async def` orchestrator raises at that line and says what to use instead."""

from __future__ import annotations

import asyncio
import inspect
import socket
from typing import Any

import pytest
from engine_hub import Hub, play

from durable_ext.errors import OrchestratorCodeError

SLOW = {"activities": {"slow": lambda value: value}, "durations": {"slow": 10}}


async def use_to_thread() -> None:
    await asyncio.to_thread(print)


async def use_run_in_executor() -> None:
    await asyncio.get_running_loop().run_in_executor(None, print)


async def use_open_connection() -> None:
    await asyncio.open_connection("localhost", 80)


async def use_start_server() -> None:
    await asyncio.start_server(print, "localhost", 0)


async def use_getaddrinfo() -> None:
    await asyncio.get_running_loop().getaddrinfo("localhost", 80)


async def use_subprocess() -> None:
    await asyncio.create_subprocess_exec("true")


async def use_subprocess_shell() -> None:
    await asyncio.create_subprocess_shell("true")


async def use_call_soon_threadsafe() -> None:
    asyncio.get_running_loop().call_soon_threadsafe(print)


async def use_run_coroutine_threadsafe() -> None:
    made = asyncio.sleep(0)
    try:
        asyncio.run_coroutine_threadsafe(made, asyncio.get_running_loop())
    finally:
        made.close()


async def use_reader() -> None:
    asyncio.get_running_loop().add_reader(0, print)


async def use_socket() -> None:
    with socket.socket() as plain:
        await asyncio.get_running_loop().sock_connect(plain, ("localhost", 80))


async def use_signal() -> None:
    asyncio.get_running_loop().add_signal_handler(2, print)


async def use_task_factory() -> None:
    asyncio.get_running_loop().set_task_factory(None)


async def use_run_until_complete() -> None:
    asyncio.get_running_loop().run_until_complete(None)  # type: ignore[arg-type]  # refused before it looks


REFUSED = {
    use_to_thread: "it would start a thread; do it in an activity: `await context.call_activity(...)`",
    use_run_in_executor: "it would start a thread",
    use_open_connection: "it would do I/O, which cannot be replayed; do it in an activity",
    use_start_server: "it would do I/O",
    use_getaddrinfo: "it would do I/O",
    use_subprocess: "it would do I/O",
    use_subprocess_shell: "it would do I/O",
    use_call_soon_threadsafe: "let them raise an external event",
    use_run_coroutine_threadsafe: "let them raise an external event",
    use_reader: "it would do I/O",
    use_socket: "it would do I/O",
    use_signal: "wait for an external event",
    use_task_factory: "task scheduling is the engine's",
    use_run_until_complete: "`await` the coroutine",
}


@pytest.mark.parametrize("use", REFUSED, ids=lambda use: use.__name__)
def test_what_reaches_outside_raises_at_that_line_and_names_the_way_out(use: Any) -> None:
    lines: list[str] = []

    async def orchestrator(context: Any) -> Any:
        try:
            await use()
        except OrchestratorCodeError as error:
            frames = inspect.getinnerframes(error.__traceback__)  # type: ignore[arg-type]  # what was raised has one
            lines.extend(frame.function for frame in frames if frame.filename == __file__)
            return str(error)

    text = play(orchestrator).output
    assert REFUSED[use] in text
    assert text.startswith("an orchestrator cannot use the event loop's ")
    assert lines[1] == use.__name__


@pytest.mark.parametrize("use", REFUSED, ids=lambda use: use.__name__)
def test_uncaught_it_fails_the_instance_with_that_line_in_the_traceback(use: Any) -> None:
    async def orchestrator(context: Any) -> Any:
        await use()

    instance = play(orchestrator)
    assert instance.failure.error_type == "OrchestratorCodeError"
    body = inspect.getsource(use).splitlines()
    assert any(line.strip() and line.strip() in (instance.failure.stack_trace or "") for line in body[1:])


class Foreign:
    """An awaitable of some other library."""

    def __await__(self) -> Any:
        yield self


def test_awaiting_something_foreign_raises_at_that_line() -> None:
    async def orchestrator(context: Any) -> Any:
        line = inspect.currentframe().f_lineno  # type: ignore[union-attr]
        try:
            await Foreign()
        except OrchestratorCodeError as error:
            frames = inspect.getinnerframes(error.__traceback__)  # type: ignore[arg-type]  # what was raised has one
            here = next(frame for frame in frames if frame.function == "orchestrator")
            return [str(error), here.lineno - line]

    for text, distance in (play(orchestrator).output,):
        assert "Foreign object" in text
        assert "do it in an activity" in text
        assert distance == 2


def test_a_future_of_another_loop_raises_each_time_it_is_awaited() -> None:
    other = asyncio.new_event_loop()

    async def orchestrator(context: Any) -> Any:
        future, seen = other.create_future(), []
        for _ in range(3):
            try:
                await future
            except OrchestratorCodeError as error:
                seen.append("cannot await" in str(error))
        return [*seen, await context.call_activity("echo", "goes on")]

    assert play(orchestrator).output == [True, True, True, "goes on"]
    other.close()


def test_a_foreign_future_inside_a_task_raises_there() -> None:
    other = asyncio.new_event_loop()

    async def step(future: Any) -> None:
        await future

    async def orchestrator(context: Any) -> Any:
        results = await asyncio.gather(step(other.create_future()), step(Foreign()), return_exceptions=True)
        return [type(each).__name__ for each in results]

    assert play(orchestrator).output == ["OrchestratorCodeError"] * 2
    other.close()


def test_a_future_of_another_orchestrator_is_foreign() -> None:
    kept: list[Any] = []

    async def lender(context: Any) -> Any:
        kept.append(context.wait_for_external_event("never"))
        await kept[0]

    async def orchestrator(context: Any) -> Any:
        await kept[0]

    hub = Hub(check=False)
    hub.start(lender, instance_id="lender")
    instance = hub.start(orchestrator)
    hub.run()
    assert instance.failure.error_type == "OrchestratorCodeError"
