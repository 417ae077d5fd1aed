"""Trying again what failed for reasons outside our control: later each time, never in a tight loop."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from durable_ext.clock import Clock, sleep

logger = logging.getLogger(__name__)


def delay(failures: int, *, first: float = 0.05, longest: float = 30.0) -> float:
    """Seconds to wait after so many failures in a row: doubling, bounded."""
    return min(longest, first * 2.0 ** min(failures - 1, 30))


async def retry_forever(what: str, call: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """Make a call whose failure would lose something, until it succeeds or this is cancelled."""
    failures = 0
    while True:
        try:
            return await call()
        except Exception:
            failures += 1
            pause = delay(failures)
            logger.exception("cannot %s; next try in %.1f s", what, pause)
            await sleep(clock, pause)


async def serve_forever(what: str, serve: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """Do something again and again until cancelled; after failures with a pause, longer each time."""
    while True:
        await retry_forever(what, serve, clock)
