"""What happens to a work item: handed out, counted, given back, completed."""

from __future__ import annotations

import asyncio

import pytest
from storage_hubs import HandClock
from storage_mail import Mail
from storage_records import Instance, completed, raised, running, scheduled, soon

from durable_ext.messages import WorkItem, WorkReceipt
from durable_ext.storage.contract import Store


async def queue(one: Instance, *items: WorkItem) -> None:
    await one.commit(*(scheduled(each.task_id) for each in items), queued=items)


def ids(items: list[WorkItem]) -> list[int]:
    return [each.task_id for each in items]


# --- handing out ---------------------------------------------------------------------------------------


async def test_work_is_handed_out_as_it_was_scheduled(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await queue(one, one.work(3, attempt=2, asked=1))
    (item,) = await soon(store.receive_work(10))
    assert (item.instance_id, item.execution_id, item.task_id, item.asked) == ("one", one.execution_id, 3, 1)
    assert (item.name, item.orchestrator, item.input, item.attempt) == ("SayHello", "Greet", '"Tokyo"', 2)


async def test_a_try_is_counted_when_work_is_handed_out(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await queue(one, one.work(0), one.work(1, tries=2))
    items = await soon(store.receive_work(10))
    assert sorted((each.task_id, each.tries) for each in items) == [(0, 1), (1, 3)]


async def test_work_says_when_it_began_to_wait(store: Store, mail: Mail, clock: HandClock) -> None:
    one = await running(mail)
    queued_at = clock.now()
    await queue(one, one.work(0))
    clock.advance(90)
    (item,) = await soon(store.receive_work(10))
    assert item.queued_at == queued_at


async def test_a_waiting_worker_is_woken_by_a_commit(store: Store, mail: Mail) -> None:
    one = await running(mail)
    waiting = asyncio.create_task(store.receive_work(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    await queue(one, one.work(0))
    assert ids(await soon(waiting)) == [0]


async def test_no_more_work_comes_than_was_asked_for(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await queue(one, *(one.work(number) for number in range(25)))
    batches = [await soon(store.receive_work(10)) for _ in range(3)]
    assert all(1 <= len(each) <= 10 for each in batches)


async def test_all_work_is_handed_out(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await queue(one, *(one.work(number) for number in range(1000)))
    claimed: set[int] = set()
    while len(claimed) < 1000:
        claimed.update(ids(await soon(store.receive_work(300))))
    assert claimed == set(range(1000))


async def test_work_that_is_claimed_is_left_alone(store: Store, mail: Mail) -> None:
    """What no crash and no lost answer has touched need not be handed out twice, and these stores do not."""
    one = await running(mail)
    await queue(one, *(one.work(number) for number in range(100)))
    batches = await asyncio.gather(*(soon(store.receive_work(7)) for _ in range(10)))
    assert len({number for batch in batches for number in ids(batch)}) == sum(map(len, batches))


async def test_inline_work_is_claimed_by_the_commit(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await one.commit(scheduled(0), scheduled(1), inline=[one.work(0, tries=1)], queued=[one.work(1)])
    assert ids(await soon(store.receive_work(10))) == [1]


async def test_cancelling_a_worker_loses_and_counts_nothing(store: Store, mail: Mail) -> None:
    one = await running(mail)
    seen: list[WorkItem] = []
    for number in range(30):
        await queue(one, one.work(number))
        waiting = asyncio.create_task(store.receive_work(1))
        for _ in range(number % 7):
            await asyncio.sleep(0)
        waiting.cancel()
        try:
            seen += await waiting
        except asyncio.CancelledError:
            seen += await soon(store.receive_work(1))
    assert [(each.task_id, each.tries) for each in seen] == [(number, 1) for number in range(30)]


@pytest.mark.parametrize("input_", [None, '"ä 漢 😀"', '"' + "x" * 200_000 + '"'])
async def test_inputs_of_any_size_arrive_whole(store: Store, mail: Mail, input_: str | None) -> None:
    one = await running(mail)
    await queue(one, one.work(0, input=input_))
    (item,) = await soon(store.receive_work(1))
    assert item.input == input_


# --- giving back ---------------------------------------------------------------------------------------


async def test_work_given_back_is_offered_again_and_the_try_uncounted(store: Store, mail: Mail) -> None:
    one = await running(mail)
    inline = one.work(1, tries=1)
    await one.commit(scheduled(0), scheduled(1), queued=[one.work(0)], inline=[inline])
    claimed = await soon(store.receive_work(10))
    await store.give_back_work([*claimed, inline])
    again = await soon(store.receive_work(10))
    assert sorted((each.task_id, each.tries) for each in again) == [(0, 1), (1, 1)]


async def test_work_given_back_stays_away_for_the_delay(store: Store, mail: Mail, clock: HandClock) -> None:
    one = await running(mail)
    await queue(one, one.work(0))
    await store.give_back_work(await soon(store.receive_work(1)), 50)
    await queue(one, one.work(1))
    assert ids(await soon(store.receive_work(10))) == [1]

    waiting = asyncio.create_task(store.receive_work(10))
    await queue(one, one.work(2))
    assert ids(await soon(waiting)) == [2]
    waiting = asyncio.create_task(store.receive_work(10))
    clock.advance(49)
    await queue(one, one.work(3))
    assert ids(await soon(waiting)) == [3]
    waiting = asyncio.create_task(store.receive_work(10))
    clock.advance(2)
    (item,) = await soon(waiting)
    assert (item.task_id, item.tries) == (0, 1)


async def test_giving_back_work_that_is_gone_brings_nothing_back(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await queue(one, one.work(0))
    claimed = await soon(store.receive_work(1))
    await store.complete_work(claimed[0], completed(0))
    await store.give_back_work(claimed)
    await queue(one, one.work(1))
    assert ids(await soon(store.receive_work(10))) == [1]


# --- outcomes ----------------------------------------------------------------------------------------


async def test_a_commit_that_carries_the_outcome_completes_the_work(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await one.commit(inline=[one.work(0), one.work(2)], queued=[one.work(1)])
    await one.commit(completed(0), completed(2), completed=[one.work(0).receipt, one.work(2).receipt])
    await store.flush()
    for number in (0, 2):
        await store.complete_work(one.work(number), completed(number))
    assert await mail.rest() == [], "the work is gone, and its outcome with it"
    assert ids(await soon(store.receive_work(10))) == [1]


async def test_completing_names_exactly_one_call(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await queue(one, one.work(0))
    others = [WorkReceipt("one", "another execution", 0), WorkReceipt("two", one.execution_id, 0)]
    await one.commit(completed=others)
    assert ids(await soon(store.receive_work(10))) == [0]


async def test_a_completed_work_item_becomes_a_message(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await queue(one, one.work(0))
    (item,) = await soon(store.receive_work(1))
    await store.complete_work(item, completed(0))

    delivery = await mail.next()
    assert (delivery.event, delivery.execution_id) == (completed(0), one.execution_id)


async def test_the_outcome_of_work_that_is_gone_is_not_stored(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await queue(one, one.work(0))
    (item,) = await soon(store.receive_work(1))
    await store.complete_work(item, completed(0, '"first"'))
    await store.complete_work(item, completed(0, '"second"'))
    assert [each.event for each in await mail.rest()] == [completed(0, '"first"')]


async def test_calls_asked_for_again_are_told_apart(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await one.commit(inline=[one.work(0)])
    await one.commit(raised("rewound"), queued=[one.work(0, asked=1)])
    (again,) = await soon(store.receive_work(10))
    assert (again.task_id, again.asked) == (0, 1)

    await one.commit(completed=[one.work(0).receipt])
    await store.flush()
    await store.complete_work(one.work(0), completed(0, '"of the first asking"'))
    await store.complete_work(again, completed(0, '"of the second"'))
    assert [each.event for each in await mail.rest()] == [completed(0, '"of the second"')]
