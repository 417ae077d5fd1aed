"""The hubs that tests run on, and the clock those go by."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from storage_records import THEN

from durable_ext.storage.contract import Store
from durable_ext.storage.memory import MemoryHub, MemoryStore
from durable_ext.storage.sqlite.schema import MEMORY
from durable_ext.storage.sqlite.store import SqliteStore


def nothing_lost() -> None:
    """For tests that do not ask whether instances went to another host."""


class HandClock:
    """A clock that moves by hand only."""

    def __init__(self) -> None:
        self._passed = 0.0
        self._alarms: list[tuple[float, int, Alarm]] = []
        self._numbers = itertools.count()

    def now(self) -> datetime:
        return THEN + timedelta(hours=1, seconds=self._passed)

    def monotonic(self) -> float:
        return self._passed

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Alarm:
        alarm = Alarm(lambda: callback(*args))
        if delay <= 0:
            asyncio.get_running_loop().call_soon(alarm.go_off)
            return alarm
        heapq.heappush(self._alarms, (self._passed + delay, next(self._numbers), alarm))
        return alarm

    def advance(self, seconds: float) -> None:
        """Let time pass, with whatever is due in it."""
        until = self._passed + seconds
        while self._alarms and self._alarms[0][0] <= until:
            due, _, alarm = heapq.heappop(self._alarms)
            self._passed = max(self._passed, due)
            alarm.go_off()
        self._passed = until

    def jump(self, until: datetime) -> None:
        """Set the clock to a time far ahead. Alarms go off late then, and once."""
        self._passed += (until - self.now()).total_seconds()
        overdue, self._alarms = self._alarms, []
        for _, _, alarm in overdue:
            alarm.go_off()


class Alarm:
    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback: Callable[[], object] | None = callback

    def go_off(self) -> None:
        if self._callback is not None:
            self._callback()

    def cancel(self) -> None:
        self._callback = None


class Hub(ABC):
    """A task hub that is opened by tests. What they leave open is closed in the end."""

    def __init__(self, clock: HandClock) -> None:
        self.clock = clock
        self._opened: list[Any] = []

    @abstractmethod
    def _connect(self) -> Store: ...

    @abstractmethod
    async def crash(self, store: Any) -> None:
        """End a store object as the death of its process does."""

    async def client(self) -> Any:
        store = self._connect()
        await store.open()
        self._opened.append(store)
        return store

    async def host(self, owner: str = "the test", lost: Callable[[], None] = nothing_lost) -> Any:
        store = await self.client()
        await store.host(owner, lost)
        return store

    async def close(self) -> None:
        for each in self._opened:
            await each.close()


class SqliteHub(Hub):
    def __init__(self, clock: HandClock, path: str) -> None:
        super().__init__(clock)
        self.path = path

    def _connect(self) -> SqliteStore:
        return SqliteStore(self.path, clock=self.clock)

    async def crash(self, store: SqliteStore) -> None:
        # What is left of a killed process: the file, and no lock.
        store._is_open = False
        if store._inbox is not None and store._workload is not None:
            store._inbox.close(RuntimeError("killed"))
            store._workload.close(RuntimeError("killed"))
        await store._writer.stop()
        for reader in (store._queries, store._states):
            if reader is not None:
                await reader.close()
        if store._lock is not None:
            store._lock.release()


class DictionaryHub(Hub):
    def __init__(self, clock: HandClock) -> None:
        super().__init__(clock)
        self._hub = MemoryHub(clock)

    def _connect(self) -> MemoryStore:
        return MemoryStore(self._hub)

    async def crash(self, store: MemoryStore) -> None:
        store.crash()


def make_hub(kind: str, directory: Path, clock: HandClock) -> Hub:
    if kind == "dictionaries":
        return DictionaryHub(clock)
    return SqliteHub(clock, MEMORY if kind == "sqlite in memory" else str(directory / "hub.db"))
