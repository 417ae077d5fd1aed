"""What outlives a worker, however it ended, and what several stores on one hub see of each other."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from storage_hubs import HandClock, Hub, nothing_lost
from storage_mail import Mail, names
from storage_records import (
    THEN,
    Status,
    completed,
    create,
    finish,
    message,
    raise_event,
    raised,
    running,
    scheduled,
    soon,
    start,
)

from durable_ext.errors import StoreError
from durable_ext.history import LIVE
from durable_ext.storage.contract import StatusChange


async def test_everything_is_there_after_a_restart(hub: Hub) -> None:
    first = await hub.host()
    one = await running(Mail(first))
    await one.commit(raised("go"), scheduled(0), queued=[one.work(0)], messages=[message("two", "unread")])
    await first.flush()
    before = await first.get_instance("one"), await first.read_history("one")
    await first.close()

    second = await hub.host()
    assert (await second.get_instance("one"), await second.read_history("one")) == before
    assert names([await Mail(second).next("two")]) == ["unread"]
    (item,) = await soon(second.receive_work(10))
    assert item.receipt == one.work(0).receipt


@pytest.mark.parametrize("crashes", [True, False])
async def test_what_was_not_consumed_comes_again(hub: Hub, crashes: bool) -> None:
    first = await hub.host()
    mail = Mail(first)
    await running(mail)
    await raise_event(first, "one", "in hand")
    in_hand = await mail.next()
    await raise_event(first, "one", "unread")
    await (hub.crash(first) if crashes else first.close())

    again = await Mail(await hub.host()).until("unread")
    assert names(again) == ["in hand", "unread"]
    assert again[0].receipt == in_hand.receipt


async def test_what_was_consumed_does_not_come_again_after_a_crash(hub: Hub) -> None:
    first = await hub.host()
    await running(Mail(first))
    await hub.crash(first)
    assert await Mail(await hub.host()).rest() == []


async def test_what_was_given_back_comes_after_a_crash(hub: Hub, clock: HandClock) -> None:
    first = await hub.host()
    mail = Mail(first)
    await running(mail)
    await raise_event(first, "one", "given back")
    await first.give_back([await mail.next()], 60)
    await hub.crash(first)

    second = await hub.host()
    clock.advance(61)
    assert names([await Mail(second).next()]) == ["given back"]


async def test_timers_survive_a_restart(hub: Hub, clock: HandClock) -> None:
    first = await hub.host()
    await running(Mail(first))
    for name, delay in (("soon", 60), ("tomorrow", 86400)):
        await raise_event(first, "one", name, visible_at=clock.now() + timedelta(seconds=delay))
    await first.close()

    mail = Mail(await hub.host())
    assert await mail.rest() == []
    clock.advance(61)
    assert names(await mail.rest()) == ["soon"]


async def test_timers_that_came_due_in_between_come_at_once(hub: Hub, clock: HandClock) -> None:
    first = await hub.host()
    await running(Mail(first))
    await raise_event(first, "one", "soon", visible_at=clock.now() + timedelta(seconds=60))
    await first.close()
    clock.advance(86400)
    assert names([await Mail(await hub.host()).next()]) == ["soon"]


async def test_closing_does_what_commits_still_owed(hub: Hub) -> None:
    first = await hub.host()
    mail = Mail(first)
    one = await running(mail)
    await raise_event(first, "one", "consumed")
    await one.commit(
        messages=[message("two", "hello")],
        queued=[one.work(0)],
        status=StatusChange(runtime_status=Status.Running, updated_at=THEN, custom_status='"halfway"'),
        consumed=[(await mail.next()).receipt],
    )
    await first.close()

    second = await hub.host()
    mail = Mail(second)
    assert (await second.get_instance("one")).custom_status == '"halfway"'
    assert names([await mail.next("two")]) == ["hello"]
    assert await mail.rest("one") == []
    assert [each.task_id for each in await soon(second.receive_work(10))] == [0]


async def test_closing_finishes_what_was_accepted(hub: Hub) -> None:
    first = await hub.host()
    storing = [asyncio.create_task(create(first, f"instance-{number}")) for number in range(100)]
    await asyncio.sleep(0)
    await first.close()
    await asyncio.gather(*storing)

    second = await hub.host()
    for number in range(100):
        assert await second.get_instance(f"instance-{number}") is not None


# --- work --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crashes", [True, False])
async def test_claimed_work_is_offered_again_its_tries_as_counted(hub: Hub, crashes: bool) -> None:
    first = await hub.host()
    one = await running(Mail(first))
    await one.commit(scheduled(0), scheduled(1), queued=[one.work(0)], inline=[one.work(1, tries=1)])
    await soon(first.receive_work(10))
    await one.commit(queued=[one.work(2)])
    await (hub.crash(first) if crashes else first.close())

    again = await soon((await hub.host()).receive_work(10))
    assert sorted((each.task_id, each.tries) for each in again) == [(0, 2), (1, 2), (2, 1)]


async def test_tries_add_up_over_crashes(hub: Hub) -> None:
    store = await hub.host()
    one = await running(Mail(store))
    await one.commit(queued=[one.work(0)])
    for tries in range(1, 5):
        (item,) = await soon(store.receive_work(1))
        assert item.tries == tries
        await hub.crash(store)
        store = await hub.host()


async def test_work_nobody_received_is_not_counted(hub: Hub) -> None:
    first = await hub.host()
    one = await running(Mail(first))
    waiting = asyncio.create_task(first.receive_work(10))
    await asyncio.sleep(0)
    await one.commit(queued=[one.work(0)])
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    was_handed_out = not waiting.cancelled()
    await first.close()

    (item,) = await soon((await hub.host()).receive_work(10))
    assert item.tries == (2 if was_handed_out else 1)


async def test_an_outcome_stored_before_a_crash_is_there_after_it(hub: Hub) -> None:
    first = await hub.host()
    one = await running(Mail(first))
    await one.commit(queued=[one.work(0)])
    (item,) = await soon(first.receive_work(1))
    await first.complete_work(item, completed(0))
    await hub.crash(first)

    second = await hub.host()
    assert (await Mail(second).next()).event == completed(0)
    two = await running(Mail(second), "two")
    await two.commit(queued=[two.work(0)])
    assert [each.instance_id for each in await soon(second.receive_work(10))] == ["two"]


# --- hosts and clients ---------------------------------------------------------------------------------


async def test_a_store_object_hosts_once(hub: Hub) -> None:
    store = await hub.host()
    with pytest.raises(StoreError, match="hosts"):
        await store.host("again", nothing_lost)


async def test_a_client_cannot_do_what_a_host_does(hub: Hub) -> None:
    client = await hub.client()
    for call in (client.receive(), client.receive_work(1), client.begin("one", None, []), client.sweep()):
        with pytest.raises(StoreError, match="host"):
            await call


async def test_a_store_that_is_not_open_says_so(hub: Hub) -> None:
    store = await hub.client()
    await store.close()
    for call in (store.get_instance("one"), create(store), store.host("the test", nothing_lost)):
        with pytest.raises(StoreError, match="open"):
            await call


async def test_the_host_hears_of_what_a_client_stores(hub: Hub) -> None:
    host, client = await hub.host(), await hub.client()
    mail = Mail(host)
    await running(mail)
    waiting = asyncio.create_task(mail.next("from outside"))
    await asyncio.sleep(0)
    await create(client, "from outside")
    await raise_event(client, "one", "go")
    assert names([await soon(waiting), await mail.next("one")]) == ["Greet", "go"]


async def test_order_holds_across_stores(hub: Hub) -> None:
    host, client = await hub.host(), await hub.client()
    mail = Mail(host)
    await running(mail)
    for number in range(200):
        await raise_event(client if number % 3 else host, "one", str(number))
    assert names(await mail.until("199")) == [str(number) for number in range(200)]


async def test_a_timer_set_by_a_client_goes_off_at_the_host(hub: Hub, clock: HandClock) -> None:
    host, client = await hub.host(), await hub.client()
    mail = Mail(host)
    await running(mail)
    await raise_event(client, "one", "soon", visible_at=clock.now() + timedelta(seconds=60))
    await raise_event(client, "one", "now")
    assert names(await mail.until("now")) == ["now"]
    clock.advance(61)
    assert names([await mail.next()]) == ["soon"]


async def test_a_client_can_replace_an_instance_the_host_has_in_hand(hub: Hub) -> None:
    host, client = await hub.host(), await hub.client()
    mail = Mail(host)
    await running(mail)
    await raise_event(host, "one", "for the old one")
    old = await mail.next()
    await client.create_instance(start("one", name="Again"), overridable=LIVE)

    loaded = await host.begin("one", None, [old])
    assert loaded.snapshot is not None
    assert loaded.snapshot.status is Status.Pending
    assert old.receipt not in [each.receipt for each in loaded.deliveries]
    assert names([await mail.next()]) == ["Again"]


async def test_clients_may_come_and_go_beside_a_host(hub: Hub) -> None:
    host = await hub.host()
    await finish(Mail(host))
    await host.flush()
    client = await hub.client()
    assert await client.purge(["one"]) == 1
    await client.close()
    assert await host.get_instance("one") is None


async def test_several_may_create_the_hub_at_once(hub: Hub) -> None:
    stores = await asyncio.gather(*(hub.client() for _ in range(4)))
    await create(stores[0])
    for each in stores:
        assert await each.get_instance("one") is not None
