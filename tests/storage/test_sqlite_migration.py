"""Files that earlier releases wrote are opened, brought up to date, and go on."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from storage_files import look
from storage_hubs import HandClock, SqliteHub
from storage_mail import Mail, names
from storage_records import create, soon, version_of

from durable_ext.errors import StoreError
from durable_ext.history import ExecutionStarted, TimerFired
from durable_ext.storage.contract import Commit
from durable_ext.storage.sqlite.schema import host_lock
from durable_ext.storage.sqlite.store import SqliteStore
from durable_ext.storage.sqlite.tables import VERSION

# As version 1 left it when its host died: instance "one" runs, with a claimed and a queued call, an unread event, a
# timer and an event for later; "done" has ended; and another one, with the highest ids, was purged.
SCHEMA_1 = (Path(__file__).parent / "data" / "hub_schema_1.sql").read_text(encoding="utf-8")
FAR = datetime(2099, 1, 1, tzinfo=UTC)


@pytest.fixture
def old(path: Path) -> Path:
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA_1)
    connection.close()
    return path


@pytest.fixture
def hub(old: Path, clock: HandClock) -> SqliteHub:
    return SqliteHub(clock, str(old))


async def test_a_file_of_version_1_becomes_one_of_this_version(hub: SqliteHub, old: Path) -> None:
    client = await hub.client()
    assert look(old, "PRAGMA user_version") == [(VERSION,)]
    assert [each.instance_id for each in (await client.list_dead_letters())] == ["one"]
    started = (await client.read_history("one"))[1]
    assert isinstance(started, ExecutionStarted)
    assert started.execution_id == "execution-1"
    assert len(await client.read_history("one")) == 7
    record = await client.get_instance("done")
    assert (record.runtime_status.value, record.output) == ("Completed", '"done"')
    await hub.close()


async def test_it_has_the_tables_of_a_new_file(hub: SqliteHub, old: Path, tmp_path: Path) -> None:
    await hub.client()
    await hub.close()
    new = SqliteStore(str(tmp_path / "new.db"))
    await new.open()
    await new.close()
    tables = "SELECT type, name, sql FROM sqlite_master ORDER BY name"
    assert look(old, tables) == look(tmp_path / "new.db", tables)


async def test_its_messages_are_delivered(hub: SqliteHub, clock: HandClock) -> None:
    host = await hub.host()
    mail = Mail(host)
    assert names(await mail.rest()) == ["unread"]
    clock.jump(FAR)
    (timer,) = await mail.rest()
    assert (timer.event, timer.execution_id) == (TimerFired(timestamp=FAR, timer_id=2, fire_at=FAR), "execution-1")
    await hub.close()


async def test_its_timers_can_be_cancelled(hub: SqliteHub, old: Path) -> None:
    host = await hub.host()
    version = await version_of(host)
    await host.commit(Commit(instance_id="one", execution_id="execution-1", version=version, cancelled=[2]))
    assert look(old, "SELECT id FROM inbox WHERE task_id IS NOT NULL") == []
    assert look(old, "SELECT count(*) FROM inbox") == [(2,)]
    await hub.close()


async def test_its_work_is_offered_its_tries_as_counted(hub: SqliteHub) -> None:
    items = await soon((await hub.host()).receive_work(10))
    assert sorted((each.task_id, each.tries, each.asked) for each in items) == [(0, 2, 0), (1, 1, 0)]
    assert {(each.execution_id, each.name, each.input) for each in items} == {("execution-1", "SayHello", '"Tokyo"')}
    await hub.close()


async def test_no_id_is_given_twice(hub: SqliteHub, old: Path) -> None:
    client = await hub.client()
    await create(client, "new")
    assert look(old, "SELECT max(id) FROM inbox") == [(7,)]
    assert look(old, "SELECT max(key) FROM instances") == [(4,)]
    await hub.close()


async def test_a_message_that_cannot_be_read_stays_one(hub: SqliteHub, old: Path) -> None:
    look(old, "UPDATE inbox SET event = ? WHERE id = 4", b"\xff not json")
    (delivery,) = await soon((await hub.host()).receive())
    assert delivery.unreadable
    await hub.close()


async def test_it_is_left_alone_as_long_as_its_host_runs(hub: SqliteHub, old: Path) -> None:
    with host_lock(str(old)), pytest.raises(StoreError, match=r"earlier release.*Stop that host first"):
        await hub.client()
    assert look(old, "PRAGMA user_version") == [(1,)]
    await hub.client()
    await hub.close()


async def test_a_migration_that_fails_leaves_the_file_as_it_was(hub: SqliteHub, old: Path) -> None:
    look(old, "DROP TABLE work")
    before = look(old, "SELECT sql FROM sqlite_master ORDER BY name")
    with pytest.raises(StoreError):
        await hub.client()
    assert look(old, "PRAGMA user_version") == [(1,)]
    assert look(old, "SELECT sql FROM sqlite_master ORDER BY name") == before
