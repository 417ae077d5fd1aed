"""What is SQLite's own: the file, its faults, and what a process knows of it."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from storage_files import look
from storage_hubs import HandClock, SqliteHub, nothing_lost
from storage_mail import Mail, names
from storage_records import THEN, create, finish, first_turn, message, raise_event, running, soon, start, version_of

from durable_ext.errors import StoreError, StoreSchemaError
from durable_ext.history import LIVE, TERMINAL, EventRaised
from durable_ext.messages import Message, WorkItem
from durable_ext.storage.sqlite.schema import APPLICATION_ID
from durable_ext.storage.sqlite.store import SqliteStore
from durable_ext.storage.sqlite.tables import KEPT, VERSION


def look_like_a_diary(path: Path) -> None:
    path.write_text("Dear diary, " * 1000)


def delete(path: Path) -> None:
    path.unlink()


def exists(path: Path) -> bool:
    return path.exists()


def put_another_file_there(path: Path) -> None:
    path.rename(path.with_name("moved.db"))
    path.touch()


# --- the file ----------------------------------------------------------------------------------------


async def test_the_file_says_what_it_is(sqlite: SqliteStore, path: Path) -> None:
    assert look(path, "PRAGMA application_id") == [(APPLICATION_ID,)]
    assert look(path, "PRAGMA user_version") == [(VERSION,)]
    assert look(path, "PRAGMA journal_mode") == [("wal",)]


async def test_registers_lie_beside_the_file(sqlite: SqliteStore, path: Path) -> None:
    assert sqlite.traits.directory == Path(f"{path}.register")
    assert SqliteStore(":memory:").traits.directory is None


async def test_commits_are_synced_by_default(sqlite: SqliteStore) -> None:
    full = 2
    assert await sqlite._writer.submit(lambda tx: tx.execute("PRAGMA synchronous").fetchone()) == (full,)


@pytest.mark.parametrize("version", [0, VERSION + 1])
async def test_a_schema_of_a_later_release_is_refused(path: Path, version: int) -> None:
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


@pytest.mark.parametrize("name", ["a b#c%20d", "frage?mode=memory", "ä'\"漢"])
async def test_a_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    store = SqliteStore(str(tmp_path / name))
    await store.open()
    await create(store)
    assert await store.get_instance("one") is not None
    await store.close()
    assert look(tmp_path / name, "SELECT instance_id FROM instances") == [("one",)]


async def test_a_store_that_could_not_open_can_be_closed(path: Path) -> None:
    look_like_a_diary(path)
    store = SqliteStore(str(path))
    with pytest.raises(StoreError):
        await store.open()
    await store.close()
    with pytest.raises(StoreError, match="not open"):
        await create(store)


async def until_it_is_noticed(sqlite: SqliteStore) -> None:
    """The writer looks for its file several times a second."""
    for number in count():
        await create(sqlite, f"after {number}")


async def test_a_file_that_is_gone_is_noticed_and_nothing_is_acknowledged_from_then_on(
    sqlite: SqliteStore, path: Path
) -> None:
    await create(sqlite, "before")
    delete(path)
    with pytest.raises(StoreError, match=r"hub\.db was deleted or replaced"):
        await soon(until_it_is_noticed(sqlite))
    with pytest.raises(StoreError, match=r"hub\.db was deleted or replaced"):
        await create(sqlite, "later")
    with pytest.raises(StoreError, match="unable to open"):
        await sqlite.get_instance("before")
    assert not exists(path), "and nobody makes a new one"
    with pytest.raises(StoreError, match="deleted"):
        await sqlite.close()


async def test_a_file_that_was_replaced_is_noticed(sqlite: SqliteStore, path: Path) -> None:
    put_another_file_there(path)
    with pytest.raises(StoreError, match="deleted or replaced"):
        await soon(until_it_is_noticed(sqlite))
    with pytest.raises(StoreError, match="deleted or replaced"):
        await sqlite.close()


# --- transactions --------------------------------------------------------------------------------------


async def test_one_broken_operation_does_not_take_its_neighbours_along(sqlite: SqliteStore) -> None:
    for number in range(10):
        await create(sqlite, str(number))
    commits = [first_turn(start(str(number)), await version_of(sqlite, str(number))) for number in range(10)]
    # More than SQLite holds in an integer: fails in the middle of the commit, after the turn was appended.
    broken = WorkItem(instance_id="5", execution_id="e", task_id=2**70, name="x", orchestrator="o")
    commits[5] = first_turn(start("5"), await version_of(sqlite, "5"), queued=[broken])

    results = await asyncio.gather(*(sqlite.commit(each) for each in commits), return_exceptions=True)

    assert [isinstance(each, Exception) for each in results] == [number == 5 for number in range(10)]
    assert await sqlite.read_history("5") == []
    assert (await sqlite.read_history("4"))[1:-1] == [commits[4].events[1]]
    await sqlite.commit(first_turn(start("5"), await version_of(sqlite, "5")))


async def fill_the_disk(sqlite: SqliteStore) -> None:
    (pages,) = await sqlite._writer.submit(lambda tx: tx.execute("PRAGMA page_count").fetchone())
    await sqlite._writer.submit(lambda tx: tx.execute(f"PRAGMA max_page_count = {pages}").fetchone())


async def clear_the_disk(sqlite: SqliteStore) -> None:
    await sqlite._writer.submit(lambda tx: tx.execute("PRAGMA max_page_count = 1000000").fetchone())


async def test_a_full_disk_is_an_error_and_nothing_is_acknowledged(sqlite: SqliteStore, sqlite_mail: Mail) -> None:
    one = await running(sqlite_mail)
    await fill_the_disk(sqlite)
    huge = one.turn(start("one", input="x" * 500_000))
    with pytest.raises(StoreError, match="full; nothing was stored"):
        await sqlite.commit(huge)

    await clear_the_disk(sqlite)
    await sqlite.commit(huge)
    assert len(await sqlite.read_history("one")) == 6


async def test_messages_can_be_given_back_while_nothing_can_be_stored(sqlite: SqliteStore, sqlite_mail: Mail) -> None:
    await running(sqlite_mail)
    await raise_event(sqlite, "one", "in hand")
    delivery = await sqlite_mail.next()
    await fill_the_disk(sqlite)
    await sqlite.give_back([delivery], 0)
    assert await soon(sqlite.receive()) == [delivery]
    await clear_the_disk(sqlite)


async def test_a_failing_commit_statement_fails_everybody_in_the_group(sqlite: SqliteStore, sqlite_mail: Mail) -> None:
    one = await running(sqlite_mail)
    # A deferred constraint is checked by COMMIT only.
    await sqlite._writer.submit(lambda tx: tx.execute("CREATE TABLE parents (id INTEGER PRIMARY KEY)").fetchone())
    await sqlite._writer.submit(
        lambda tx: tx.execute(
            "CREATE TABLE children (parent INTEGER REFERENCES parents DEFERRABLE INITIALLY DEFERRED)"
        ).fetchone()
    )
    connection = await sqlite._writer.submit(lambda tx: tx.connection)
    connection.execute("PRAGMA foreign_keys = ON")
    spoiling = sqlite._writer.submit(lambda tx: tx.execute("INSERT INTO children VALUES (1)").fetchone())
    committing = asyncio.ensure_future(sqlite.commit(one.turn()))

    results = await soon(asyncio.gather(spoiling, committing, return_exceptions=True))

    assert isinstance(results[0], StoreError)
    # The two may have met in one transaction or not; acknowledged and stored must be the same thing.
    was_acknowledged = not isinstance(results[1], Exception)
    assert len(await sqlite.read_history("one")) == (5 if was_acknowledged else 3)
    if not was_acknowledged:
        await one.commit()


async def test_message_ids_are_not_reused_after_a_rollback(sqlite: SqliteStore, sqlite_mail: Mail) -> None:
    one = await running(sqlite_mail)
    with pytest.raises(OverflowError):
        await one.commit(messages=[message("one", "rolled back")], queued=[one.work(2**70)])
    for number in range(20):
        await raise_event(sqlite, "one", str(number))
    deliveries = await sqlite_mail.until("19")
    assert names(deliveries) == [str(number) for number in range(20)]
    assert len({each.receipt for each in deliveries}) == 20


async def test_a_sweep_offers_again_what_memory_has_lost(sqlite: SqliteStore, sqlite_mail: Mail) -> None:
    await running(sqlite_mail)
    await raise_event(sqlite, "one", "lost")
    lost = await sqlite_mail.next()
    assert sqlite._inbox is not None
    sqlite._inbox.gone([lost.receipt])

    await sqlite.sweep()
    assert names([await sqlite_mail.again(lost)]) == ["lost"]


async def test_a_long_listing_does_not_hold_up_turns(sqlite: SqliteStore, sqlite_mail: Mail) -> None:
    one = await running(sqlite_mail)
    entered, leave = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(connection: sqlite3.Connection) -> list[Any]:
        rows = connection.execute("SELECT * FROM instances").fetchall()
        loop.call_soon_threadsafe(entered.set)
        asyncio.run_coroutine_threadsafe(leave.wait(), loop).result()
        return rows

    reading = asyncio.create_task(sqlite._read(slow))
    await soon(entered.wait())
    await soon(one.commit())
    assert (await soon(sqlite.begin("one", None, []))).snapshot is not None
    leave.set()
    await reading


# --- what is read, and what is left in the file ----------------------------------------------------------


async def test_a_begin_with_a_known_version_reads_nothing(sqlite: SqliteStore, sqlite_mail: Mail) -> None:
    one = await running(sqlite_mail)
    assert (await sqlite.begin("one", one.version, [])).snapshot is None


async def test_kept_messages_are_not_delivered_any_more(sqlite: SqliteStore, sqlite_mail: Mail) -> None:
    one = await running(sqlite_mail)
    await raise_event(sqlite, "one", "early")
    early = await sqlite_mail.next()
    await one.commit(kept=[early.receipt])
    await sqlite.give_back([early], 0)
    await sqlite.sweep()
    assert await Mail(sqlite).rest() == []


async def test_kept_messages_are_not_delivered_after_a_restart(path: Path, sqlite_mail: Mail) -> None:
    one = await running(sqlite_mail)
    await raise_event(one.store, "one", "early")
    await one.commit(kept=[(await sqlite_mail.next()).receipt])
    await one.store.close()

    again = SqliteStore(str(path))
    await again.open()
    await again.host("the next", nothing_lost)
    assert await Mail(again).rest() == []
    await again.close()


async def test_what_the_file_says_was_kept_comes_once(sqlite: SqliteStore, sqlite_mail: Mail, path: Path) -> None:
    """So it is between a commit and the moment this process hears of it."""
    await running(sqlite_mail)
    await raise_event(sqlite, "one", "early")
    early = await sqlite_mail.next()
    look(path, "UPDATE inbox SET visible_at = ?", KEPT)
    found = (await sqlite.begin("one", None, [early])).deliveries
    assert [(each.receipt, each.is_kept) for each in found] == [(early.receipt, True)]


async def test_a_message_given_back_twice_comes_once(sqlite: SqliteStore, sqlite_mail: Mail) -> None:
    await running(sqlite_mail)
    await raise_event(sqlite, "one", "in hand")
    delivery = await sqlite_mail.next()
    await sqlite.give_back([delivery], 0)
    await sqlite.give_back([delivery], 0)
    assert await soon(sqlite.receive()) == [delivery]


async def test_an_instance_replaced_from_outside_before_it_began_is_read_anew(path: Path) -> None:
    hub = SqliteHub(HandClock(), str(path))
    host, client = await hub.host(), await hub.client()
    await create(host)
    replacement = start("one", name="Again")
    await client.create_instance(replacement, overridable=LIVE)
    again = await Mail(host).until("Again")
    loaded = await host.begin("one", None, again)
    assert loaded.snapshot is not None
    await host.commit(first_turn(replacement, loaded.snapshot.version))
    await hub.close()


async def test_messages_of_several_processes_come_in_the_order_they_were_stored(path: Path) -> None:
    """However seldom the host looks whether others have written: its own messages must not overtake theirs."""
    hub = SqliteHub(HandClock(), str(path))
    host, client = await hub.host(), await hub.client()
    await create(host)
    for number in range(0, 60, 3):
        await raise_event(host, "one", f"event {number}")
        await raise_event(client, "one", f"event {number + 1}")
        await raise_event(host, "one", f"event {number + 2}")
    received = names(await Mail(host).until("event 59"))
    assert received == ["Greet", *(f"event {number}" for number in range(60))]
    await hub.close()


async def test_after_downtime_messages_come_in_the_order_in_which_they_became_due(path: Path) -> None:
    hub = SqliteHub(HandClock(), str(path))
    host, client = await hub.host(), await hub.client()
    await running(Mail(host))
    await host.close()

    def at(seconds: int, name: str) -> Message:
        return Message(instance_id="one", event=EventRaised(timestamp=THEN + timedelta(seconds=seconds), name=name))

    for seconds in (1, 3):
        due = THEN + timedelta(hours=1, seconds=seconds)
        await client.send(msgspec.structs.replace(at(0, f"due at {seconds}"), visible_at=due), accepted=LIVE)
    for seconds in (2, 0, 4):  # the second by a clock that is slow: it does not overtake the first
        await client.send(at(3600 + seconds, f"stored at {seconds}"), accepted=LIVE)
    hub.clock.advance(5)
    mail = Mail(await hub.host())
    expected = ["due at 1", "stored at 2", "stored at 0", "due at 3", "stored at 4"]
    assert names(await mail.until("stored at 4")) == expected
    await hub.close()


@pytest.mark.parametrize("count", [1, 8, 65, 200])
async def test_the_ids_of_messages_stored_together_have_no_gap(
    sqlite: SqliteStore, sqlite_mail: Mail, path: Path, count: int
) -> None:
    one = await running(sqlite_mail)
    await one.commit(messages=[message("one", f"event {number}") for number in range(count)])
    received = await sqlite_mail.until(f"event {count - 1}")
    assert names(received) == [f"event {number}" for number in range(count)]
    stored = look(path, "SELECT id FROM inbox WHERE instance_id = 'one' ORDER BY id")
    assert [(each.receipt,) for each in received] == stored


async def test_a_call_takes_the_place_of_the_one_that_was_answered(
    sqlite: SqliteStore, sqlite_mail: Mail, path: Path
) -> None:
    one = await running(sqlite_mail)
    await one.commit(inline=[one.work(0)])
    await one.commit(completed=[one.work(0).receipt], inline=[one.work(1)])
    assert look(path, "SELECT task_id, tries, due_at FROM work") == [(1, 1, None)]
    await one.commit(completed=[one.work(0).receipt], queued=[one.work(2)])  # answered before, and gone
    assert look(path, "SELECT task_id, due_at FROM work ORDER BY task_id") == [(1, None), (2, 0)]
    await one.commit(completed=[one.work(1).receipt], queued=[one.work(2)])  # asked for before, and there
    assert look(path, "SELECT task_id, due_at FROM work") == [(2, 0)]


async def test_nothing_of_a_purged_instance_stays_in_the_file(
    sqlite: SqliteStore, sqlite_mail: Mail, path: Path
) -> None:
    one = await running(sqlite_mail)
    await raise_event(sqlite, "one", "early")
    await one.commit(kept=[(await sqlite_mail.next()).receipt], queued=[one.work(0)])
    await one.end(queued=[one.work(1)])
    await sqlite.send(message("one", "too late"), accepted=TERMINAL)
    await sqlite.purge(["one"])
    for table in ("instances", "turns", "inbox", "work"):
        assert look(path, f"SELECT count(*) FROM {table}") == [(0,)]


async def test_cancelled_calls_and_timers_go_at_once(sqlite: SqliteStore, sqlite_mail: Mail, path: Path) -> None:
    one = await running(sqlite_mail)
    due = sqlite._clock.now().replace(year=2099)
    await one.commit(
        queued=[one.work(0), one.work(0, asked=1), one.work(4)],
        inline=[one.work(1)],
        messages=[one.timer(number, due) for number in (2, 3)],
    )
    await one.commit(cancelled=[2])
    assert look(path, "SELECT task_id FROM inbox") == [(3,)]
    await one.commit(cancelled=[0, 1, 3])
    assert look(path, "SELECT task_id FROM inbox") == []
    assert look(path, "SELECT task_id FROM work") == [(4,)]


async def test_timers_are_found_by_their_number(sqlite: SqliteStore, path: Path) -> None:
    """Cancelling one of many timers must not look at all of them."""
    plan = look(path, "EXPLAIN QUERY PLAN DELETE FROM inbox WHERE instance_id = ? AND task_id = ?", "one", 1)
    assert "inbox_by_instance (instance_id=? AND task_id=?)" in plan[0][-1]


async def test_work_given_back_does_not_wait_for_a_clock_that_was_put_back(
    sqlite: SqliteStore, sqlite_mail: Mail, clock: HandClock
) -> None:
    one = await running(sqlite_mail)
    await one.commit(queued=[one.work(0)])
    await sqlite.give_back_work(await soon(sqlite.receive_work(1)))
    clock.jump(clock.now() - timedelta(hours=1))
    assert len(await soon(sqlite.receive_work(1))) == 1


async def test_calls_of_the_last_turn_are_made(sqlite: SqliteStore, sqlite_mail: Mail) -> None:
    one = await running(sqlite_mail)
    await one.commit(queued=[one.work(0)])
    await one.end(queued=[one.work(1)])
    assert [each.task_id for each in await soon(sqlite.receive_work(10))] == [1]


async def test_an_end_looks_at_its_own_messages_only(sqlite: SqliteStore, path: Path) -> None:
    plan = look(
        path,
        "EXPLAIN QUERY PLAN DELETE FROM inbox WHERE id IN (SELECT value FROM json_each(?)) "
        "OR (instance_id = ? AND visible_at > ?)",
        "[1]",
        "one",
        1,
    )
    assert not [each for *_, each in plan if each == "SCAN inbox"]


async def test_a_host_says_that_the_last_one_died(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hub = SqliteHub(HandClock(), str(path))
    first = await hub.host("process 4711")
    await finish(Mail(first))
    await hub.crash(first)
    caplog.set_level(logging.WARNING)
    second = await hub.host("process 4712")
    assert "process 4711" in caplog.text
    caplog.clear()
    await second.close()
    await hub.host("process 4713")
    assert caplog.text == "", "a host that stopped is not worth a word"
    await hub.close()
