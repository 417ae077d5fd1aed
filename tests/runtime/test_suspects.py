"""A worker that comes after one that died: what that had in hand runs apart, and everything else as ever."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from quarantine_programs import COMMAND, make_program
from test_quarantine import has_written, is_gone

from durable_ext.client.status import DurableOrchestrationStatus
from durable_ext.messages import WorkItem
from durable_ext.runtime.decide import Decision, TurnInput
from durable_ext.runtime.quarantine import Quarantine, TurnBrokenInChildError
from durable_ext.runtime.register import Register
from durable_ext.storage.contract import StoreTraits
from durable_ext.storage.memory import MemoryHub, MemoryStore
from durable_ext.storage.opening import open_store
from durable_ext.taskhub import TaskHub

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes end otherwise there")


CALL = 0
"""The number of the call that the orchestrator makes."""


class Hub:
    """A hub in a file, and one host after another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = self.next_host()

    def next_host(self, command: Any = COMMAND) -> TaskHub:
        store = open_store(f"sqlite:///{self.folder / 'hub.db'}")
        self.host = TaskHub(store, make_program().registry, quarantine_command=command)
        return self.host

    async def begin(self, *instance_ids: str, value: Any) -> None:
        """Have instances that are about to call something, and a host that is gone."""
        async with self.host:
            for each in instance_ids:
                await self.host.client.start_new("calls", each, value)
            for each in instance_ids:
                while (await self.host.client.get_status(each)).runtime_status.value != "Running":
                    await asyncio.sleep(0.005)
        await self.next_host().open()
        for each in instance_ids:
            await self.host.client.raise_event(each, "go")

    async def was_calling(self, instance_id: str, name: str) -> None:
        """The host before died while this call of the instance ran."""
        record = await self.host.store.get_instance(instance_id)
        assert record is not None
        item = WorkItem(
            instance_id=instance_id, execution_id=record.execution_id, task_id=CALL, name=name, orchestrator="calls"
        )
        self.died_with(lambda register: register.enter(item, in_thread=True))

    def died_with(self, fill: Callable[[Register], Any]) -> None:
        """Some process before had this in hand when it died."""
        fill(Register(self.host.store.traits.directory))

    async def end(self, instance_id: str) -> DurableOrchestrationStatus:
        return await self.host.client.wait_for_completion(instance_id, 20)


def claims(directory: Path) -> list[Path]:
    """The registers of the dead that somebody has taken and not done with."""
    return list(directory.glob("*.taken"))


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    found = Hub(tmp_path)
    await found.host.open()
    yield found
    await found.host.stop(0)


async def test_the_calls_in_hand_run_apart_and_their_outcomes_come_home(hub: Hub) -> None:
    await hub.begin("suspect", "other", value="process_id")
    await hub.was_calling("suspect", "process_id")
    await hub.host.start()
    assert (await hub.end("suspect")).output != os.getpid()
    assert (await hub.end("other")).output != os.getpid(), "it is of a function that is suspect"
    await hub.host.client.start_new("calls", "later", "process_id")
    await hub.host.client.raise_event("later", "go")
    assert (await hub.end("later")).output == os.getpid(), "the function was innocent"
    assert await hub.host.client.get_dead_letters() == []


async def test_a_call_that_kills_fails_its_task_and_leaves_a_dead_letter(hub: Hub) -> None:
    await hub.begin("killer", value="exit_7")
    await hub.was_calling("killer", "exit_7")
    await hub.host.start()
    ended = await hub.end("killer")
    assert ended.runtime_status.value == "Failed"
    assert "activity 'exit_7' killed its process twice: exit code 7" in str(ended.output)
    (letter,) = await hub.host.client.get_dead_letters()
    assert (letter.kind, letter.instance_id, letter.name) == ("activity", "killer", "exit_7")
    assert "exit code 7" in letter.reason


async def test_the_turn_in_hand_runs_apart_and_the_instance_goes_on_as_ever(hub: Hub) -> None:
    await hub.host.client.start_new("chain", "suspect", 5)
    hub.died_with(lambda register: register.mark_turn("suspect", "chain"))
    await hub.host.start()
    assert (await hub.end("suspect")).output == 20
    assert claims(hub.folder / "hub.db.register") == []


async def test_a_turn_that_kills_fails_its_instance_and_leaves_a_dead_letter(hub: Hub) -> None:
    await hub.host.client.start_new("turn_is_killed", "killer")
    hub.died_with(lambda register: register.mark_turn("killer", "turn_is_killed"))
    await hub.host.start()
    ended = await hub.end("killer")
    assert ended.runtime_status.value == "Failed"
    assert "the turn of instance 'killer' killed its process twice: signal 9 (SIGKILL)" in str(ended.output)
    (letter,) = await hub.host.client.get_dead_letters()
    assert (letter.kind, letter.instance_id) == ("orchestrator", "killer")
    await hub.host.client.start_new("turn_is_killed", "another")
    assert (await hub.end("another")).runtime_status.value == "Failed", "it was convicted, so this process lives"


