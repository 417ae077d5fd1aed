"""SQLite among several processes, some of which are killed."""

from __future__ import annotations

import asyncio
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from storage_hubs import nothing_lost
from storage_mail import Mail, names
from storage_records import completed, create, kill, running, soon

from durable_ext.errors import StoreInUseError
from durable_ext.storage.sqlite.store import SqliteStore

Run = Callable[[str], Awaitable[asyncio.subprocess.Process]]

PROLOGUE = """
import asyncio, sys
sys.path.insert(0, {here!r})
from storage_hubs import *
from storage_mail import *
from storage_records import *
from durable_ext.storage.sqlite.store import SqliteStore

def say(text):
    print(text, flush=True)

async def main():
    store = SqliteStore({path!r})
    await store.open()
    mail = Mail(store)
"""


@pytest.fixture
async def run_process(path: Path) -> AsyncIterator[Run]:
    """Run a script on the hub in a process of its own, up to the first line it prints. Killed in the end."""
    processes: list[asyncio.subprocess.Process] = []

    async def run(script: str) -> asyncio.subprocess.Process:
        prologue = PROLOGUE.format(here=str(Path(__file__).parent), path=str(path))
        program = f"{prologue}\n{textwrap.indent(textwrap.dedent(script), '    ')}\nasyncio.run(main())\n"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        processes.append(process)
        await said(process)
        return process

    yield run
    for each in processes:
        await kill(each)


async def said(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode().strip()
    if line != "ok":
        raise AssertionError(line + (await kill(process)).decode())


async def open_store(path: Path) -> SqliteStore:
    store = SqliteStore(str(path))
    await store.open()
    return store


async def test_what_a_killed_host_had_in_hand_comes_again(path: Path, run_process: Run) -> None:
    process = await run_process("""
        await store.host("a host that dies", nothing_lost)
        one = await running(mail)
        await one.commit(
            scheduled(0), queued=[one.work(0), one.work(2)], inline=[one.work(1, tries=1)],
        )
        await store.receive_work(1)
        await raise_event(store, "one", "in hand")
        await mail.next()
        await raise_event(store, "one", "tomorrow", visible_at=datetime(2099, 1, 1, tzinfo=UTC))
        say("ok")
        await asyncio.sleep(60)
    """)
    await kill(process)

    store = await open_store(path)
    await store.host("the next", nothing_lost)
    assert names(await Mail(store).rest()) == ["in hand"]
    again = await soon(store.receive_work(10))
    assert sorted((each.task_id, each.tries) for each in again) == [(0, 2), (1, 2), (2, 1)]
    await store.close()


async def test_acknowledged_commits_survive_sigkill_whole(path: Path, run_process: Run) -> None:
    for round_ in range(4):
        process = await run_process(f"""
            await store.host("a host that dies", nothing_lost)

            async def chain(instance_id):
                started = start(instance_id, execution_id="execution")
                one = Instance(store, started, await version_of(store, instance_id))
                one.version = await store.commit(first_turn(started, one.version))
                for number in range(100_000):
                    # Each turn moves one message and one work item along with its events.
                    await one.commit(
                        completed(number),
                        inline=[one.work(number + 1, tries=1)],
                        completed=[one.work(number).receipt],
                        messages=[message(instance_id + "-listener", str(number))],
                    )
                    say(f"{{instance_id}} {{number}}")

            say("ok")
            await asyncio.gather(*(chain(f"{round_}-{{n}}") for n in range(8)))
        """)
        assert process.stdout is not None
        lines = [await asyncio.wait_for(process.stdout.readline(), 30) for _ in range(40 * (round_ + 1))]
        output = (b"".join(lines) + await kill(process)).decode()
        acknowledged: dict[str, int] = {}
        for line in output.splitlines(keepends=True):
            if line.endswith("\n"):
                instance_id, committed = line.split()
                acknowledged[instance_id] = int(committed)

        store = await open_store(path)
        await store.host("the next", nothing_lost)
        await check_chains(store, acknowledged)
        await store.close()


async def check_chains(store: SqliteStore, acknowledged: dict[str, int]) -> None:
    assert acknowledged
    mail = Mail(store)
    items = {each.instance_id: each.task_id for each in await soon(store.receive_work(1000))}
    for instance_id, number in acknowledged.items():
        history = await store.read_history(instance_id)
        outcomes = [each.task_scheduled_id for each in history if isinstance(each, type(completed(0)))]
        assert outcomes == list(range(len(outcomes))), "no turn is missing or doubled"
        assert len(outcomes) > number, "what was acknowledged is there"
        listener = f"{instance_id}-listener"
        await create(store, listener, name="end")
        assert names(await mail.until("end", listener))[:-1] == [str(each) for each in outcomes], "nor its messages"
        assert items[instance_id] == len(outcomes), "nor its work"


async def test_a_second_host_is_refused_as_long_as_the_first_lives(path: Path, run_process: Run) -> None:
    process = await run_process("""
        await store.host("the first host, process 4711", nothing_lost)
        say("ok")
        await asyncio.sleep(60)
    """)
    store = await open_store(path)
    with pytest.raises(StoreInUseError, match="the first host, process 4711") as refused:
        await store.host("the second", nothing_lost)
    assert refused.value.owner == "the first host, process 4711"

    await kill(process)
    await store.host("the second", nothing_lost)
    await store.close()


async def test_the_host_hears_of_what_a_client_process_stores(path: Path, run_process: Run) -> None:
    store = await open_store(path)
    await store.host("the test", nothing_lost)
    mail = Mail(store)
    await running(mail)
    waiting = asyncio.create_task(mail.next("from outside"))
    await run_process("""
        await create(store, "from outside")
        await raise_event(store, "one", "go")
        say("ok")
    """)
    assert names([await soon(waiting), await mail.next("one")]) == ["Greet", "go"]
    await store.close()
