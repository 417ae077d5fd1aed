"""An event loop whose time jumps: whenever it would sleep, the next thing that is due is due now.

Nothing may come from outside the loop, so programs that are simulated start no threads.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from durable_ext.clock import Alarm

T = TypeVar("T")

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
ROUNDS = 20
BUSY = 20_000
"""Rounds of the loop without any time passing, at most."""


class HangError(AssertionError):
    """The program does not come to an end."""


class _Poll(selectors.DefaultSelector):
    """Never sleeps."""

    loop: JumpingLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and timeout != 0:
            self.loop.jump(timeout)
        else:
            self.loop.stay()
        return list(ready)


class JumpingLoop(asyncio.SelectorEventLoop):
    """Its time begins at 0 and ends, with a `HangError`, at `limit` seconds."""

    def __init__(self, limit: float) -> None:
        self._seconds, self._limit = 0.0, limit
        self._stayed, self.is_ending = 0, False
        poll = _Poll()
        poll.loop = self
        super().__init__(poll)

    def time(self) -> float:
        return self._seconds

    def stay(self) -> None:
        """Something is to be done at this time."""
        self._stayed += 1
        if self._stayed > BUSY and not self.is_ending:
            raise HangError(f"the program is busy for ever at {self._seconds:.3f} simulated seconds")

    def jump(self, seconds: float | None) -> None:
        """Let so many seconds have passed. None: there is nothing to wait for."""
        if seconds is None:
            raise HangError("nothing is due any more, and the program has not ended")
        self._stayed = 0
        self._seconds += seconds
        if self._seconds > self._limit:
            raise HangError(f"the program has not ended after {self._limit:.0f} simulated seconds")


class JumpingClock:
    """The `Clock` of a jumping loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._loop.time())

    def monotonic(self) -> float:
        return self._loop.time()

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Alarm:
        return self._loop.call_later(delay, callback, *args)


def run(main: Callable[[JumpingClock], Coroutine[Any, Any, T]], limit: float = 3600.0) -> T:
    """Run a program to its end, or raise `HangError`. What it has left running is cancelled."""
    loop = JumpingLoop(limit)
    loop.set_exception_handler(_ignore)
    try:
        return loop.run_until_complete(main(JumpingClock(loop)))
    finally:
        _end(loop)


def _end(loop: JumpingLoop) -> None:
    loop.is_ending = True
    loop.set_task_factory(_stillborn)
    # Some answer a cancellation with another wait; so it is said more than once.
    for _ in range(ROUNDS):
        left = asyncio.all_tasks(loop)
        if not left:
            break
        for each in left:
            each.cancel()
        loop.run_until_complete(asyncio.Task(_a_few_steps(), loop=loop))
    loop.close()


def _stillborn(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Future[Any]:
    """The task that something begins while it is ended."""
    coroutine.close()
    task = loop.create_future()
    task.cancel()
    return task


async def _a_few_steps() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def _ignore(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Errors of tasks that nobody looks at belong to workers that were killed."""
