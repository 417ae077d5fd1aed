"""What outlives the process, however it ended, and what several processes on one hub see of each other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from storage_hub import (
    Status,
    completed,
    create,
    ended,
    finish,
    kill,
    message,
    names,
    next_for,
    nothing_else_waits,
    nothing_lost,
    raise_event,
    raised,
    receive_until,
    running,
    scheduled,
    soon,
    start,
    turn,
    version_of,
    work,
)

from durable_ext.errors import StoreInUseError
from durable_ext.history import LIVE
from durable_ext.storage.contract import Commit, Store

Opener = Callable[[], Awaitable[Store]]
Run = Callable[[str], Awaitable[asyncio.subprocess.Process]]


async def said(process: asyncio.subprocess.Process) -> str:
    """The next line a process prints."""
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode().strip()
    if not line.startswith("ok"):
        raise AssertionError(line + (await kill(process)).decode())
    return line


async def test_everything_is_there_after_a_restart(open_host: Opener) -> None:
    first = await open_host()
    started, version = await running(first)
    await first.commit(
        Commit(
            instance_id="one",
            execution_id=started.execution_id,
            version=version,
            events=turn(raised("go"), scheduled(0)),
            queued=[work("one", 0)],
            messages=[message("two", "unread")],
        )
    )
    before = await first.get_instance("one"), await first.read_history("one")
    await first.close()

    second = await open_host()
    assert (await second.get_instance("one"), await second.read_history("one")) == before
    assert names(await soon(second.receive())) == ["unread"]
    assert await soon(second.receive_work(10)) != []


async def test_only_what_was_not_consumed_comes_again_after_a_restart(open_host: Opener) -> None:
    first = await open_host()
    await running(first)
    await raise_event(first, "one", "in hand")
    await next_for(first, "one")
    await raise_event(first, "one", "unread")
    await first.close()

    second = await open_host()
    deliveries = await receive_until(second, "unread")
    assert names(deliveries) == ["in hand", "unread"]


async def test_timers_survive_a_restart(open_host: Opener) -> None:
    first = await open_host()
    await running(first)
    await raise_event(first, "one", "soon", visible_in=0.3)
    await raise_event(first, "one", "tomorrow", visible_in=86400)
    await first.close()

    second = await open_host()
    assert names(await soon(second.receive())) == ["soon"]
    await nothing_else_waits(second)


async def test_closing_finishes_what_was_accepted(open_host: Opener) -> None:
    first = await open_host()
    storing = [asyncio.create_task(create(first, f"instance-{number}")) for number in range(100)]
    await asyncio.sleep(0)
    await first.close()
    await asyncio.gather(*storing)

    second = await open_host()
    for number in range(100):
        assert await second.get_instance(f"instance-{number}") is not None


async def test_closing_twice_is_no_matter(open_host: Opener) -> None:
    store = await open_host()
    await store.close()
    await store.close()


async def test_work_claimed_by_a_host_that_closed_stays_counted(open_host: Opener) -> None:
    first = await open_host()
    _, version = await running(first)
    await first.commit(
        Commit(
            instance_id="one",
            execution_id="execution",
            version=version,
            events=turn(scheduled(0), scheduled(1)),
            queued=[work("one", 0)],
            inline=[work("one", 1, tries=1)],
        )
    )
    await soon(first.receive_work(10))
    await first.close()

    second = await open_host()
    again = await soon(second.receive_work(10))
    assert [(each.task_id, each.tries) for each in again] == [(0, 2), (1, 2)]


async def test_work_nobody_received_is_not_counted_when_the_host_closes(open_host: Opener) -> None:
    first = await open_host()
    _, version = await running(first)
    waiting = asyncio.create_task(first.receive_work(10))
    await asyncio.sleep(0)
    committing = asyncio.create_task(
        first.commit(
            Commit(instance_id="one", execution_id="e", version=version, events=turn(), queued=[work("one", 0)])
        )
    )
    await committing
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    was_handed_out = not waiting.cancelled()
    await first.close()

    second = await open_host()
    (item,) = await soon(second.receive_work(10))
    assert item.tries == (2 if was_handed_out else 1)


# --- hosts that die ------------------------------------------------------------------------------------

DIES_HOLDING_A_MESSAGE_AND_WORK = """
    await store.host("a host that dies", nothing_lost)
    started, version = await running(store)
    await store.commit(Commit(
        instance_id="one", execution_id="execution", version=version, events=turn(scheduled(0)),
        queued=[work("one", 0), work("one", 2)], inline=[work("one", 1, tries=1)],
    ))
    await store.receive_work(1)
    await raise_event(store, "one", "in hand")
    await next_for(store, "one")
    await raise_event(store, "one", "tomorrow", visible_in=86400)
    say("ok")
    await asyncio.sleep(60)
"""
HOLDS_AGAIN = """
    await store.host("another that dies", nothing_lost)
    await store.receive()
    say("ok")
    await asyncio.sleep(60)