async def test_an_instance_whose_turns_break_down_apart_fails_in_the_end(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def break_down(quarantine: Quarantine, turn: TurnInput, name: str) -> Decision:
        raise TurnBrokenInChildError(turn.snapshot.instance_id, "RuntimeError: each time")

    monkeypatch.setattr(Quarantine, "decide", break_down)
    await hub.host.client.start_new("chain", "suspect", 5)
    hub.died_with(lambda register: register.mark_turn("suspect", "chain"))
    await hub.host.start()
    ended = await hub.end("suspect")
    assert ended.runtime_status.value == "Failed"
    assert "broke down in a process of its own: RuntimeError: each time" in str(ended.output)


async def test_a_terminated_instance_ends_what_runs_apart_for_it(hub: Hub) -> None:
    marker = hub.folder / "marker"
    await hub.begin("suspect", value=["touch_and_hang", str(marker)])
    await hub.was_calling("suspect", "touch_and_hang")
    await hub.host.start()
    child = int(await has_written(marker))
    await hub.host.client.terminate("suspect", "enough")
    assert (await hub.end("suspect")).runtime_status.value == "Terminated"
    assert await is_gone(child)
    assert await hub.host.client.get_dead_letters() == []


async def test_a_stop_ends_what_runs_apart_and_the_next_host_runs_it_again(hub: Hub) -> None:
    marker = hub.folder / "marker"
    await hub.begin("suspect", value=["touch_and_hang", str(marker)])
    await hub.was_calling("suspect", "touch_and_hang")
    await hub.host.start()
    child = int(await has_written(marker))
    async with asyncio.timeout(10):
        await hub.host.stop(0.1)
    assert await is_gone(child)
    marker.unlink()
    async with hub.next_host():
        assert int(await has_written(marker)) != child, "it is suspect still"
        await hub.host.client.terminate("suspect", "enough")
        await hub.end("suspect")


async def test_an_app_in_memory_goes_on_after_a_suspect_has_run_alone(hub: Hub) -> None:
    await hub.begin("suspect", value="process_id")
    for number in range(10):
        await hub.host.client.start_new("chain", f"other-{number}", 1)
    await hub.was_calling("suspect", "process_id")
    hub.died_with(lambda register: register.mark_turn("other-3", "chain"))
    await hub.host.stop(0)
    async with hub.next_host(command=None):
        ends = [await hub.end(each) for each in ("suspect", *(f"other-{number}" for number in range(10)))]
    assert [each.output for each in ends[1:]] == [4] * 10
    assert ends[0].runtime_status.value == "Completed"


# --- where others host the hub too ---------------------------------------------------------------------


def dies(directory: Path, fill: Callable[[Register], Any]) -> None:
    """A process that ran beside this one is gone, and had something in hand."""
    before = set(directory.glob("*.register"))
    fill(Register(directory))
    (path,) = set(directory.glob("*.register")) - before
    path.rename(path.with_name(f"{os.getpid()}-1-00000000.register"))


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[Callable[..., TaskHub]]:
    hub = MemoryHub(traits=StoreTraits(is_shared=True, directory=tmp_path))
    async with AsyncExitStack() as stack:

        def host(command: Any = COMMAND) -> TaskHub:
            made = TaskHub(MemoryStore(hub), make_program().registry, quarantine_command=command)
            stack.push_async_callback(made.stop, 1)
            return made

        yield host


async def about_to_call(host: TaskHub, instance_id: str, name: str) -> WorkItem:
    """An instance that will make a call once it is told to."""
    await host.client.start_new("calls", instance_id, name)
    while (record := await host.store.get_instance(instance_id)) is None or record.runtime_status.value != "Running":
        await asyncio.sleep(0.005)
    return WorkItem(
        instance_id=instance_id, execution_id=record.execution_id, task_id=CALL, name=name, orchestrator="calls"
    )


async def test_a_living_host_learns_what_its_neighbour_died_of(
    shared: Callable[..., TaskHub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable_ext.runtime.worker.NEIGHBOUR_INTERVAL", 0.01)
    host = shared()
    await host.start()
    item = await about_to_call(host, "suspect", "process_id")
    dies(tmp_path, lambda register: register.enter(item, in_thread=True))
    async with asyncio.timeout(20):
        while not claims(tmp_path):
            await asyncio.sleep(0.005)
    await host.client.raise_event("suspect", "go")
    assert (await host.client.wait_for_completion("suspect", 20)).output != os.getpid()
    assert claims(tmp_path) == []


async def test_running_alone_does_not_wait_for_slots_that_are_kept_for_later_turns(
    shared: Callable[..., TaskHub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable_ext.runtime.worker.QUIET_BEFORE_ALONE", 1_000)
    first = shared(None)
    await first.start()
    item = await about_to_call(first, "suspect", "process_id")
    await first.stop(1)
    dies(tmp_path, lambda register: register.enter(item, in_thread=True))
    host = shared(None)
    await host.open()
    chains = [f"chain-{number}" for number in range(30)]
    for number, each in enumerate(chains):
        await host.client.start_new("chain", each, 1)
        if number == 15:
            await host.client.raise_event("suspect", "go")
    await host.start()
    for each in ("suspect", *chains):
        assert (await host.client.wait_for_completion(each, 20)).runtime_status.value == "Completed"
