from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
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

    def __init__(self, now: datetime = START) -> None:
        self.time = now
        self._alarms: list[tuple[datetime, Callable[..., object], tuple[Any, ...]]] = []
        self.sleeping: asyncio.Queue[datetime] = asyncio.Queue()

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return (self.time - START).total_seconds()

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> FakeAlarm:
        due = self.time + timedelta(seconds=delay)
        self._alarms.append((due, callback, args))
        self.sleeping.put_nowait(due)
        return FakeAlarm()

    def move_to(self, when: datetime) -> None:
        self.time = when
        due, self._alarms = (
            [each for each in self._alarms if each[0] <= when],
            [each for each in self._alarms if each[0] > when],
        )
        for _, callback, args in due:
            callback(*args)


class FakeAlarm:
    """Is never asked twice: what goes off late has nobody who waits for it."""

    def cancel(self) -> None: ...


class Calls:
    """The runs of a timer function. `during` is called in each."""

    def __init__(self, during: Callable[[], Any] = lambda: None) -> None:
        self.runs: asyncio.Queue[Any] = asyncio.Queue()
        self._during = during

    async def next(self) -> Any:
        return await asyncio.wait_for(self.runs.get(), 10)

    def function(self, schedule: str = "00:00:20", **options: Any) -> TimerFunction:
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
    await timers.stop(10)
    invoker.close()


async def test_a_timer_runs_at_each_occurrence() -> None:
    clock, calls = FakeClock(), Calls()
    async with running(calls.function(), clock):
        for seconds in (20, 40, 60):
            assert await clock.sleeping.get() == START + timedelta(seconds=seconds)
            clock.move_to(START + timedelta(seconds=seconds))
            assert (await calls.next()).past_due is False


async def test_run_on_startup_runs_at_once() -> None:
    clock, calls = FakeClock(), Calls()
    async with running(calls.function(run_on_startup=True), clock):
        assert (await calls.next()).past_due is False
        assert await clock.sleeping.get() == START + timedelta(seconds=20)


async def test_a_run_that_outlasts_its_interval_is_made_up_once_and_never_overlaps() -> None:
    clock = FakeClock()

    def during() -> None:
        if calls.runs.qsize() == 1:
            clock.time = START + timedelta(minutes=5)

    calls = Calls(during)
    async with running(calls.function(), clock):
        await clock.sleeping.get()
        clock.move_to(START + timedelta(seconds=20))
        assert await clock.sleeping.get() == START + timedelta(minutes=5, seconds=20)
        assert [(await calls.next()).past_due for _ in range(2)] == [False, True]


async def test_an_occurrence_missed_while_the_host_was_down_is_past_due(tmp_path: Path) -> None:
    path = tmp_path / "timers.json"
    clock, calls = FakeClock(), Calls()
    async with running(calls.function(), clock, path):
        await clock.sleeping.get()

    clock = FakeClock(START + timedelta(hours=1))
    async with running(calls.function(), clock, path):
        made_up = await calls.next()
        assert await clock.sleeping.get() == START + timedelta(hours=1, seconds=20)

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


async def test_a_timer_looks_at_the_wall_clock_again_while_it_waits_long() -> None:
    clock, calls = FakeClock(), Calls()
    async with running(calls.function("1.00:00:00"), clock):
        await clock.sleeping.get()
        clock.move_to(START + timedelta(days=1))  # as if the machine had slept
        assert (await calls.next()).past_due is False


async def test_a_function_that_ignores_its_cancellation_does_not_hold_up_the_stop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, released, began = FakeClock(), asyncio.Event(), asyncio.Event()

    async def stubborn(timer: Any) -> None:
        began.set()
        while not released.is_set():
            with suppress(asyncio.CancelledError):
                await released.wait()

    function = TimerFunction(
        name="stubborn", function=stubborn, trigger_name="timer", schedule="00:00:20", run_on_startup=True
    )
    timers = Timers(read_timers([function]), Invoker(), memory=TimerMemory(None), clock=clock)
    timers.start()
    await began.wait()
    stop = asyncio.create_task(timers.stop(5))
    assert await clock.sleeping.get() == START + timedelta(seconds=5)
    clock.move_to(START + timedelta(seconds=5))
    await stop
    assert "timer stubborn was cancelled and goes on" in caplog.text
    released.set()
    await asyncio.gather(*timers._tasks, return_exceptions=True)


@pytest.mark.parametrize("raises", [True, False])
async def test_a_run_that_the_stop_has_cancelled_is_made_up_at_the_next_start(tmp_path: Path, raises: bool) -> None:
    began, clock, path = asyncio.Event(), FakeClock(), tmp_path / "timers.json"

    async def tick(timer: Any) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            if raises:
                raise RuntimeError("request aborted") from error

    function = TimerFunction(name="tick", function=tick, trigger_name="timer", schedule="00:00:20")
    async with running(function, clock, path):
        clock.move_to(await clock.sleeping.get())
        await began.wait()
    clock.time += timedelta(seconds=5)
    calls = Calls()
    async with running(calls.function(), clock, path):
        assert (await calls.next()).past_due


