"""Messages come at least once until consumed, in order, not before their time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from storage_hub import (
    create,
    message,
    names,
    next_for,
    nothing_else_waits,
    raise_event,
    raised,
    receive_until,
    running,
    soon,
    start,
    turn,
    version_of,
)

from durable_ext.errors import InstanceNotFoundError, InstanceStateError, StoreError
from durable_ext.history import LIVE, TERMINAL
from durable_ext.messages import Message
from durable_ext.storage.contract import Commit, Store


async def test_a_start_is_delivered(store: Store) -> None:
    started = await create(store)
    delivery = await next_for(store, "one")
    assert (delivery.event, delivery.execution_id) == (started, started.execution_id)


async def test_a_waiting_receiver_is_woken_by_a_commit(store: Store) -> None:
    started, version = await running(store)
    waiting = asyncio.create_task(store.receive())
    await asyncio.sleep(0)
    assert not waiting.done()

    await store.commit(
        Commit(
            instance_id="one",
            execution_id=started.execution_id,
            version=version,
            events=turn(),
            messages=[message("two", "wake up")],
        )
    )
    assert names(await soon(waiting)) == ["wake up"]


async def test_messages_to_an_instance_come_in_the_order_they_were_stored(store: Store) -> None:
    await running(store)
    for number in range(50):
        await raise_event(store, "one", str(number))
    assert names(await receive_until(store, "49")) == [str(number) for number in range(50)]


async def test_order_holds_for_more_messages_than_fit_in_memory(store: Store) -> None:
    started, version = await running(store)
    count = 6000
    # In hundreds, some of them stored while the first are being received.
    received: list[str] = []
    for first in range(0, count, 100):
        version = await store.commit(
            Commit(
                instance_id="one",
                execution_id=started.execution_id,
                version=version,
                events=turn(),
                messages=[message("one", str(number)) for number in range(first, first + 100)],
            )
        )
        if first % 1500 == 0:
            received += names(await soon(store.receive()))
    while len(received) < count:
        received += names(await soon(store.receive()))
    assert received == [str(number) for number in range(count)]


async def test_a_consumed_message_does_not_come_again(store: Store) -> None:
    await running(store)
    await nothing_else_waits(store)
    await store.sweep()
    await nothing_else_waits(store)


async def test_a_message_in_hand_does_not_come_again_by_a_sweep(store: Store) -> None:
    await create(store)
    await next_for(store, "one")
    await store.sweep()
    await nothing_else_waits(store)


async def test_a_message_given_back_comes_again(store: Store) -> None:
    await create(store)
    delivery = await next_for(store, "one")
    await store.give_back([delivery], 0)
    assert await next_for(store, "one") == delivery


async def test_messages_given_back_together_keep_their_order(store: Store) -> None:
    await create(store)
    for name in "abc":
        await raise_event(store, "one", name)
    deliveries = await receive_until(store, "c")
    await store.give_back(deliveries, 0)
    assert names(await receive_until(store, "c")) == ["Greet", "a", "b", "c"]


async def test_a_message_given_back_stays_away_for_the_delay(store: Store) -> None:
    await create(store)
    delivery = await next_for(store, "one")
    before = datetime.now(UTC)
    await store.give_back([delivery], 0.1)
    assert await next_for(store, "one") == delivery
    assert datetime.now(UTC) - before >= timedelta(seconds=0.1)


async def test_giving_back_what_was_consumed_brings_nothing_back(store: Store) -> None:
    started = await create(store)
    delivery = await next_for(store, "one")
    await store.commit(
        Commit(
            instance_id="one",
            execution_id=started.execution_id,
            version=await version_of(store, "one"),
            consumed=[delivery.receipt],
        )
    )
    await store.give_back([delivery], 0)
    await nothing_else_waits(store)


async def test_a_message_never_comes_before_its_time(store: Store) -> None:
    await running(store)
    due: dict[str, datetime] = {}
    now = datetime.now(UTC)
    for name, delay in (("third", 0.2), ("first", 0.1), ("second", 0.15)):
        due[name] = now + timedelta(seconds=delay)
        await store.send(Message(instance_id="one", event=raised(name), visible_at=due[name]), accepted=LIVE)

    received: list[str] = []
    while len(received) < 3:
        came = names(await soon(store.receive()))
        assert all(datetime.now(UTC) >= due[name] for name in came)
        received += came
    assert received == ["first", "second", "third"]


async def test_messages_for_later_do_not_hold_up_others(store: Store) -> None:
    await running(store)
    await raise_event(store, "one", "tomorrow", visible_in=86400)
    await raise_event(store, "one", "now")
    assert names(await soon(store.receive())) == ["now"]


async def test_a_time_in_the_past_means_now(store: Store) -> None:
    await running(store)
    await raise_event(store, "one", "first")
    await raise_event(store, "one", "late", visible_in=-3600)
    await raise_event(store, "one", "last")
    assert names(await receive_until(store, "last")) == ["first", "late", "last"]


async def test_many_messages_due_at_once_all_come_in_order_of_their_times(store: Store) -> None:
    started, version = await running(store)
    count = 2500
    due = datetime.now(UTC) + timedelta(seconds=0.3)
    messages = [
        Message(instance_id="one", event=raised(str(number)), visible_at=due + timedelta(microseconds=number // 10))
        for number in range(count)
    ]
    await store.commit(
        Commit(instance_id="one", execution_id=started.execution_id, version=version, events=turn(), messages=messages)
    )
    received: list[str] = []
    while len(received) < count:
        received += names(await soon(store.receive()))
    assert received == [str(number) for number in range(count)]


async def test_cancelling_a_receiver_loses_no_message(store: Store) -> None:
    for _ in range(3):
        waiting = asyncio.create_task(store.receive())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await create(store)
    await next_for(store, "one")


async def test_a_receiver_cancelled_while_a_message_arrives_loses_nothing(store: Store) -> None:
    received: list[str] = []
    for number in range(30):
        waiting = asyncio.create_task(store.receive())
        await asyncio.sleep(0)
        storing = asyncio.create_task(create(store, f"instance-{number}"))
        for _ in range(number % 7):
            await asyncio.sleep(0)
        waiting.cancel()
        try:
            received += [each.instance_id for each in await waiting]
        except asyncio.CancelledError:
            received += [each.instance_id for each in await soon(store.receive())]
        await storing
    assert sorted(received) == sorted(f"instance-{number}" for number in range(30))


async def test_begin_with_a_known_version_passes_on_what_is_still_there(store: Store) -> None:
    _, version = await running(store)
    await raise_event(store, "one", "news")
    delivery = await next_for(store, "one")
    loaded = await store.begin("one", version, [delivery])
    assert list(loaded.deliveries) == [delivery]


async def test_messages_of_a_replaced_instance_do_not_reach_the_new_one(store: Store) -> None:
    await running(store)
    await raise_event(store, "one", "in hand")
    in_hand = await next_for(store, "one")
    await raise_event(store, "one", "on the way")

    await store.create_instance(start("one", name="Again"), overridable=LIVE | TERMINAL)

    deliveries = await receive_until(store, "Again")
    assert names(deliveries) == ["Again"]
    loaded = await store.begin("one", None, [in_hand, *deliveries])
    assert list(loaded.deliveries) == deliveries


async def test_sending_to_nobody_stores_nothing(store: Store) -> None:
    with pytest.raises(InstanceNotFoundError, match="nobody"):
        await raise_event(store, "nobody", "hello")
    await nothing_else_waits(store)


async def test_sending_in_a_refused_status_stores_nothing(store: Store) -> None:
    await running(store)
    with pytest.raises(InstanceStateError, match="Running") as refused:
        await store.send(message("one", "hello"), accepted=TERMINAL)
    assert refused.value.status == "Running"
    await nothing_else_waits(store)


async def test_closing_wakes_receivers_with_an_error(store: Store) -> None:
    waiting = [asyncio.create_task(store.receive()), asyncio.create_task(store.receive_work(1))]
    await asyncio.sleep(0)
    await store.close()
    for each in waiting:
        with pytest.raises(StoreError, match="closed"):
            await soon(each)
