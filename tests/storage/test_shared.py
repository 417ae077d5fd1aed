"""Stores that share the instances out among several hosts."""

from __future__ import annotations

import asyncio

import pytest
from storage_hubs import Hub
from storage_mail import Mail, names
from storage_records import Instance, create, first_turn, raise_event, raised, running, soon, start, turn, version_of

from durable_ext.errors import VersionConflictError

IDS = [f"instance-{number}" for number in range(100)]


async def test_every_instance_is_local_to_exactly_one_host(shared_hub: Hub) -> None:
    first, second = await shared_hub.host(), await shared_hub.host()
    assert all(first.is_local(each) != second.is_local(each) for each in IDS)
    assert {first.is_local(each) for each in IDS} == {True, False}


async def test_a_host_is_told_when_another_takes_instances(shared_hub: Hub) -> None:
    told = asyncio.Event()
    first = await shared_hub.host(lost=told.set)
    assert all(first.is_local(each) for each in IDS)
    await shared_hub.host()
    await soon(told.wait())
    assert not all(first.is_local(each) for each in IDS)


@pytest.mark.parametrize("crashes", [True, False])
async def test_instances_of_a_host_that_is_gone_go_to_the_others(shared_hub: Hub, crashes: bool) -> None:
    first, second = await shared_hub.host(), await shared_hub.host()
    theirs = next(each for each in IDS if second.is_local(each))
    await create(first, theirs)
    held = await Mail(second).next(theirs)
    await (shared_hub.crash(second) if crashes else second.close())

    assert first.is_local(theirs)
    assert (await Mail(first).next(theirs)).receipt == held.receipt


async def test_messages_go_to_the_host_of_their_instance(shared_hub: Hub) -> None:
    first, second = await shared_hub.host(), await shared_hub.host()
    for each in IDS:
        await create(first, each)
    for host in (first, second):
        mail = Mail(host)
        for each in IDS:
            if host.is_local(each):
                assert names([await mail.next(each)]) == ["Greet"]


async def test_messages_in_hand_come_to_a_host_that_takes_the_instance(shared_hub: Hub) -> None:
    first = await shared_hub.host()
    mail = Mail(first)
    for each in IDS:
        await running(mail, each)
    second = await shared_hub.host()
    for each in IDS:
        await raise_event(first, each, "after the move")
    taken = [each for each in IDS if second.is_local(each)]
    mail = Mail(second)
    assert [names([await mail.next(each)]) for each in taken] == [["after the move"]] * len(taken)


async def test_of_two_hosts_that_run_one_instance_one_loses_its_version_check(shared_hub: Hub) -> None:
    first, second = await shared_hub.host(), await shared_hub.host()
    started = await create(first)
    versions = [await version_of(each) for each in (first, second)]
    turns = [first_turn(started, version, raised(str(number))) for number, version in enumerate(versions)]
    results = await asyncio.gather(first.commit(turns[0]), second.commit(turns[1]), return_exceptions=True)
    (lost,) = [number for number, each in enumerate(results) if isinstance(each, VersionConflictError)]
    assert await first.read_history("one") == turns[1 - lost].events


async def test_a_begin_on_an_old_version_may_give_the_snapshot_that_is_news(shared_hub: Hub) -> None:
    first, second = await shared_hub.host(), await shared_hub.host()
    started = await create(first)
    version = await first.commit(first_turn(started, await version_of(first)))
    await Instance(second, started, version).commit(raised("by the second"))

    loaded = await first.begin("one", version, [])
    if loaded.snapshot is not None:
        assert loaded.snapshot.history == [*turn(started), *turn(raised("by the second"))]
    with pytest.raises(VersionConflictError):
        await Instance(first, started, version).commit()


async def test_work_goes_to_whichever_host_asks_and_once(shared_hub: Hub) -> None:
    first, second = await shared_hub.host(), await shared_hub.host()
    started = start("one")
    one = Instance(first, started, await first.commit(first_turn(started, await version_of(first))))
    await one.commit(queued=[one.work(number) for number in range(20)])
    claimed = [*await soon(first.receive_work(10)), *await soon(second.receive_work(10))]
    assert sorted(each.task_id for each in claimed) == list(range(20))


async def test_work_of_a_host_that_died_is_offered_to_the_others(shared_hub: Hub) -> None:
    first, second = await shared_hub.host(), await shared_hub.host()
    started = start("one")
    one = Instance(first, started, await first.commit(first_turn(started, await version_of(first))))
    await one.commit(queued=[one.work(0)], inline=[one.work(1, tries=1)])
    await soon(first.receive_work(10))
    await shared_hub.crash(first)
    again: list[tuple[int, int]] = []
    while len(again) < 2:
        again += [(each.task_id, each.tries) for each in await soon(second.receive_work(10))]
    assert sorted(again) == [(0, 2), (1, 2)]
