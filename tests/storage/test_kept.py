"""What is kept: messages that stay with their instance until somebody wants them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from storage_hubs import HandClock, Hub
from storage_mail import Mail, names
from storage_records import ANY_STATE, Instance, first_turn, raise_event, running, snapshot, start, version_of

from durable_ext.errors import VersionConflictError
from durable_ext.storage.contract import Delivery, Store


async def keep(mail: Mail, one: Instance, *events: str) -> list[Delivery]:
    """Deliver these events and keep them, each in a turn of its own; return the deliveries."""
    for each in events:
        await raise_event(mail.store, one.instance_id, each)
    deliveries = await mail.until(events[-1], one.instance_id)
    for each in deliveries:
        await one.commit(kept=[each.receipt])
    return deliveries


async def kept_of(store: Store, instance_id: str = "one", deliveries: list[Delivery] | None = None) -> list[Delivery]:
    return list((await store.begin(instance_id, None, deliveries or [])).deliveries)


async def test_kept_messages_come_with_a_begin_that_reads_the_instance(store: Store, mail: Mail) -> None:
    one = await running(mail)
    (delivery,) = await keep(mail, one, "early")

    (kept,) = await kept_of(store)
    assert (kept.receipt, kept.event, kept.is_kept) == (delivery.receipt, delivery.event, True)
    assert kept.unreadable is None


async def test_a_turn_without_events_may_keep_messages_too(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await raise_event(store, "one", "early")
    delivery = await mail.next()
    await one.remove(kept=[delivery.receipt])
    assert names(await kept_of(store)) == ["early"]


async def test_kept_messages_come_in_the_order_they_were_stored(store: Store, mail: Mail) -> None:
    one = await running(mail)
    for each in "abcd":
        await raise_event(store, "one", each)
    a, b, c, d = await mail.until("d")
    await one.commit(kept=[d.receipt, b.receipt])
    await one.commit(kept=[c.receipt])
    await one.commit(kept=[a.receipt])
    assert names(await kept_of(store)) == ["a", "b", "c", "d"]


async def test_kept_messages_come_ahead_of_what_was_delivered(store: Store, mail: Mail) -> None:
    one = await running(mail)
    for each in ("delivered", "kept"):
        await raise_event(store, "one", each)
    delivered, kept = await mail.until("kept")
    await one.commit(kept=[kept.receipt])
    found = await kept_of(store, deliveries=[delivered])
    assert [(*names([each]), each.is_kept) for each in found] == [("kept", True), ("delivered", False)]


async def test_a_message_both_delivered_and_kept_comes_once(store: Store, mail: Mail) -> None:
    one = await running(mail)
    deliveries = await keep(mail, one, "early")
    found = await kept_of(store, deliveries=deliveries)
    assert [(each.receipt, each.is_kept) for each in found] == [(deliveries[0].receipt, True)]


async def test_a_kept_message_stays_through_commits_that_do_not_consume_it(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await keep(mail, one, "early")
    await raise_event(store, "one", "other")
    await one.commit(consumed=[(await mail.next()).receipt])
    assert names(await kept_of(store)) == ["early"]


async def test_a_kept_message_outlives_a_generation(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await keep(mail, one, "early")
    again = start("one", start_id=one.started.start_id)
    await store.commit(first_turn(again, one.version, replaces_history=True))
    assert names(await kept_of(store)) == ["early"]


async def test_a_kept_message_outlives_the_end(store: Store, mail: Mail) -> None:
    one = await running(mail)
    deliveries = await keep(mail, one, "early")
    await raise_event(store, "one", "last")
    last = await mail.next()
    await one.end(kept=[last.receipt])
    assert [each.receipt for each in await kept_of(store)] == [deliveries[0].receipt, last.receipt]


async def test_a_kept_message_goes_when_it_is_consumed(store: Store, mail: Mail) -> None:
    one = await running(mail)
    first, second = await keep(mail, one, "first", "second")
    await one.commit(consumed=[first.receipt])
    assert names(await kept_of(store, deliveries=[first, second])) == ["second"]


async def test_a_kept_message_may_be_consumed_by_the_last_turn(store: Store, mail: Mail) -> None:
    one = await running(mail)
    first, _ = await keep(mail, one, "first", "second")
    await one.end(consumed=[first.receipt])
    assert names(await kept_of(store)) == ["second"]


async def test_kept_messages_go_when_the_instance_is_purged(store: Store, mail: Mail) -> None:
    one = await running(mail)
    deliveries = await keep(mail, one, "early")
    await one.end()
    await store.flush()
    assert await store.purge(["one"]) == 1
    assert await kept_of(store, deliveries=deliveries) == []
    again = await running(mail)
    assert await kept_of(store, again.instance_id, deliveries) == []


async def test_kept_messages_go_when_the_instance_is_replaced(store: Store, mail: Mail) -> None:
    one = await running(mail)
    deliveries = await keep(mail, one, "early")
    await store.create_instance(start("one", name="Again"), overridable=ANY_STATE)
    again = await mail.until("Again")
    assert names(await kept_of(store, deliveries=[*deliveries, *again])) == ["Again"]
    version = await version_of(store)
    await store.commit(first_turn(start("one"), version, consumed=[each.receipt for each in again]))
    assert await kept_of(store) == []


async def test_a_message_that_came_at_its_time_can_be_kept(store: Store, mail: Mail, clock: HandClock) -> None:
    one = await running(mail)
    await raise_event(store, "one", "later", visible_at=clock.now() + timedelta(seconds=5))
    clock.advance(6)
    later = await mail.next()
    await one.commit(kept=[later.receipt])
    assert names(await kept_of(store)) == ["later"]
    await one.end()
    assert names(await kept_of(store)) == ["later"]


async def test_other_instances_do_not_see_what_one_has_kept(store: Store, mail: Mail) -> None:
    one, two = await running(mail, "one"), await running(mail, "two")
    await keep(mail, one, "of one")
    await keep(mail, two, "of two")
    assert names(await kept_of(store, "one")) == ["of one"]
    assert names(await kept_of(store, "two")) == ["of two"]


async def test_what_a_lost_commit_would_have_kept_is_not_kept(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await raise_event(store, "one", "early")
    early = await mail.next()
    late = one.turn(kept=[early.receipt])
    await one.commit()
    with pytest.raises(VersionConflictError):
        await store.commit(late)
    assert [each.is_kept for each in await kept_of(store, deliveries=[early])] == [False]


async def test_kept_messages_are_there_after_a_restart(hub: Hub) -> None:
    first = await hub.host()
    mail = Mail(first)
    one = await running(mail)
    await keep(mail, one, "a", "b")
    await first.close()

    second = await hub.host()
    assert names(await kept_of(second)) == ["a", "b"]
    assert [each.is_kept for each in await kept_of(second)] == [True, True]


async def test_kept_messages_are_there_after_a_crash(hub: Hub) -> None:
    first = await hub.host()
    mail = Mail(first)
    one = await running(mail)
    await keep(mail, one, "early")
    await hub.crash(first)

    second = await hub.host()
    assert names(await kept_of(second)) == ["early"]
    assert (await snapshot(second)).version == one.version
