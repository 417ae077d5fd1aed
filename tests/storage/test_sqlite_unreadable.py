"""What cannot be read in a SQLite file stands in nobody else's way, and can be cleared away."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from storage_files import look
from storage_mail import Mail, names
from storage_records import Status, create, raise_event, raised, running, snapshot

from durable_ext.errors import StoreError
from durable_ext.history import GenericEvent
from durable_ext.storage.contract import InstanceQuery
from durable_ext.storage.sqlite.store import SqliteStore

DAMAGES = [
    b"not json",
    b'[{"EventType":"FromTheFuture","Timestamp":"2024-05-01T12:00:00Z"}]',
    b'[{"EventType":"EventRaised"}]',
    b"\xff\xfe\xfd",
    b'{"an": "object"}',
]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_an_unreadable_turn_makes_the_history_unreadable_and_nothing_else(
    sqlite: SqliteStore, sqlite_mail: Mail, path: Path, damage: bytes
) -> None:
    one = await running(sqlite_mail, "one")
    await running(sqlite_mail, "two")
    await one.commit(raised("go"))
    look(path, "UPDATE turns SET events = ? WHERE key = 1 AND turn = 2", damage)

    found = await snapshot(sqlite, "one")
    assert found.unreadable
    assert (found.history, found.status, found.version) == ([], Status.Running, one.version)
    assert (await snapshot(sqlite, "two")).unreadable is None
    with pytest.raises(StoreError, match="history of instance 'one' cannot be read"):
        await sqlite.read_history("one")
    assert len((await sqlite.list_instances(InstanceQuery())).instances) == 2


async def test_an_instance_with_an_unreadable_history_can_end_and_be_purged(
    sqlite: SqliteStore, sqlite_mail: Mail, path: Path
) -> None:
    one = await running(sqlite_mail)
    look(path, "UPDATE turns SET events = ?", b"not json")
    one.version = (await snapshot(sqlite)).version
    await one.end(Status.Failed)
    record = await sqlite.get_instance("one")
    assert record is not None
    assert record.runtime_status is Status.Failed
    assert (await snapshot(sqlite)).unreadable, "what was damaged is not lost, for whoever can read it"
    assert await sqlite.purge(["one"]) == 1
    assert look(path, "SELECT count(*) FROM turns") == [(0,)]


async def test_an_unreadable_history_can_be_replaced(sqlite: SqliteStore, sqlite_mail: Mail, path: Path) -> None:
    one = await running(sqlite_mail)
    look(path, "UPDATE turns SET events = ?", b"not json")
    await one.commit(raised("anew"), replaces_history=True)
    found = await snapshot(sqlite)
    assert (found.unreadable, found.history) == (None, await sqlite.read_history("one"))


async def test_a_history_edited_as_text_is_read(sqlite: SqliteStore, sqlite_mail: Mail, path: Path) -> None:
    await running(sqlite_mail)
    before = await sqlite.read_history("one")
    look(path, "UPDATE turns SET events = CAST(events AS TEXT)")
    assert await sqlite.read_history("one") == (await snapshot(sqlite)).history == before


async def test_an_unreadable_message_is_delivered_as_text_and_holds_up_nobody(
    sqlite: SqliteStore, sqlite_mail: Mail, path: Path
) -> None:
    one = await running(sqlite_mail)
    await raise_event(sqlite, "one", "kept")
    await one.commit(kept=[(await sqlite_mail.next()).receipt])
    look(path, "UPDATE inbox SET event = ?", b'{"EventType":"FromTheFuture"}\xff')
    look(path, "INSERT INTO inbox (instance_id, visible_at, event) VALUES ('one', 0, ?)", b"damaged \xff")
    await raise_event(sqlite, "one", "healthy")

    damaged, healthy = await sqlite_mail.until("healthy")
    assert damaged.unreadable
    assert isinstance(damaged.event, GenericEvent)
    assert damaged.event.data == r"damaged \xff"
    assert healthy.unreadable is None

    kept, *others = (await sqlite.begin("one", None, [damaged, healthy])).deliveries
    assert kept.is_kept
    assert kept.unreadable
    assert others == [damaged, healthy]
    await one.commit(consumed=[each.receipt for each in (kept, damaged)])
    assert names((await sqlite.begin("one", None, [damaged, healthy])).deliveries) == ["healthy"]


async def test_a_read_that_fails_is_an_error_and_no_damage(sqlite: SqliteStore, sqlite_mail: Mail, path: Path) -> None:
    await running(sqlite_mail)
    look(path, "ALTER TABLE turns RENAME TO elsewhere")
    with pytest.raises(StoreError, match="no such table") as failed:
        await sqlite.begin("one", None, [])
    assert isinstance(failed.value.__cause__, sqlite3.Error)

    look(path, "ALTER TABLE elsewhere RENAME TO turns")
    assert (await snapshot(sqlite)).unreadable is None
    await create(sqlite, "and on")
