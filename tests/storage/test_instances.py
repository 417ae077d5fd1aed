"""Starting, replacing, purging, listing, and waiting for instances."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest
from storage_hub import (
    THEN,
    Status,
    completed,
    create,
    ended,
    finish,
    first_turn,
    message,
    names,
    nothing_else_waits,
    raise_event,
    receive_until,
    running,
    scheduled,
    soon,
    start,
    turn,
    version_of,
    work,
)

from durable_ext.errors import InstanceAlreadyExistsError, VersionConflictError
from durable_ext.history import LIVE, TERMINAL
from durable_ext.storage.contract import Commit, InstanceQuery, StatusChange, Store

ANY_STATE = LIVE | TERMINAL


async def test_of_two_starts_with_one_id_exactly_one_succeeds(store: Store) -> None:
    starts = [start("one", input=str(number)) for number in range(10)]
    results = await asyncio.gather(
        *(store.create_instance(each, overridable=TERMINAL) for each in starts), return_exceptions=True
    )
    refused = [each for each in results if isinstance(each, InstanceAlreadyExistsError)]
    assert len(refused) == 9
    assert {(each.instance_id, each.status) for each in refused} == {("one", "Pending")}
    assert names(await soon(store.receive())) == ["Greet"]


async def test_a_refused_start_changes_nothing(store: Store) -> None:
    started, version = await running(store)
    before = await store.get_instance("one")
    with pytest.raises(InstanceAlreadyExistsError, match="Running"):
        await create(store, "one", name="Another")

    assert await store.get_instance("one") == before
    await nothing_else_waits(store)
    await store.commit(Commit(instance_id="one", execution_id=started.execution_id, version=version, events=turn()))


async def test_a_finished_instance_can_be_started_again(store: Store) -> None:
    await finish(store)
    again = await create(store, "one", name="Again", input=None)

    record = await store.get_instance("one")
    assert record is not None
    assert (record.name, record.runtime_status, record.output) == ("Again", Status.Pending, None)
    assert record.execution_id == again.execution_id
    assert await store.read_history("one") == []


async def test_replacing_a_live_instance_takes_everything_it_owned(store: Store) -> None:
    _, version = await running(store)
    version = await store.commit(
        Commit(
            instance_id="one",
            execution_id="execution",
            version=version,
            events=turn(scheduled(0)),
            queued=[work("one", 0)],
            inline=[work("one", 1, tries=1)],
        )
    )
    await raise_event(store, "one", "unread")
    await raise_event(store, "one", "for later", visible_in=0.02)

    await store.create_instance(start("one", name="Again"), overridable=ANY_STATE)

    assert names(await soon(store.receive())) == ["Again"]
    assert await store.read_history("one") == []
    await store.complete_work(work("one", 1), completed(1))
    await raise_event(store, "one", "later still", visible_in=0.04)
    assert names(await receive_until(store, "later still")) == ["later still"]


async def test_a_turn_of_the_replaced_instance_does_not_count(store: Store) -> None:
    _, version = await running(store)
    await store.create_instance(start("one"), overridable=ANY_STATE)
    # Bring the new instance as far as the old one had come.
    new_version = await version_of(store, "one")
    await store.commit(first_turn(start("one"), new_version))

    with pytest.raises(VersionConflictError):
        await store.commit(Commit(instance_id="one", execution_id="old", version=version, events=turn(ended())))


async def test_a_version_from_before_a_purge_never_counts_again(store: Store) -> None:
    version = await finish(store)
    await store.purge(["one"])
    with pytest.raises(VersionConflictError):
        await store.commit(Commit(instance_id="one", execution_id="old", version=version, events=turn()))
    new_version = await finish(store)
    with pytest.raises(VersionConflictError):
        await store.commit(Commit(instance_id="one", execution_id="old", version=version, events=turn()))
    await store.commit(Commit(instance_id="one", execution_id="new", version=new_version, events=turn()))


async def test_purge_removes_only_what_has_ended(store: Store) -> None:
    await finish(store, "ended")
    await running(store, "running")
    await create(store, "pending")

    assert await store.purge(["ended", "running", "pending", "unknown", "ended"]) == 1
    assert await store.get_instance("ended") is None
    assert await store.read_history("ended") == []
    assert await store.get_instance("running") is not None
    assert await store.get_instance("pending") is not None
    assert await store.purge(["ended"]) == 0


async def test_purge_removes_messages_and_work(store: Store) -> None:
    started, version = await running(store)
    await store.commit(
        Commit(
            instance_id="one",
            execution_id=started.execution_id,
            version=version,
            events=turn(ended()),
            queued=[work("one", 0)],
            status=StatusChange(runtime_status=Status.Failed, updated_at=THEN),
        )
    )
    await store.send(message("one", "too late"), accepted=TERMINAL)
    assert await store.purge(["one"]) == 1
    await nothing_else_waits(store)


async def test_purge_of_many_instances(store: Store) -> None:
    ids = [f"instance-{number:03}" for number in range(450)]
    for each in ids:
        unknown = await version_of(store, each)
        status = StatusChange(runtime_status=Status.Completed, updated_at=THEN, started=start(each))
        await store.commit(first_turn(start(each), unknown, status=status))
    assert await store.purge(ids[:5]) == 5
    assert await store.purge_matching(InstanceQuery(instance_id_prefix="instance-", page_size=1)) == 445
    assert (await store.list_instances(InstanceQuery())).instances == []


async def test_purge_matching_touches_only_what_matches_and_has_ended(store: Store) -> None:
    await finish(store, "a-ended")
    await running(store, "a-running")
    await finish(store, "b-ended")

    assert await store.purge_matching(InstanceQuery(instance_id_prefix="a-")) == 1
    assert await store.purge_matching(InstanceQuery(statuses=frozenset({Status.Running}))) == 0
    assert await store.purge_matching(InstanceQuery(created_from=THEN + timedelta(seconds=1))) == 0
    assert await all_ids(store, InstanceQuery()) == ["a-running", "b-ended"]


# --- listing -----------------------------------------------------------------------------------------


async def all_ids(store: Store, query: InstanceQuery) -> list[str]:
    return [each.instance_id for each in (await store.list_instances(query)).instances]


async def test_pages_are_in_order_of_ids_and_leave_nothing_out(store: Store) -> None:
    ids = [f"instance-{number}" for number in range(25)]
    for each in reversed(ids):
        await create(store, each)

    found, token, sizes = [], None, []
    while True:
        page = await store.list_instances(InstanceQuery(page_size=10, continuation_token=token))
        found += [each.instance_id for each in page.instances]
        sizes.append(len(page.instances))
        token = page.continuation_token
        if token is None:
            break
    assert found == sorted(ids)
    assert sum(sizes) == 25


async def test_paging_survives_changes_between_pages(store: Store) -> None:
    for each in ("b", "d", "f"):
        await finish(store, each)
    first = await store.list_instances(InstanceQuery(page_size=2))
    await store.purge(["d"])
    await create(store, "e")
    second = await store.list_instances(InstanceQuery(page_size=2, continuation_token=first.continuation_token))
    assert [each.instance_id for each in second.instances] == ["e", "f"]


@pytest.mark.parametrize("token", ["%%%", "abcd", "ä", "YWJj"])
async def test_a_token_that_is_none_of_ours_is_refused(store: Store, token: str) -> None:
    with pytest.raises(ValueError, match="continuation token"):
        await store.list_instances(InstanceQuery(continuation_token=token))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (InstanceQuery(), ["Order-3", "order-1", "order-2", "order_4", "zebra"]),
        (InstanceQuery(instance_id_prefix="order-"), ["order-1", "order-2"]),
        (InstanceQuery(instance_id_prefix="order_"), ["order_4"]),
        (InstanceQuery(instance_id_prefix="%"), []),
        (InstanceQuery(instance_id_prefix="@"), ["@counter@one"]),
        (InstanceQuery(statuses=frozenset({Status.Completed})), ["order-1"]),
        (InstanceQuery(statuses=frozenset({Status.Completed, Status.Running})), ["order-1", "order-2"]),
        (InstanceQuery(statuses=frozenset({Status.Terminated})), []),
        (InstanceQuery(name="stripes"), ["zebra"]),
        (InstanceQuery(created_from=THEN + timedelta(days=1)), ["order_4"]),
        (InstanceQuery(created_to=THEN + timedelta(days=1)), ["Order-3", "order-1", "order-2", "order_4", "zebra"]),
        (InstanceQuery(created_to=THEN), ["Order-3", "order-1", "order-2", "zebra"]),
        (InstanceQuery(created_from=THEN + timedelta(microseconds=1), created_to=THEN + timedelta(hours=1)), []),
        (InstanceQuery(instance_id_prefix="order", statuses=frozenset({Status.Pending})), ["order_4"]),
    ],
)
async def test_filters(store: Store, query: InstanceQuery, expected: list[str]) -> None:
    await finish(store, "order-1")
    await running(store, "order-2")
    await create(store, "Order-3")
    await create(store, "order_4", timestamp=THEN + timedelta(days=1))
    await create(store, "zebra", name="Stripes")
    await create(store, "@counter@one")
    assert await all_ids(store, query) == expected


async def test_times_in_another_zone_mean_the_same_moment(store: Store) -> None:
    await create(store)
    moment = THEN.astimezone(timezone(timedelta(hours=5)))
    assert await all_ids(store, InstanceQuery(created_from=moment, created_to=moment)) == ["one"]
    record = await store.get_instance("one")
    assert record is not None
    assert record.created_at.tzinfo is UTC


async def test_listing_without_payloads_leaves_inputs_out(store: Store) -> None:
    await create(store)
    (lean,) = (await store.list_instances(InstanceQuery(with_payloads=False))).instances
    (full,) = (await store.list_instances(InstanceQuery())).instances
    assert (lean.input, full.input) == (None, '"Tokyo"')


# --- watching ----------------------------------------------------------------------------------------


async def changed(store: Store, instance_id: str, *, timeout: float = 60, until_ended: bool = False) -> None:
    with store.watch(instance_id, until_ended=until_ended) as watch:
        await watch.changed(timeout)


async def test_a_change_wakes_those_who_wait_for_this_instance(store: Store) -> None:
    started, version = await running(store)
    await running(store, "two")
    waiting = asyncio.create_task(changed(store, "one"))
    other = asyncio.create_task(changed(store, "two"))
    await asyncio.sleep(0)
    await store.commit(
        Commit(
            instance_id="one",
            execution_id=started.execution_id,
            version=version,
            events=turn(ended()),
            status=StatusChange(runtime_status=Status.Completed, updated_at=THEN),
        )
    )
    await soon(waiting)
    assert not other.done()
    other.cancel()


async def test_a_change_between_reading_and_waiting_is_not_missed(store: Store) -> None:
    await create(store)
    with store.watch("one") as watch:
        await store.commit(first_turn(start("one"), await version_of(store, "one")))
        await soon(watch.changed(60))
        waiting = asyncio.create_task(watch.changed(60))
        await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()


async def test_waiting_for_a_start_and_for_a_purge(store: Store) -> None:
    waiting = asyncio.create_task(changed(store, "one"))
    await asyncio.sleep(0)
    await finish(store)
    await soon(waiting)

    await store.get_instance("one")
    waiting = asyncio.create_task(changed(store, "one"))
    await asyncio.sleep(0)
    await store.purge(["one"])
    await soon(waiting)


async def test_waiting_ends_with_the_timeout(store: Store) -> None:
    await create(store)
    await store.get_instance("one")
    before = datetime.now(UTC)
    await soon(changed(store, "one", timeout=0.05))
    assert datetime.now(UTC) - before >= timedelta(seconds=0.04)


async def test_waiting_for_the_end_sleeps_through_the_rest(store: Store) -> None:
    started = await create(store)
    await store.get_instance("one")
    waiting = asyncio.create_task(changed(store, "one", until_ended=True))
    any_change = asyncio.create_task(changed(store, "one"))
    await asyncio.sleep(0)
    version = await store.commit(first_turn(started, await version_of(store, "one")))
    await soon(any_change)
    await store.commit(
        Commit(
            instance_id="one",
            execution_id=started.execution_id,
            version=version,
            events=turn(ended()),
            status=StatusChange(runtime_status=Status.Completed, updated_at=THEN),
        )
    )
    await soon(waiting)
    record = await store.get_instance("one")
    assert record is not None
    assert record.runtime_status is Status.Completed


async def test_cancelled_waiters_leave_nothing_behind(store: Store) -> None:
    await create(store)
    await store.get_instance("one")
    waiting = [asyncio.create_task(changed(store, "one")) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await store.commit(first_turn(start("one"), await version_of(store, "one")))
    await soon(asyncio.gather(*waiting[1:]))
    with pytest.raises(asyncio.CancelledError):
        await waiting[0]
