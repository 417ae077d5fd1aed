"""What happens to a message: it comes until a commit consumes it, in order, and not before its time."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from storage_hubs import HandClock
from storage_mail import Mail, names
from storage_records import (
    ANY_STATE,
    Status,
    create,
    first_turn,
    message,
    raise_event,
    raised,
    running,
    snapshot,
    soon,
    start,
)

from durable_ext.errors import InstanceNotFoundError, InstanceStateError, StoreError
from durable_ext.history import LIVE, TERMINAL
from durable_ext.messages import Message
from durable_ext.storage.contract import Store


async def test_a_start_is_delivered(store: Store, mail: Mail) -> None:
    started = await create(store)
    delivery = await mail.next()
    assert (delivery.event, delivery.execution_id) == (started, started.execution_id)


async def test_a_waiting_receiver_is_woken_by_a_commit(store: Store, mail: Mail) -> None:
    one = await running(mail)
    waiting = asyncio.create_task(mail.next("two"))
    await asyncio.sleep(0)
    assert not waiting.done()
    await one.commit(messages=[message("two", "wake up")])
    assert names([await soon(waiting)]) == ["wake up"]


# --- until it is consumed ------------------------------------------------------------------------------


async def test_a_consumed_message_is_no_news(store: Store, mail: Mail) -> None:
    started = await create(store)
    delivery = await mail.next()
    loaded = await store.begin("one", None, [delivery])
    assert loaded.snapshot is not None
    version = await store.commit(first_turn(started, loaded.snapshot.version, consumed=[delivery.receipt]))

    assert not (await store.begin("one", None, [delivery])).deliveries
    assert not (await store.begin("one", version, [delivery])).deliveries


async def test_a_consumed_message_does_not_come_again(store: Store, mail: Mail) -> None:
    await running(mail)
    assert await mail.rest() == []
    await store.sweep()
    assert await mail.rest() == []


async def test_a_message_given_back_comes_again_with_the_same_receipt(store: Store, mail: Mail) -> None:
    await create(store)
    delivery = await mail.next()
    await store.give_back([delivery], 0)
    again = await mail.again(delivery)
    assert (again.receipt, again.event) == (delivery.receipt, delivery.event)


async def test_giving_back_is_not_a_try(store: Store, mail: Mail) -> None:
    await create(store)
    delivery = await mail.next()
    for _ in range(3):
        await store.give_back([delivery], 0)
        delivery = await mail.again(delivery)
    assert delivery.tries == 1


async def test_messages_given_back_together_keep_their_order(store: Store, mail: Mail) -> None:
    await create(store)
    for name in "abc":
        await raise_event(store, "one", name)
    deliveries = await mail.until("c")
    await store.give_back(deliveries, 0)
    again = Mail(store)
    assert names(await again.until("c")) == ["Greet", "a", "b", "c"]


async def test_a_message_given_back_stays_away_for_the_delay(store: Store, mail: Mail, clock: HandClock) -> None:
    """It may come earlier, as any message may come again; but these stores deliver nothing again unasked."""
    await create(store)
    delivery = await mail.next()
    await store.give_back([delivery], 5)
    again = Mail(store)
    assert await again.rest() == []
    clock.advance(4.9)
    assert await again.rest() == []
    clock.advance(0.2)
    assert (await again.next()).receipt == delivery.receipt


async def test_a_message_given_back_may_be_consumed_meanwhile(store: Store, mail: Mail, clock: HandClock) -> None:
    one = await running(mail)
    await raise_event(store, "one", "in hand")
    delivery = await mail.next()
    await store.give_back([delivery], 5)
    await one.remove(delivery.receipt)
    clock.advance(6)
    assert await Mail(store).rest() == []


async def test_giving_back_what_was_consumed_brings_nothing_back(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await raise_event(store, "one", "consumed")
    delivery = await mail.next()
    await one.remove(delivery.receipt)
    await store.give_back([delivery], 0)
    assert await Mail(store).rest() == []


# --- order -------------------------------------------------------------------------------------------


async def test_messages_to_an_instance_come_in_the_order_they_were_stored(store: Store, mail: Mail) -> None:
    await running(mail)
    for number in range(50):
        await raise_event(store, "one", str(number))
    assert names(await mail.until("49")) == [str(number) for number in range(50)]


async def test_order_holds_for_thousands_of_messages(store: Store, mail: Mail) -> None:
    one = await running(mail)
    count, received = 6000, []
    # In hundreds, some of them stored while the first are being received.
    for first in range(0, count, 100):
        await one.commit(messages=[message("one", str(number)) for number in range(first, first + 100)])
        if first % 1500 == 0:
            received.append(await mail.next())
    received += await mail.until(str(count - 1))
    assert names(received) == [str(number) for number in range(count)]


# --- its time ----------------------------------------------------------------------------------------


async def test_a_message_never_comes_before_its_time(store: Store, mail: Mail, clock: HandClock) -> None:
    await running(mail)
    for name, delay in (("third", 30), ("first", 10), ("second", 20)):
        await raise_event(store, "one", name, visible_at=clock.now() + timedelta(seconds=delay))

    assert await mail.rest() == []
    for name in ("first", "second", "third"):
        clock.advance(9.9)
        assert await mail.rest() == []
        clock.advance(0.1)
        assert names([await mail.next()]) == [name]


async def test_messages_for_later_do_not_hold_up_others(store: Store, mail: Mail, clock: HandClock) -> None:
    await running(mail)
    await raise_event(store, "one", "tomorrow", visible_at=clock.now() + timedelta(days=1))
    await raise_event(store, "one", "now")
    assert names([await mail.next()]) == ["now"]


async def test_a_time_in_the_past_means_now(store: Store, mail: Mail, clock: HandClock) -> None:
    await running(mail)
    await raise_event(store, "one", "first")
    await raise_event(store, "one", "late", visible_at=clock.now() - timedelta(hours=1))
    await raise_event(store, "one", "last")
    assert names(await mail.until("last")) == ["first", "late", "last"]


async def test_many_messages_for_one_time_all_come_in_order_of_their_times(
    store: Store, mail: Mail, clock: HandClock
) -> None:
    one = await running(mail)
    count, due = 2500, clock.now() + timedelta(hours=1)
    await one.commit(
        messages=[
            Message(instance_id="one", event=raised(str(number)), visible_at=due + timedelta(microseconds=number // 10))
            for number in range(count)
        ]
    )
    clock.advance(3601)
    assert names(await mail.until(str(count - 1))) == [str(number) for number in range(count)]


# --- receiving ---------------------------------------------------------------------------------------


async def test_cancelling_a_receiver_loses_no_message(store: Store, mail: Mail) -> None:
    for _ in range(3):
        waiting = asyncio.create_task(store.receive())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await create(store)
    assert names([await mail.next()]) == ["Greet"]


async def test_a_receiver_cancelled_while_a_message_arrives_loses_nothing(store: Store, mail: Mail) -> None:
    for number in range(30):
        waiting = asyncio.create_task(mail.next(f"instance-{number}"))
        await asyncio.sleep(0)
        storing = asyncio.create_task(create(store, f"instance-{number}"))
        for _ in range(number % 7):
            await asyncio.sleep(0)
        waiting.cancel()
        try:
            delivery = await waiting
        except asyncio.CancelledError:
            delivery = await mail.next(f"instance-{number}")
        assert names([delivery]) == ["Greet"]
        await storing


async def test_closing_wakes_receivers_with_an_error(store: Store) -> None:
    waiting = [asyncio.create_task(store.receive()), asyncio.create_task(store.receive_work(1))]
    await asyncio.sleep(0)
    await store.close()
    for each in waiting:
        with pytest.raises(StoreError, match="closed"):
            await soon(each)


async def test_closing_twice_is_no_matter(store: Store) -> None:
    await store.close()
    await store.close()


# --- beginning a turn ----------------------------------------------------------------------------------


async def test_a_begin_without_a_known_version_gives_the_snapshot(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await raise_event(store, "one", "news")
    delivery = await mail.next()
    loaded = await store.begin("one", None, [delivery])
    assert loaded.snapshot is not None
    assert (loaded.snapshot.status, loaded.snapshot.version) == (Status.Running, one.version)
    assert list(loaded.deliveries) == [delivery]


async def test_a_begin_with_the_present_version_passes_on_what_is_still_there(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await raise_event(store, "one", "news")
    delivery = await mail.next()
    loaded = await store.begin("one", one.version, [delivery])
    assert list(loaded.deliveries) == [delivery]


@pytest.mark.parametrize("is_known", [True, False])
async def test_no_message_comes_twice_in_one_answer(store: Store, mail: Mail, is_known: bool) -> None:
    one = await running(mail)
    await raise_event(store, "one", "news")
    delivery = await mail.next()
    loaded = await store.begin("one", one.version if is_known else None, [delivery, delivery])
    assert list(loaded.deliveries) == [delivery]


async def test_the_start_of_a_new_instance_is_news_to_its_first_turn(store: Store, mail: Mail) -> None:
    await create(store)
    delivery = await mail.next()
    loaded = await store.begin("one", None, [delivery])
    assert loaded.snapshot is not None
    assert (loaded.snapshot.status, loaded.snapshot.history) == (Status.Pending, [])
    assert list(loaded.deliveries) == [delivery]


async def test_messages_of_a_replaced_instance_do_not_reach_the_new_one(store: Store, mail: Mail) -> None:
    await running(mail)
    await raise_event(store, "one", "in hand")
    in_hand = await mail.next()
    await raise_event(store, "one", "on the way")

    await store.create_instance(start("one", name="Again"), overridable=ANY_STATE)

    deliveries = await mail.until("Again")
    loaded = await store.begin("one", None, [in_hand, *deliveries])
    assert names(loaded.deliveries) == ["Again"]


async def test_messages_of_a_purged_instance_are_no_news(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await raise_event(store, "one", "in hand")
    in_hand = await mail.next()
    await one.end()
    await store.flush()
    await store.purge(["one"])
    loaded = await store.begin("one", None, [in_hand])
    assert not loaded.deliveries
    assert (await snapshot(store)).status is None


# --- sending -----------------------------------------------------------------------------------------


async def test_a_message_is_stored_for_an_instance_in_one_of_the_accepted_statuses(store: Store, mail: Mail) -> None:
    await create(store)
    await store.send(message("one", "hello"), accepted=LIVE)
    assert names(await mail.until("hello")) == ["Greet", "hello"]


async def test_sending_to_nobody_stores_nothing(store: Store, mail: Mail) -> None:
    with pytest.raises(InstanceNotFoundError, match="nobody"):
        await raise_event(store, "nobody", "hello")
    await create(store, "nobody")
    assert names(await mail.rest("nobody")) == ["Greet"]


async def test_sending_in_a_refused_status_stores_nothing(store: Store, mail: Mail) -> None:
    await running(mail)
    with pytest.raises(InstanceStateError, match="Running") as refused:
        await store.send(message("one", "hello"), accepted=TERMINAL)
    assert refused.value.status == "Running"
    assert await mail.rest() == []
