"""Waiting for a change of an instance."""

from __future__ import annotations

import asyncio

import pytest
from storage_hubs import HandClock, Hub
from storage_mail import Mail
from storage_records import Instance, Status, create, finish, first_turn, running, soon, start, version_of

from durable_ext.history import ExecutionStarted
from durable_ext.storage.contract import Store


async def changed(store: Store, instance_id: str, *, timeout: float = 60, until_ended: bool = False) -> None:
    with store.watch(instance_id, until_ended=until_ended) as watch:
        await watch.changed(timeout)


async def test_a_change_wakes_those_who_wait_for_this_instance(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await running(mail, "two")
    waiting = asyncio.create_task(changed(store, "one"))
    other = asyncio.create_task(changed(store, "two"))
    await asyncio.sleep(0)
    await one.end()
    await soon(waiting)
    assert not other.done()
    other.cancel()


async def test_a_change_between_reading_and_waiting_is_not_missed(store: Store) -> None:
    await create(store)
    with store.watch("one") as watch:
        await store.commit(first_turn(start("one"), await version_of(store, "one")))
        await soon(watch.changed(60))


async def test_one_change_wakes_once(store: Store) -> None:
    """Too early is allowed, so that this need not hold; but these stores know."""
    await create(store)
    with store.watch("one") as watch:
        await store.commit(first_turn(start("one"), await version_of(store, "one")))
        await soon(watch.changed(60))
        waiting = asyncio.create_task(watch.changed(60))
        await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()


async def test_a_start_is_a_change(store: Store) -> None:
    waiting = asyncio.create_task(changed(store, "one"))
    await asyncio.sleep(0)
    await create(store)
    await soon(waiting)


async def test_a_purge_is_a_change(store: Store, mail: Mail) -> None:
    await finish(mail)
    await store.flush()
    waiting = asyncio.create_task(changed(store, "one", until_ended=True))
    await asyncio.sleep(0)
    await store.purge(["one"])
    await soon(waiting)


async def test_waiting_ends_with_the_timeout(store: Store, clock: HandClock) -> None:
    await create(store)
    waiting = asyncio.create_task(changed(store, "one", timeout=5))
    await asyncio.sleep(0)
    clock.advance(4.9)
    await asyncio.sleep(0)
    assert not waiting.done()
    clock.advance(0.2)
    await soon(waiting)


async def test_waiting_for_the_end_sleeps_through_the_rest(store: Store, mail: Mail) -> None:
    await create(store)
    waiting = asyncio.create_task(changed(store, "one", until_ended=True))
    any_change = asyncio.create_task(changed(store, "one"))
    await asyncio.sleep(0)
    started = (await mail.next()).event
    assert isinstance(started, ExecutionStarted)
    one = Instance(store, started, await store.commit(first_turn(started, await version_of(store))))
    await soon(any_change)
    assert not waiting.done()
    await one.end()
    await soon(waiting)
    await store.flush()
    record = await store.get_instance("one")
    assert record is not None
    assert record.runtime_status is Status.Completed


async def test_cancelled_waiters_leave_nothing_behind(store: Store) -> None:
    await create(store)
    waiting = [asyncio.create_task(changed(store, "one")) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await store.commit(first_turn(start("one"), await version_of(store)))
    await soon(asyncio.gather(*waiting[1:]))
    with pytest.raises(asyncio.CancelledError):
        await waiting[0]


async def test_closing_wakes_those_who_wait(store: Store) -> None:
    waiting = asyncio.create_task(changed(store, "one", until_ended=True))
    await asyncio.sleep(0)
    await store.close()
    await soon(waiting)


async def test_a_client_hears_of_what_the_host_does(hub: Hub) -> None:
    client, host = await hub.client(), await hub.host()
    one = await running(Mail(host))
    with client.watch("one", until_ended=True) as watch:
        await one.end()
        await soon(watch.changed(60))
    assert (await client.get_instance("one")).runtime_status is Status.Completed