"""


async def test_what_a_dead_host_had_in_hand_comes_again_counted(open_host: Opener, run_process: Run) -> None:
    process = await run_process(DIES_HOLDING_A_MESSAGE_AND_WORK)
    await said(process)
    await kill(process)

    store = await open_host()
    (delivery,) = await soon(store.receive())
    assert names([delivery]) == ["in hand"]
    again = await soon(store.receive_work(10))
    assert sorted((each.task_id, each.tries) for each in again) == [(0, 2), (1, 2), (2, 1)]


async def test_acknowledged_commits_survive_sigkill_whole(open_host: Opener, run_process: Run) -> None:
    for round_ in range(4):
        process = await run_process(
            f"""
            await store.host("a host that dies", nothing_lost)

            async def chain(instance_id):
                started = start(instance_id)
                version = await version_of(store, instance_id)
                version = await store.commit(first_turn(started, version))
                for number in range(100_000):
                    # Each turn moves one message and one work item along with its events.
                    version = await store.commit(Commit(
                        instance_id=instance_id, execution_id="execution", version=version,
                        events=turn(completed(number)),
                        inline=[work(instance_id, number + 1, tries=1)],
                        completed=[work(instance_id, number).receipt],
                        messages=[message(instance_id + "-listener", str(number))],
                    ))
                    say(f"{{instance_id}} {{number}}")

            say("ok")
            await asyncio.gather(*(chain(f"{round_}-{{n}}") for n in range(8)))
            """
        )
        await said(process)
        assert process.stdout is not None
        lines = [await asyncio.wait_for(process.stdout.readline(), 30) for _ in range(40 * (round_ + 1))]
        output = (b"".join(lines) + await kill(process)).decode()
        acknowledged: dict[str, int] = {}
        for line in output.splitlines(keepends=True):
            if line.endswith("\n"):
                instance_id, committed = line.split()
                acknowledged[instance_id] = int(committed)

        store = await open_host()
        messages: dict[str, list[str]] = {}
        await create(store, f"end-{round_}", name="end")
        for each in await receive_until(store, "end"):
            messages.setdefault(each.instance_id, []).extend(names([each]))
        items = {each.instance_id: each.task_id for each in await soon(store.receive_work(1000))}
        assert acknowledged
        for instance_id, number in acknowledged.items():
            history = await store.read_history(instance_id)
            outcomes = [each.task_scheduled_id for each in history if isinstance(each, type(completed(0)))]
            assert outcomes == list(range(len(outcomes))), "no turn is missing or doubled"
            assert len(outcomes) > number, "what was acknowledged is there"
            assert messages[f"{instance_id}-listener"] == [str(each) for each in outcomes], "nor its messages"
            assert items[instance_id] == len(outcomes), "nor its work"
        await store.close()


# --- several processes ---------------------------------------------------------------------------------


async def test_a_second_host_is_refused_and_told_who_the_first_is(open_client: Opener, run_process: Run) -> None:
    process = await run_process(
        """
        await store.host("the first host, process 4711", nothing_lost)
        say("ok")
        await asyncio.sleep(60)
        """
    )
    await said(process)
    store = await open_client()
    with pytest.raises(StoreInUseError, match="the first host, process 4711") as refused:
        await store.host("the second", nothing_lost)
    assert refused.value.owner == "the first host, process 4711"

    await kill(process)
    await store.host("the second", nothing_lost)


async def test_a_second_host_in_one_process_is_refused(open_client: Opener, open_host: Opener) -> None:
    first = await open_host()
    second = await open_client()
    with pytest.raises(StoreInUseError, match="the test"):
        await second.host("the second", nothing_lost)
    await first.close()
    await second.host("the second", nothing_lost)


async def test_the_host_hears_of_what_a_client_process_stores(open_host: Opener, run_process: Run) -> None:
    store = await open_host()
    await running(store)
    waiting = asyncio.create_task(store.receive())
    process = await run_process(
        """
        await create(store, "from outside")
        await raise_event(store, "one", "go")
        say("ok")
        """
    )
    await said(process)
    deliveries = [*await soon(waiting)]
    while len(deliveries) < 2:
        deliveries += await soon(store.receive())
    assert [each.instance_id for each in deliveries] == ["from outside", "one"]


async def test_a_client_hears_of_what_the_host_does(open_client: Opener, open_host: Opener) -> None:
    client, host = await open_client(), await open_host()
    await create(client)
    assert (await soon(host.receive()))[0].instance_id == "one"
    with client.watch("one") as watch:
        await host.commit(
            Commit(
                instance_id="one",
                execution_id="e",
                version=await version_of(host, "one"),
                events=turn(ended()),
            )
        )
        await soon(watch.changed(60))
    assert len(await client.read_history("one")) == 3


async def test_order_holds_across_processes(open_client: Opener, open_host: Opener) -> None:
    client, host = await open_client(), await open_host()
    await running(host)
    for number in range(200):
        await raise_event(client if number % 3 else host, "one", str(number))
    assert names(await receive_until(host, "199")) == [str(number) for number in range(200)]


async def test_a_timer_set_by_a_client_goes_off_at_the_host(open_client: Opener, open_host: Opener) -> None:
    client, host = await open_client(), await open_host()
    await running(host)
    await raise_event(client, "one", "soon", visible_in=0.2)
    assert names(await soon(host.receive())) == ["soon"]


async def test_a_client_can_replace_an_instance_the_host_has_in_hand(open_client: Opener, open_host: Opener) -> None:
    client, host = await open_client(), await open_host()
    await running(host)
    await raise_event(host, "one", "for the old one")
    old = await next_for(host, "one")
    await client.create_instance(start("one", name="Again"), overridable=LIVE)

    loaded = await host.begin("one", None, [old])
    assert loaded.snapshot is not None
    assert (loaded.snapshot.status, list(loaded.deliveries)) == (Status.Pending, [])
    assert names(await soon(host.receive())) == ["Again"]


async def test_clients_may_come_and_go_beside_a_host(open_client: Opener, open_host: Opener) -> None:
    host = await open_host()
    await finish(host)
    client = await open_client()
    assert await client.purge(["one"]) == 1
    await client.close()
    assert await host.get_instance("one") is None
    await nothing_else_waits(host)


async def test_two_processes_may_create_the_hub_at_once(open_client: Opener) -> None:
    stores = await asyncio.gather(*(open_client() for _ in range(4)))
    await create(stores[0])
    for each in stores:
        assert await each.get_instance("one") is not None
