"""A process that may not have another thread says so, and goes on when it may."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from storage_hubs import nothing_lost
from storage_mail import Mail
from storage_records import create, running, snapshot, soon

from durable_ext.errors import StoreError
from durable_ext.storage.sqlite.store import SqliteStore


class Shortage:
    """As long as it lasts, no thread can be started."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def begin(self) -> None:
        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        self._patch.setattr(threading.Thread, "start", refuse)

    def end(self) -> None:
        self._patch.undo()


@pytest.fixture
def shortage(monkeypatch: pytest.MonkeyPatch) -> Shortage:
    return Shortage(monkeypatch)


async def test_a_read_without_a_thread_fails_and_the_next_one_tries_again(
    sqlite: SqliteStore, sqlite_mail: Mail, shortage: Shortage
) -> None:
    await running(sqlite_mail, "one")
    assert sqlite._queries is not None
    await sqlite._queries.close()
    shortage.begin()
    sqlite._queries = type(sqlite._queries)(sqlite._connect_reader, sqlite.path)
    for _ in range(2):
        with pytest.raises(StoreError, match="can't start new thread"):
            await soon(sqlite.get_instance("one"))
    shortage.end()
    assert await soon(sqlite.get_instance("one")) is not None


async def test_a_store_whose_reads_all_failed_can_be_closed(path: Path, shortage: Shortage) -> None:
    store = SqliteStore(str(path))
    await store.open()
    await store.host("the test", nothing_lost)
    shortage.begin()
    for read in (snapshot(store), store.get_instance("one")):
        with pytest.raises(StoreError, match="thread"):
            await soon(read)
    await soon(store.close())


async def test_a_store_that_could_not_open_for_want_of_a_thread_can_be_opened_later(
    path: Path, shortage: Shortage
) -> None:
    store = SqliteStore(str(path))
    shortage.begin()
    with pytest.raises(StoreError, match="can't start new thread"):
        await soon(store.open())
    await soon(store.close())
    shortage.end()
    await soon(store.open())
    await create(store)
    await store.close()


async def test_a_writer_that_ends_at_once_is_noticed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore(str(path))
    monkeypatch.setattr(store._writer, "_serve", lambda *_: None)
    await soon(store.open())
    with pytest.raises(StoreError, match=r"stopped|not open"):
        await soon(create(store))
    await soon(store.close())


async def test_an_open_that_is_cancelled_leaves_no_writer_behind(path: Path) -> None:
    before = set(threading.enumerate())
    store = SqliteStore(str(path))
    opening = asyncio.create_task(store.open())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    left = set(threading.enumerate()) - before
    await asyncio.gather(*(asyncio.to_thread(each.join, 10) for each in left if "sqlite" in each.name))
    assert not [each for each in left if "sqlite" in each.name and each.is_alive()]
