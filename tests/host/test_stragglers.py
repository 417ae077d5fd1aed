from __future__ import annotations

import asyncio
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from durable_ext.host import stragglers as module
from durable_ext.host.invocation import Invoker
from durable_ext.host.loader import ServedFunction
from durable_ext.host.stragglers import describe, stragglers

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.05)


async def test_nobody_is_left_when_all_have_ended() -> None:
    assert await stragglers(HERE) == Counter()


async def test_what_ends_in_time_is_waited_for() -> None:
    ended = asyncio.create_task(asyncio.sleep(0))
    assert await stragglers(HERE) == Counter()
    assert ended.done()


async def test_calls_on_threads_are_named_by_function_and_line() -> None:
    release, invoker = threading.Event(), Invoker(2)

    def stuck(value: object) -> None:
        began.append(value)
        release.wait()

    began: list[object] = []
    function = ServedFunction(name="stuck", function=stuck, trigger_name="value")
    calls = [asyncio.ensure_future(invoker.call(function, None)) for _ in range(2)]
    while len(began) < 2:
        await asyncio.sleep(0.001)
    for call in calls:
        call.cancel()
    left = await stragglers(HERE)
    release.set()
    invoker.close()
    ((place, count),) = left.items()
    assert count == 2
    assert place.startswith("test_calls_on_threads_are_named_by_function_and_line.<locals>.stuck (")
    assert "test_stragglers.py:" in place
    assert describe(left) == f"{place} (2 calls)"


async def test_tasks_that_ignore_their_cancellation_are_named_by_function_and_line() -> None:
    release, invoker = asyncio.Event(), Invoker()

    async def stubborn(value: object) -> None:
        while not release.is_set():
            with suppress(asyncio.CancelledError):
                await release.wait()

    call = asyncio.create_task(
        invoker.call(ServedFunction(name="stubborn", function=stubborn, trigger_name="value"), None)
    )
    await asyncio.sleep(0)
    left = await stragglers(HERE)
    release.set()
    await call
    invoker.close()
    (place,) = left
    assert ".<locals>.stubborn (" in place
    assert "test_stragglers.py:" in place


def test_only_so_many_places_are_listed() -> None:
    left = Counter({f"place {number}": 100 - number for number in range(20)})
    assert describe(left).startswith("place 0 (100 calls), place 1 (99 calls)")
    assert describe(left).endswith("place 9 (91 calls), …")
