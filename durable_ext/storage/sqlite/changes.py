"""Who waits for an instance to change."""

from __future__ import annotations

import asyncio
from typing import TypeVar

_REMEMBERED = 4096

T = TypeVar("T")


class Changes:
    """Wakes those who wait for an instance, including those who come a moment late.

    A client reads the status, finds it not to its liking, and waits. What changes between the two must wake it, so
    reads and changes are remembered for a while, by number.
    """

    def __init__(self) -> None:
        self._count = 0
        self._changed: dict[str, int] = {}
        self._ended: dict[str, int] = {}
        self._read: dict[str, int] = {}
        self._waiting: dict[str, dict[asyncio.Future[None], bool]] = {}  # with: until it has ended?

    def reads(self, instance_id: str) -> None:
        """Somebody is about to read the status row."""
        _remember(self._read, instance_id, self._count)

    def happened(self, instance_id: str, *, is_end: bool) -> None:
        """The status row was written or removed."""
        self._count += 1
        _remember(self._changed, instance_id, self._count)
        if is_end:
            _remember(self._ended, instance_id, self._count)
        for future, until_ended in self._waiting.get(instance_id, {}).items():
            if is_end or not until_ended:
                _wake(future)

    def may_have_happened(self) -> None:
        """Any status row may have been written: wake everybody."""
        self._count += 1
        self._changed = dict.fromkeys(self._read, self._count)
        self._ended = dict.fromkeys(self._read, self._count)
        for futures in self._waiting.values():
            for future in futures:
                _wake(future)

    async def wait(self, instance_id: str, timeout: float, *, until_ended: bool) -> None:
        """Return when the status row has changed since it was last read, or after the timeout."""
        changed = self._ended if until_ended else self._changed
        if changed.get(instance_id, 0) > self._read.get(instance_id, self._count):
            self.reads(instance_id)  # tell it once
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiting.setdefault(instance_id, {})[future] = until_ended
        alarm = loop.call_later(timeout, _wake, future)
        try:
            await future
        finally:
            alarm.cancel()
            waiting = self._waiting[instance_id]
            del waiting[future]
            if not waiting:
                del self._waiting[instance_id]


def _remember(numbers: dict[str, int], instance_id: str, number: int) -> None:
    numbers.pop(instance_id, None)
    numbers[instance_id] = number
    if len(numbers) > _REMEMBERED:
        del numbers[next(iter(numbers))]


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
