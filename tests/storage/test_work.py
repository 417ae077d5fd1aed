"""Activity calls: handed out, counted, given back, completed."""

from __future__ import annotations

import asyncio

import pytest
from storage_hub import completed, next_for, nothing_else_waits, running, scheduled, soon, turn, work

from durable_ext.messages import WorkItem, WorkReceipt
from durable_ext.storage.contract import Commit, Store, Version


async def schedule(store: Store, *items: WorkItem, instance_id: str = "one", version: Version | None = None) -> Version:
    if version is None:
        _, version = await running(store, instance_id)
    return await store.commit(
        Commit(
            instance_id=instance_id,
            execution_id="execution",
            version=version,
            events=turn(*(scheduled(each.task_id) for each in items)),
            queued=[each for each in items if not each.tries],
            inline=[each for each in items if each.tries],
        )
    )


async def test_work_is_handed_out_as_it_was_scheduled_and_counted(store: Store) -> None:
    await schedule(store, work("one", 3, attempt=2))
    assert (await soon(store.receive_work(10)))[0].tries == 1


async def test_a_waiting_worker_is_woken_by_a_commit(store: Store) -> None:
    _, version = await running(store)
    waiting = asyncio.create_task(store.receive_work(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    await schedule(store, work("one", 0), version=version)
    assert [each.task_id for each in await soon(waiting)] == [0]


async def test_work_comes_in_order_and_never_more_than_asked_for(store: Store) -> None:
    await schedule(store, *(work("one", number) for number in range(25)))
    batches = [[each.task_id for each in await soon(store.receive_work(10))] for _ in range(3)]
    assert batches == [list(range(10)), list(range(10, 20)), list(range(20, 25))]


async def test_work_is_handed_out_once(store: Store) -> None:
    await schedule(store, *(work("one", number) for number in range(100)))
    batches = await asyncio.gather(*(soon(store.receive_work(7)) for _ in range(10)))
    claimed = [each.task_id for batch in batches for each in batch]
    assert sorted(claimed) == list(range(70))


async def test_work_run_inline_is_not_offered(store: Store) -> None:
    await schedule(store, work("one", 0, tries=1), work("one", 1))
    assert [each.task_id for each in await soon(store.receive_work(10))] == [1]


async def test_work_given_back_is_offered_again_and_not_counted(store: Store) -> None:
    await schedule(store, work("one", 0), work("one", 1, tries=1))
    claimed = await soon(store.receive_work(10))
    await store.give_back_work([*claimed, work("one", 1, tries=1)])
    again = await soon(store.receive_work(10))
    assert [(each.task_id, each.tries) for each in again] == [(0, 1), (1, 1)]


async def test_a_commit_that_carries_the_outcome_consumes_the_work(store: Store) -> None:
    version = await schedule(store, *(work("one", number) for number in range(3)))
    await store.commit(
        Commit(
            instance_id="one",
            execution_id="execution",
            version=version,
            events=turn(completed(0), completed(2)),
            completed=[WorkReceipt("one", "execution", 0), WorkReceipt("one", "execution", 2)],
        )
    )
    assert [each.task_id for each in await soon(store.receive_work(10))] == [1]


async def test_consuming_names_exactly_one_call(store: Store) -> None:
    version = await schedule(store, work("one", 0))
    await store.commit(
        Commit(
            instance_id="one",
            execution_id="execution",
            version=version,
            events=turn(),
            completed=[WorkReceipt("one", "another execution", 0), WorkReceipt("two", "execution", 0)],
        )
    )
    assert [each.task_id for each in await soon(store.receive_work(10))] == [0]


async def test_a_completed_work_item_becomes_a_message(store: Store) -> None:
    await schedule(store, work("one", 0))
    (item,) = await soon(store.receive_work(1))
    await store.complete_work(item, completed(0))

    delivery = await next_for(store, "one")
    assert (delivery.event, delivery.execution_id) == (completed(0), "execution")


async def test_the_second_outcome_of_a_work_item_is_dropped(store: Store) -> None:
    await schedule(store, work("one", 0))
    (item,) = await soon(store.receive_work(1))
    await store.complete_work(item, completed(0, '"first"'))
    await store.complete_work(item, completed(0, '"second"'))

    delivery = await next_for(store, "one")
    assert delivery.event == completed(0, '"first"')
    await nothing_else_waits(store)


async def test_the_same_call_asked_again_is_kept_once(store: Store) -> None:
    version = await schedule(store, work("one", 0))
    await schedule(store, work("one", 0), version=version)
    assert len(await soon(store.receive_work(10))) == 1


async def test_cancelling_a_worker_loses_and_counts_nothing(store: Store) -> None:
    seen: list[WorkItem] = []
    for number in range(30):
        await schedule(store, work(f"instance-{number}", number), instance_id=f"instance-{number}")
        waiting = asyncio.create_task(store.receive_work(1))
        for _ in range(number % 7):
            await asyncio.sleep(0)
        waiting.cancel()
        try:
            seen += await waiting
        except asyncio.CancelledError:
            seen += await soon(store.receive_work(1))
    assert [(each.task_id, each.tries) for each in seen] == [(number, 1) for number in range(30)]


async def test_a_thousand_calls_in_one_commit(store: Store) -> None:
    await schedule(store, *(work("one", number) for number in range(1000)))
    claimed: list[int] = []
    while len(claimed) < 1000:
        claimed += [each.task_id for each in await soon(store.receive_work(300))]
    assert claimed == list(range(1000))


@pytest.mark.parametrize("input_", [None, '"ä 漢 😀"', '"' + "x" * 200_000 + '"'])
async def test_inputs_of_any_size_arrive_whole(store: Store, input_: str | None) -> None:
    await schedule(store, work("one", 0, input=input_))
    (item,) = await soon(store.receive_work(1))
    assert item.input == input_
