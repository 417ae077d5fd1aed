"""Who watches which instance, for stores that know when a status row changes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from durable_ext.clock import Clock


class Changes:
    """Tells watchers that a status row was written or removed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._watchers: dict[str, set[Watcher]] = {}

    @contextmanager
    def watch(self, instance_id: str, *, until_ended: bool) -> Iterator[Watcher]:
        """What `ClientStore.watch` gives."""
        watcher = Watcher(self._clock, until_ended)
        watchers = self._watchers.setdefault(instance_id, set())
        watchers.add(watcher)
        try:
            yield watcher
        finally:
            watchers.discard(watcher)
            if not watchers and self._watchers.get(instance_id) is watchers:
                del self._watchers[instance_id]

    def happened(self, instance_id: str, *, is_end: bool) -> None:
        """The status row was written or removed."""
        for watcher in self._watchers.get(instance_id, ()):
            if is_end or not watcher.until_ended:
                watcher.notice()

    def may_have_happened(self) -> None:
        """Any status row may have been written: tell everybody."""
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.notice()


class Watcher:
    """A `Watch` of this process. One task at a time may wait on it."""

    def __init__(self, clock: Clock, until_ended: bool) -> None:
        self.until_ended = until_ended
        self._clock = clock
        self._has_news = False
        self._waiting: asyncio.Future[None] | None = None

    def notice(self) -> None:
        """There is news."""
        self._has_news = True
        _wake(self._waiting)

    async def changed(self, timeout: float) -> None:
        """Return once there has been news, or after `timeout` seconds."""
        if not self._has_news:
            self._waiting = asyncio.get_running_loop().create_future()
            alarm = self._clock.call_later(timeout, _wake, self._waiting)
            try:
                await self._waiting
            finally:
                alarm.cancel()
                self._waiting = None
        self._has_news = False


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)
