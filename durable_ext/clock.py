"""Time, as everything that waits or measures waiting has it: one clock per task hub, so that another can be put in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Alarm(Protocol):
    """A callback that is due at some time."""

    def cancel(self) -> None:
        """Forget it. Cancelling what has gone off is no matter."""
        ...


class Clock(Protocol):
    """What time it is, and waking up later. Used on the event loop only, but for `now`."""

    def now(self) -> datetime:
        """The wall clock, in UTC. It can be set, so it may jump either way."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment. They only grow."""
        ...

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Alarm:
        """Call back on the event loop once `delay` seconds have passed."""
        ...


class SystemClock:
    """The machine's."""

    # Asked several times a turn: these are the machine's own functions, with nothing around them.
    now = staticmethod(partial(datetime.now, UTC))
    monotonic = staticmethod(time.monotonic)

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Alarm:
        """Call back on the running event loop."""
        return asyncio.get_running_loop().call_later(delay, callback, *args)


async def sleep(clock: Clock, seconds: float) -> None:
    """Wait so many seconds of this clock."""
    woken = asyncio.get_running_loop().create_future()
    alarm = clock.call_later(seconds, _wake, woken)
    try:
        await woken
    finally:
        alarm.cancel()


async def wait(clock: Clock, futures: Iterable[asyncio.Future[T]], timeout: float) -> set[asyncio.Future[T]]:
    """Wait until all are done, or for `timeout` seconds of this clock; return those that are not."""
    pending = {each for each in futures if not each.done()}
    if not pending:
        return pending
    over = asyncio.get_running_loop().create_future()
    left = len(pending)

    def one_done(_: asyncio.Future[T]) -> None:
        nonlocal left
        left -= 1
        if not left:
            _wake(over)

    alarm = clock.call_later(timeout, _wake, over)
    for each in pending:
        each.add_done_callback(one_done)
    try:
        await over
    finally:
        alarm.cancel()
        for each in pending:
            each.remove_done_callback(one_done)
    return {each for each in pending if not each.done()}


@asynccontextmanager
async def timeout(clock: Clock, seconds: float) -> AsyncIterator[None]:
    """Raise TimeoutError in the body once so many seconds of this clock have passed."""
    async with asyncio.timeout(None) as limit:
        loop = asyncio.get_running_loop()
        alarm = clock.call_later(seconds, lambda: limit.reschedule(loop.time()))
        try:
            yield
        finally:
            alarm.cancel()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
