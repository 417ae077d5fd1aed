"""Orchestrators that do not come back are broken off; everything else goes on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from runtime_app import App

from durable_ext.history import OrchestrationRuntimeStatus
from durable_ext.runtime.watchdog import TurnTooLongError, bounded

HERE = Path(__file__).name
LIMIT = 0.3


def spin() -> None:
    while True:
        pass


def plain(context: Any) -> None:
    spin()


def generator(context: Any) -> Any:
    yield context.call_activity("echo", 1)
    spin()


async def coroutine(context: Any) -> None:
    await context.call_activity("echo", 1)
    spin()


async def in_a_task(context: Any) -> None:
    async def spinning() -> None:
        spin()

    task = asyncio.create_task(spinning())
    await context.wait_for_external_event("never")
    await task


def swallowing(context: Any) -> Any:
    while True:
        with contextlib.suppress(Exception):
            spin()


def healthy(context: Any) -> Any:
    return (yield context.call_activity("echo", 1))


def echo(value: Any) -> Any:
    return value


@pytest.mark.parametrize("orchestrator", [plain, generator, coroutine, in_a_task, swallowing])
async def test_code_that_does_not_come_back_fails_its_instance_and_nobody_else(app: App, orchestrator: Any) -> None:
    app.turn_limit = LIMIT
    for each in (orchestrator, healthy):
        app.orchestrator(each)
    app.activity(echo)
    await app.work()
    await app.start(orchestrator.__name__, "bad")
    await app.start("healthy", "good")
    bad, good = await app.end("bad"), await app.end("good")
    assert good.runtime_status is OrchestrationRuntimeStatus.Completed
    assert bad.runtime_status is OrchestrationRuntimeStatus.Failed
    assert bad.output is not None
    assert "ran for more than 0.3 s without waiting, and was broken off" in bad.output
    assert f"{HERE}:" in bad.output


async def test_code_that_does_not_end_when_it_leaves_memory_is_left(app: App, caplog: pytest.LogCaptureFixture) -> None:
    app.turn_limit = LIMIT

    @app.orchestrator
    def clinging(context: Any) -> Any:
        try:
            yield context.wait_for_external_event("never")
        finally:
            spin()

    worker = await app.work()
    await app.start("clinging", "a")
    await app.until("a", lambda record: record.runtime_status is OrchestrationRuntimeStatus.Running)
    with caplog.at_level(logging.WARNING):
        await worker.stop(1)
    assert "on its way out of memory" in caplog.text


def test_nothing_is_raised_once_the_step_is_over() -> None:
    for _ in range(5):
        with pytest.raises(TurnTooLongError):
            bounded(0.05, spin)
        end = monotonic() + 0.2
        while monotonic() < end:
            pass


def test_what_comes_back_in_time_returns_or_raises_as_it_does() -> None:
    assert bounded(5, lambda value: value, 1) == 1
    with pytest.raises(ZeroDivisionError):
        bounded(5, lambda: 1 / 0)
