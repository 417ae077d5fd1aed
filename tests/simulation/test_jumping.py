"""A simulated day takes milliseconds, and a hang is a failure."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from time import perf_counter

import pytest
from jumping import EPOCH, HangError, JumpingClock, run

from durable_ext.clock import sleep, timeout


def test_a_day_passes_at_once() -> None:
    async def main(clock: JumpingClock) -> None:
        for _ in range(24):
            await sleep(clock, 3600)
        assert (clock.now(), clock.monotonic()) == (EPOCH + timedelta(days=1), 86400)

    before = perf_counter()
    run(main, limit=86401)
    assert perf_counter() - before < 5


def test_what_is_due_comes_in_the_order_of_its_time() -> None:
    async def main(clock: JumpingClock) -> list[str]:
        order: list[str] = []
        for delay, name in ((3, "c"), (1, "a"), (2, "b")):
            clock.call_later(delay, order.append, name)
        clock.call_later(2.5, order.append, "never").cancel()
        await asyncio.sleep(10)
        return order

    assert run(main) == ["a", "b", "c"]


def test_no_time_passes_while_there_is_something_to_do() -> None:
    async def main(clock: JumpingClock) -> float:
        clock.call_later(1, lambda: None)
        for _ in range(1000):
            await asyncio.sleep(0)
        return clock.monotonic()

    assert run(main) == 0


def test_a_timeout_of_the_clock_is_one_of_the_loop() -> None:
    async def main(clock: JumpingClock) -> float:
        with pytest.raises(TimeoutError):
            async with timeout(clock, 5):
                await asyncio.Event().wait()
        return clock.monotonic()

    assert run(main) == 5


def test_waiting_for_what_never_comes_is_told() -> None:
    async def main(clock: JumpingClock) -> None:
        await asyncio.Event().wait()

    with pytest.raises(HangError, match="nothing is due"):
        run(main)


def test_running_for_ever_is_told() -> None:
    async def main(clock: JumpingClock) -> None:
        while True:
            await sleep(clock, 1)

    with pytest.raises(HangError, match="after 100 simulated seconds"):
        run(main, limit=100)


def test_what_is_left_running_is_cancelled() -> None:
    ended: list[str] = []

    async def stubborn(clock: JumpingClock) -> None:
        for each in ("once", "twice"):
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(each)
                await sleep(clock, 1)

    async def main(clock: JumpingClock) -> None:
        asyncio.get_running_loop().create_task(stubborn(clock)).add_done_callback(lambda _: ended.append("done"))
        await asyncio.sleep(0)

    run(main)
    assert ended == ["once", "done"]


def test_being_busy_for_ever_is_told() -> None:
    async def main(clock: JumpingClock) -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(HangError, match="busy for ever"):
        run(main)
