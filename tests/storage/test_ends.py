"""Who cleans up: what is removed when nobody waits for it any more, and what is not."""

from __future__ import annotations

from datetime import timedelta

import pytest
from storage_hubs import HandClock, Hub
from storage_mail import Mail, names
from storage_records import Status, completed, message, raise_event, running, scheduled, soon, start

from durable_ext.history import LIVE
from durable_ext.storage.contract import Store


@pytest.mark.parametrize("status", [Status.Completed, Status.Failed, Status.Terminated, Status.Canceled])
async def test_an_end_removes_the_queued_work(store: Store, mail: Mail, status: Status) -> None:
    one, two = await running(mail, "one"), await running(mail, "two")
    await one.commit(*(scheduled(number) for number in range(200)), queued=[one.work(each) for each in range(200)])
    await one.end(status)
    await two.commit(queued=[two.work(0)])
    await store.flush()
    assert [each.instance_id for each in await soon(store.receive_work(1000))] == ["two"]


async def test_an_end_removes_the_work_that_is_running(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await one.commit(queued=[one.work(0)], inline=[one.work(1)])
    (claimed,) = await soon(store.receive_work(10))
    await one.end()
    await store.flush()
    await store.complete_work(claimed, completed(0))
    await store.complete_work(one.work(1), completed(1))
    assert await mail.rest() == [], "nobody waits for these outcomes"


async def test_work_of_an_ended_instance_is_not_offered_after_a_crash(hub: Hub) -> None:
    store = await hub.host()
    one = await running(Mail(store))
    await one.commit(queued=[one.work(0)], inline=[one.work(1)])
    await one.end()
    await store.flush()
    await hub.crash(store)

    store = await hub.host()
    two = await running(Mail(store), "two")
    await two.commit(queued=[two.work(0)])
    assert [each.instance_id for each in await soon(store.receive_work(10))] == ["two"]


async def test_an_end_that_cancels_nothing_leaves_what_is_queued_and_running(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await one.commit(queued=[one.work(0)], inline=[one.work(1)])
    await one.end(cancels_all=False)
    await store.flush()
    assert [each.task_id for each in await soon(store.receive_work(10))] == [0]
    await store.complete_work(one.work(1), completed(1))
    assert [each.event for each in await mail.rest()] == [completed(1)]


async def test_what_the_last_commit_asks_for_is_not_cancelled_with_the_rest(
    store: Store, mail: Mail, clock: HandClock
) -> None:
    one = await running(mail)
    await one.commit(queued=[one.work(0)])
    await one.end(queued=[one.work(1)], messages=[one.timer(2, clock.now() + timedelta(seconds=1))])
    await store.flush()
    assert [each.task_id for each in await soon(store.receive_work(10))] == [1]


async def test_an_end_removes_timers(store: Store, mail: Mail, clock: HandClock) -> None:
    one = await running(mail)
    await one.commit(messages=[one.timer(0, clock.now() + timedelta(hours=1))])
    await one.end()
    await store.flush()
    clock.advance(7200)
    assert await mail.rest() == []


async def test_an_end_leaves_what_others_have(store: Store, mail: Mail, clock: HandClock) -> None:
    one, two = await running(mail, "one"), await running(mail, "two")
    soon_due = clock.now() + timedelta(seconds=5)
    await two.commit(queued=[two.work(0)], messages=[two.timer(1, soon_due)])
    await one.end(messages=[message("two", "from the last turn")])
    await store.flush()
    clock.advance(6)
    assert [each.instance_id for each in await soon(store.receive_work(10))] == ["two"]
    assert {*names(await mail.rest("two"))} == {"from the last turn", ""}


async def test_an_end_leaves_messages_that_have_come(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await raise_event(store, "one", "in hand")
    in_hand = await mail.next()
    await raise_event(store, "one", "on its way")
    await one.end()
    await store.flush()
    assert names((await store.begin("one", None, [in_hand])).deliveries) == ["in hand"]
    assert names(await mail.rest()) == ["on its way"]


async def test_an_end_leaves_a_message_that_was_given_back(store: Store, mail: Mail, clock: HandClock) -> None:
    one = await running(mail)
    await raise_event(store, "one", "given back")
    given_back = await mail.next()
    await store.give_back([given_back], 5)
    await one.end()
    await store.flush()
    clock.advance(6)
    assert names([await mail.again(given_back)]) == ["given back"]


# --- cancelled calls and timers ------------------------------------------------------------------------


async def test_cancelling_leaves_the_other_calls_and_timers(store: Store, mail: Mail, clock: HandClock) -> None:
    one, two = await running(mail, "one"), await running(mail, "two")
    due = clock.now() + timedelta(seconds=5)
    await two.commit(queued=[two.work(0)], messages=[two.timer(1, due)])
    await one.commit(
        queued=[one.work(0), one.work(2)],
        messages=[one.timer(1, due), one.timer(3, due), message("one", "an event")],
    )
    await one.commit(cancelled=[0, 1])
    await store.flush()
    clock.advance(6)

    work = await soon(store.receive_work(10))
    assert {("one", 2), ("two", 0)} <= {(each.instance_id, each.task_id) for each in work}
    came = await mail.rest("one")
    assert one.timer(3, due).event in [each.event for each in came]
    assert "an event" in names(came)
    assert two.timer(1, due).event in [each.event for each in await mail.rest("two")]


async def test_cancelling_is_about_one_execution(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await one.commit(queued=[one.work(0)])
    another = one.turn(execution_id="another", cancelled=[0])
    one.version = await store.commit(another)
    await store.flush()
    assert [each.task_id for each in await soon(store.receive_work(10))] == [0]


# --- replaced instances --------------------------------------------------------------------------------


async def test_a_replaced_instance_leaves_its_successor_nothing(store: Store, mail: Mail, clock: HandClock) -> None:
    one = await running(mail)
    await one.commit(
        queued=[one.work(0)],
        inline=[one.work(1)],
        messages=[one.timer(2, clock.now() + timedelta(seconds=5))],
    )
    await raise_event(store, "one", "unread")
    await raise_event(store, "one", "for later", visible_at=clock.now() + timedelta(seconds=5))

    await store.create_instance(start("one", name="Again"), overridable=LIVE)

    clock.advance(6)
    await store.complete_work(one.work(1), completed(1))
    assert names(await mail.rest()) == ["Again"]
    assert await store.read_history("one") == []
    two = await running(mail, "two")
    await two.commit(queued=[two.work(0)])
    assert [each.instance_id for each in await soon(store.receive_work(10))] == ["two"]
