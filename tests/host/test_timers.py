from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_ext.errors import ConfigurationError
from durable_ext.host.invocation import Invoker
from durable_ext.host.loader import TimerFunction
from durable_ext.host.timers import TimerMemory, Timers, read_timers

START = datetime(2024, 1, 1, tzinfo=UTC)


class FakeClock:
    """Time that only the test moves."""

    def __init__(self) -> None:
        self.time = START
        self._moved = asyncio.Condition()
        self.sleeping: asyncio.Queue[datetime] = asyncio.Queue()

    def now(self) -> datetime:
        return self.time

    async def sleep_until(self, when: datetime) -> None:
        self.sleeping.put_nowait(when)
        async with self._moved:
            await self._moved.wait_for(lambda: self.time >= when)

    async def move_to(self, when: datetime) -> None:
        async with self._moved:
            self.time = when
            self._moved.notify_all()


class Calls:
    """The runs of a timer function. `during` is called in each."""

    def __init__(self, during: Callable[[], Any] = lambda: None) -> None:
        self.runs: asyncio.Queue[Any] = asyncio.Queue()
        self._during = during

    async def next(self) -> Any:
        return await asyncio.wait_for(self.runs.get(), 10)

    def function(self, schedule: str = "00:01:00", **options: Any) -> TimerFunction:
        async def tick(timer: Any) -> None:
            self.runs.put_nowait(timer)
            self._during()

        return TimerFunction(name="tick", function=tick, trigger_name="timer", schedule=schedule, **options)


@asynccontextmanager
async def running(function: TimerFunction, clock: FakeClock, path: Path | None = None) -> AsyncIterator[None]:
    invoker = Invoker()
    timers = Timers(read_timers([function]), invoker, memory=TimerMemory(path), clock=clock)
    timers.start()
    yield
    await timers.stop()
    invoker.close()


async def test_a_timer_runs_at_each_occurrence() -> None:
    clock, calls = FakeClock(), Calls()
    async with running(calls.function(), clock):
        for minute in (1, 2, 3):
            assert await clock.sleeping.get() == START + timedelta(minutes=minute)
            await clock.move_to(START + timedelta(minutes=minute))
            assert (await calls.next()).past_due is False


async def test_run_on_startup_runs_at_once() -> None:
    clock, calls = FakeClock(), Calls()
    async with running(calls.function(run_on_startup=True), clock):
        assert (await calls.next()).past_due is False
        assert await clock.sleeping.get() == START + timedelta(minutes=1)


async def test_a_run_that_outlasts_its_interval_is_made_up_once_and_never_overlaps() -> None:
    clock = FakeClock()

    def during() -> None:
        if calls.runs.qsize() == 1:
            clock.time = START + timedelta(minutes=5)

    calls = Calls(during)
    async with running(calls.function(), clock):
        await clock.sleeping.get()
        await clock.move_to(START + timedelta(minutes=1))
        assert await clock.sleeping.get() == START + timedelta(minutes=2)
        assert await clock.sleeping.get() == START + timedelta(minutes=6)
        assert [(await calls.next()).past_due for _ in range(2)] == [False, True]


async def test_an_occurrence_missed_while_the_host_was_down_is_past_due(tmp_path: Path) -> None:
    path = tmp_path / "timers.json"
    clock, calls = FakeClock(), Calls()
    async with running(calls.function(), clock, path):
        await clock.sleeping.get()

    clock.time = START + timedelta(hours=1)
    async with running(calls.function(), clock, path):
        made_up = await calls.next()
        assert await clock.sleeping.get() == START + timedelta(hours=1, minutes=1)

    assert made_up.past_due is True
    assert json.loads(path.read_text())["tick"]["last"] == clock.time.isoformat()


async def test_without_monitor_a_missed_occurrence_is_not_made_up(tmp_path: Path) -> None:
    path = tmp_path / "timers.json"
    clock, calls = FakeClock(), Calls()
    for _ in range(2):
        async with running(calls.function(use_monitor=False), clock, path):
            await clock.sleeping.get()
        clock.time += timedelta(hours=1)
    assert calls.runs.empty()


async def test_a_broken_memory_only_forgets(tmp_path: Path) -> None:
    path = tmp_path / "timers.json"
    path.write_text("{")
    clock, calls = FakeClock(), Calls()
    async with running(calls.function(), clock, path):
        assert await clock.sleeping.get() == START + timedelta(minutes=1)


async def test_a_failing_run_is_logged_with_the_users_traceback_and_the_timer_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def during() -> None:
        raise ValueError("no luck")

    clock, calls = FakeClock(), Calls(during)
    with caplog.at_level(logging.ERROR):
        async with running(calls.function(), clock):
            for minute in (1, 2):
                await clock.sleeping.get()
                await clock.move_to(START + timedelta(minutes=minute))
                await calls.next()
            await clock.sleeping.get()
    assert len(caplog.records) == 2
    assert "ValueError: no luck" in caplog.text
    assert "invocation.py" not in caplog.text


def test_a_wrong_schedule_names_the_function() -> None:
    with pytest.raises(ConfigurationError, match=r"timer function tick: schedule 'often'"):
        read_timers([Calls().function("often")])
