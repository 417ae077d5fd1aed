"""What is SQLite's own: the file, its schema, its faults."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from storage_hub import (
    create,
    finish,
    first_turn,
    message,
    names,
    nothing_lost,
    raise_event,
    running,
    soon,
    start,
    turn,
    version_of,
    work,
)

from durable_ext.errors import StoreError, StoreSchemaError
from durable_ext.history import TERMINAL
from durable_ext.messages import WorkItem
from durable_ext.storage.contract import Commit
from durable_ext.storage.sqlite.schema import APPLICATION_ID, VERSION
from durable_ext.storage.sqlite.store import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hub.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(str(path))
    await store.open()
    await store.host("the test", nothing_lost)
    yield store
    await store.close()


def look(path: Path, statement: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute(statement).fetchall()
        connection.commit()
        return rows
    finally:
        connection.close()


def look_like_a_diary(path: Path) -> None:
    path.write_text("Dear diary, " * 1000)


async def test_the_file_says_what_it_is(store: SqliteStore, path: Path) -> None:
    assert look(path, "PRAGMA application_id") == [(APPLICATION_ID,)]
    assert look(path, "PRAGMA user_version") == [(VERSION,)]
    assert look(path, "PRAGMA journal_mode") == [("wal",)]


async def test_commits_are_synced_by_default(store: SqliteStore) -> None:
    full = 2
    assert await store._writer.submit(lambda tx: tx.execute("PRAGMA synchronous").fetchone()) == (full,)


@pytest.mark.parametrize("version", [0, VERSION + 1])
async def test_a_schema_of_another_release_is_refused(path: Path, version: int) -> None:
    before = SqliteStore(str(path))
    await before.open()
    await create(before)
    await before.close()
    look(path, f"PRAGMA user_version = {version}")

    with pytest.raises(StoreSchemaError, match=f"schema version {version}") as refused:
        await SqliteStore(str(path)).open()
    assert refused.value.supported == tuple(range(1, VERSION + 1))
    assert look(path, "SELECT instance_id FROM instances") == [("one",)]


async def test_the_database_of_another_program_is_left_alone(path: Path) -> None:
    look(path, "CREATE TABLE cats (name TEXT)")
    with pytest.raises(StoreSchemaError):
        await SqliteStore(str(path)).open()
    assert look(path, "SELECT name FROM sqlite_master") == [("cats",)]


async def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    look_like_a_diary(path)
    with pytest.raises(StoreError, match="not a database"):
        await SqliteStore(str(path)).open()


async def test_a_store_that_could_not_open_can_be_closed(path: Path) -> None:
    look_like_a_diary(path)
    store = SqliteStore(str(path))
    with pytest.raises(StoreError):
        await store.open()
    await store.close()
    with pytest.raises(StoreError, match="not open"):
        await create(store)


async def test_a_store_not_opened_and_a_store_not_hosting_say_so(path: Path) -> None:
    store = SqliteStore(str(path))
    with pytest.raises(StoreError, match="not open"):
        await store.get_instance("one")
    await store.open()
    with pytest.raises(StoreError, match="host"):
        await store.receive()
    with pytest.raises(StoreError, match="host"):
        await store.receive_work(1)
    await store.close()
    with pytest.raises(StoreError, match="not open"):
        await create(store)


async def test_one_broken_operation_does_not_take_its_neighbours_along(store: SqliteStore) -> None:
    for number in range(10):
        await create(store, str(number))
    commits = [first_turn(start(str(number)), await version_of(store, str(number))) for number in range(10)]
    # More than SQLite holds in an integer: fails in the middle of the commit, after the turn was appended.
    broken = WorkItem(instance_id="5", execution_id="e", task_id=2**70, name="x", orchestrator="o")
    commits[5] = first_turn(start("5"), await version_of(store, "5"), queued=[work("5", 0), broken])

    results = await asyncio.gather(*(store.commit(each) for each in commits), return_exceptions=True)

    assert [isinstance(each, Exception) for each in results] == [number == 5 for number in range(10)]
    assert await store.read_history("5") == []
    assert (await store.read_history("4"))[1:-1] == [commits[4].events[1]]
    await store.commit(first_turn(start("5"), await version_of(store, "5")))


async def test_a_full_disk_is_an_error_and_nothing_is_acknowledged(store: SqliteStore) -> None:
    started, version = await running(store)
    (pages,) = await store._writer.submit(lambda tx: tx.execute("PRAGMA page_count").fetchone())
    await store._writer.submit(lambda tx: tx.execute(f"PRAGMA max_page_count = {pages}").fetchone())
    huge = Commit(
        instance_id="one",
        execution_id=started.execution_id,
        version=version,
        events=turn(start("one", input="x" * 500_000)),
    )
    with pytest.raises(StoreError, match="full; nothing was stored"):
        await store.commit(huge)

    await store._writer.submit(lambda tx: tx.execute("PRAGMA max_page_count = 1000000").fetchone())
    await store.commit(huge)
    assert len(await store.read_history("one")) == 6


async def test_a_failing_commit_statement_fails_everybody_in_the_group(store: SqliteStore) -> None:
    started, version = await running(store)
    # A deferred constraint is checked by COMMIT only.
    await store._writer.submit(lambda tx: tx.execute("CREATE TABLE parents (id INTEGER PRIMARY KEY)").fetchone())
    await store._writer.submit(
        lambda tx: tx.execute(
            "CREATE TABLE children (parent INTEGER REFERENCES parents DEFERRABLE INITIALLY DEFERRED)"
        ).fetchone()
    )
    connection = await store._writer.submit(lambda tx: tx.connection)
    connection.execute("PRAGMA foreign_keys = ON")
    turn_of_one = Commit(
        instance_id="one", execution_id=started.execution_id, version=version, events=turn(), messages=[]
    )
    spoiling = store._writer.submit(lambda tx: tx.execute("INSERT INTO children VALUES (1)").fetchone())
    committing = asyncio.ensure_future(store.commit(turn_of_one))

    results = await soon(asyncio.gather(spoiling, committing, return_exceptions=True))

    assert isinstance(results[0], StoreError)
    # The two may have met in one transaction or not; acknowledged and stored must be the same thing.
    was_acknowledged = not isinstance(results[1], Exception)
    assert len(await store.read_history("one")) == (5 if was_acknowledged else 3)
    if not was_acknowledged:
        await store.commit(turn_of_one)


async def test_message_ids_are_not_reused_after_a_rollback(store: SqliteStore) -> None:
    await running(store)
    with pytest.raises(OverflowError):
        await store.commit(
            Commit(
                instance_id="one",
                execution_id="e",
                version=await version_of(store, "one"),
                events=turn(),
                queued=[work("one", 2**70)],
            )
        )
    for number in range(20):
        await raise_event(store, "one", str(number))
    received: list[str] = []
    while len(received) < 20:
        received += names(await soon(store.receive()))
    assert received == [str(number) for number in range(20)]


async def test_a_sweep_offers_again_what_memory_has_lost(store: SqliteStore) -> None:
    await running(store)
    await raise_event(store, "one", "lost")
    await raise_event(store, "one", "lost too", visible_in=0.02)
    lost = await soon(store.receive())
    while len(lost) < 2:
        lost += await soon(store.receive())
    inbox = store._inbox
    assert inbox is not None
    inbox.gone([each.receipt for each in lost if isinstance(each.receipt, int)])

    await store.sweep()
    found: list[str] = []
    while len(found) < 2:
        found += names(await soon(store.receive()))
    assert sorted(found) == ["lost", "lost too"]


async def test_a_long_listing_does_not_hold_up_commits(store: SqliteStore) -> None:
    started, version = await running(store)
    entered, leave = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(connection: sqlite3.Connection) -> list[Any]:
        rows = connection.execute("SELECT * FROM instances").fetchall()
        loop.call_soon_threadsafe(entered.set)
        asyncio.run_coroutine_threadsafe(leave.wait(), loop).result()
        return rows

    reading = asyncio.create_task(store._read(slow))
    await soon(entered.wait())
    await soon(
        store.commit(Commit(instance_id="one", execution_id=started.execution_id, version=version, events=turn()))
    )
    assert (await soon(store.begin("one", None, []))).snapshot is not None
    leave.set()
    await reading


async def test_nothing_of_a_purged_instance_stays_in_the_file(store: SqliteStore, path: Path) -> None:
    await finish(store)
    await store.send(message("one", "too late"), accepted=TERMINAL)
    await store.purge(["one"])
    for table in ("instances", "turns", "inbox", "work"):
        assert look(path, f"SELECT count(*) FROM {table}") == [(0,)]