@pytest.mark.parametrize("kind", [KeyboardInterrupt, GeneratorExit, SystemExit])
async def test_whatever_a_run_raises_the_timer_goes_on(kind: type[BaseException]) -> None:
    clock = FakeClock()

    def during() -> None:
        raise kind("odd")

    calls = Calls(during)
    async with running(calls.function(), clock):
        for _ in range(2):
            clock.move_to(await clock.sleeping.get())
            await calls.next()


async def test_a_memory_that_cannot_be_written_does_not_end_the_timer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, calls = FakeClock(), Calls()
    async with running(calls.function(), clock, tmp_path / "no such directory" / "timers.json"):
        for seconds in (20, 40):
            await clock.sleeping.get()
            clock.move_to(START + timedelta(seconds=seconds))
            await calls.next()
    assert "cannot remember in" in caplog.text


async def test_a_broken_memory_only_forgets(tmp_path: Path) -> None:
    path = tmp_path / "timers.json"
    path.write_text("{")
    clock, calls = FakeClock(), Calls()
    async with running(calls.function(), clock, path):
        assert await clock.sleeping.get() == START + timedelta(seconds=20)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "null",
        "7",
        "[" * 100_000,
        '{"tick": null}',
        '{"tick": []}',
        '{"tick": {}}',
        '{"tick": {"next": null}}',
        '{"tick": {"next": 5}}',
        '{"tick": {"next": "soon"}}',
        '{"tick": {"next": "2023-01-01T00:00:00"}}',
        '{"tick": {"next": "2023-01-01T00:00:00+00:00", "last": 5}}',
    ],
)
async def test_an_odd_memory_is_forgotten_and_said_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    path = tmp_path / "timers.json"
    path.write_text(content)
    clock, calls = FakeClock(), Calls()
    async with running(calls.function(), clock, path):
        assert await clock.sleeping.get() == START + timedelta(seconds=20)
        clock.move_to(START + timedelta(seconds=20))
        assert (await calls.next()).past_due is False
        assert await clock.sleeping.get() == START + timedelta(seconds=40)
    assert len(caplog.records) == 1
    assert str(path) in caplog.text
    assert json.loads(path.read_text())["tick"]["next"] == (START + timedelta(seconds=40)).isoformat()


async def test_a_memory_that_is_no_file_is_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock, calls = FakeClock(), Calls()
    async with running(calls.function(), clock, tmp_path):
        await clock.sleeping.get()
        clock.move_to(START + timedelta(seconds=20))
        await calls.next()
        await clock.sleeping.get()
    assert "cannot be read" in caplog.text
    assert "cannot remember in" in caplog.text


async def test_an_odd_entry_spoils_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "timers.json"
    path.write_text('{"other": null, "tick": {"next": "2023-12-31T00:00:00+00:00"}}')
    clock, calls = FakeClock(), Calls()
    async with running(calls.function(), clock, path):
        assert (await calls.next()).past_due is True


async def test_a_timer_that_breaks_down_says_so_and_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(TimerMemory):
        def due(self, name: str) -> datetime | None:
            if not caplog.records:
                raise RuntimeError("no luck")
            return None

    clock, calls, invoker = FakeClock(), Calls(), Invoker()
    timers = Timers(read_timers([calls.function()]), invoker, memory=Broken(None), clock=clock)
    timers.start()
    assert await clock.sleeping.get() == START + timedelta(seconds=30)
    clock.move_to(START + timedelta(seconds=30))
    assert await clock.sleeping.get() == START + timedelta(seconds=50)
    clock.move_to(START + timedelta(seconds=50))
    await calls.next()
    await timers.stop(10)
    invoker.close()
    assert "timer tick broke down; it begins anew" in caplog.text


async def test_a_failing_run_is_logged_with_the_users_traceback_and_the_timer_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def during() -> None:
        raise ValueError("no luck")

    clock, calls = FakeClock(), Calls(during)
    with caplog.at_level(logging.ERROR):
        async with running(calls.function(), clock):
            for seconds in (20, 40):
                await clock.sleeping.get()
                clock.move_to(START + timedelta(seconds=seconds))
                await calls.next()
            await clock.sleeping.get()
    assert len(caplog.records) == 2
    assert "ValueError: no luck" in caplog.text
    assert "invocation.py" not in caplog.text


def test_a_wrong_schedule_names_the_function() -> None:
    with pytest.raises(ConfigurationError, match=r"timer function tick: schedule 'often'"):
        read_timers([Calls().function("often")])
