"""Stores that allow one host only."""

from __future__ import annotations

import pytest
from storage_hubs import Hub, nothing_lost
from storage_mail import Mail, names
from storage_records import raise_event, running

from durable_ext.errors import StoreInUseError


async def test_a_second_host_is_refused_and_told_who_the_first_is(single_host_hub: Hub) -> None:
    first = await single_host_hub.host("the first host, process 4711")
    second = await single_host_hub.client()
    with pytest.raises(StoreInUseError, match="the first host, process 4711") as refused:
        await second.host("the second", nothing_lost)
    assert refused.value.owner == "the first host, process 4711"

    await first.close()
    await second.host("the second", nothing_lost)


async def test_a_refused_host_takes_nothing_from_the_first(single_host_hub: Hub) -> None:
    first = await single_host_hub.host()
    mail = Mail(first)
    one = await running(mail)
    await one.commit(inline=[one.work(0)])
    await raise_event(first, "one", "in hand")
    await mail.next()
    second = await single_host_hub.client()
    with pytest.raises(StoreInUseError):
        await second.host("the second", nothing_lost)

    assert await mail.rest() == []
    await one.commit(queued=[one.work(1)])
    assert [each.task_id for each in await first.receive_work(10)] == [1]


async def test_a_host_may_follow_one_that_died(single_host_hub: Hub) -> None:
    first = await single_host_hub.host()
    await running(Mail(first))
    await raise_event(first, "one", "unread")
    await single_host_hub.crash(first)
    second = await single_host_hub.host()
    assert names([await Mail(second).next()]) == ["unread"]


async def test_every_instance_is_local_to_the_only_host(single_host_hub: Hub) -> None:
    host = await single_host_hub.host()
    assert not host.traits.is_shared
    assert all(host.is_local(f"instance-{number}") for number in range(100))
