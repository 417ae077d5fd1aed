"""A worker that comes after one that died: what that had in hand runs apart, and everything else as ever."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from quarantine_programs import COMMAND, make_program
from test_quarantine import has_written, is_gone

from durable_ext.client.status import DurableOrchestrationStatus
from durable_ext.messages import WorkItem
from durable_ext.runtime.register import Register
from durable_ext.storage.opening import open_store
from durable_ext.taskhub import TaskHub

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes end otherwise there")


class Hub:
    """A hub in a file, and one host after another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = self.next_host()

    def next_host(self, command: Any = COMMAND) -> TaskHub:
        store = open_store(f"sqlite:///{self.folder / 'hub.db'}")
        self.host = TaskHub(store, make_program().registry, quarantine_command=command)
        return self.host

    async def start(self, name: str, instance_id: str, value: Any = None) -> str:
        await self.host.client.start_new(name, instance_id, value)
        record = await self.host.store.get_instance(instance_id)
        assert record is not None
        return record.execution_id

    def died_with(self, fill: Callable[[Register], Any]) -> None:
        """Some process before had this in hand when it died."""
        fill(Register(self.host.store.traits.directory))

    async def end(self, instance_id: str) -> DurableOrchestrationStatus:
        return await self.host.client.wait_for_completion(instance_id, 20)


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    found = Hub(tmp_path)
    await found.host.open()
    yield found
    await found.host.stop(0)


def first_call(instance_id: str, execution_id: str, name: str) -> WorkItem:
    return WorkItem(instance_id=instance_id, execution_id=execution_id, task_id=0, name=name, orchestrator="calls")


async def test_the_calls_in_hand_run_apart_and_their_outcomes_come_home(hub: Hub) -> None:
    executions = {each: await hub.start("calls", each, "process_id") for each in ("suspect", "other")}
    hub.died_with(lambda register: register.enter(first_call("suspect", executions["suspect"], "process_id"), True))
    await hub.host.start()
    assert (await hub.end("suspect")).output == (await hub.end("other")).output, "one child ran both: of one function"
    await hub.start("calls", "later", "process_id")
    assert (await hub.end("later")).output != (await hub.end("suspect")).output, "it was innocent"
    assert await hub.host.client.get_dead_letters() == []


async def test_a_call_that_kills_fails_its_task_and_leaves_a_dead_letter(hub: Hub) -> None:
    execution = await hub.start("calls", "killer", "exit_7")
    hub.died_with(lambda register: register.enter(first_call("killer", execution, "exit_7"), True))
    await hub.host.start()
    ended = await hub.end("killer")
    assert ended.runtime_status.value == "Failed"
    assert "activity 'exit_7' killed its process twice: exit code 7" in str(ended.output)
    (letter,) = await hub.host.client.get_dead_letters()
    assert (letter.kind, letter.instance_id, letter.name) == ("activity", "killer", "exit_7")
    assert "exit code 7" in letter.reason


async def test_the_turn_in_hand_runs_apart_and_the_instance_goes_on_as_ever(hub: Hub) -> None:
    await hub.start("chain", "suspect", 5)
    hub.died_with(lambda register: register.mark_turn("suspect", "chain"))
    await hub.host.start()
    assert (await hub.end("suspect")).output == 20
    assert list((hub.folder / "hub.db.register").glob("*.taken")) == []


async def test_a_turn_that_kills_fails_its_instance_and_leaves_a_dead_letter(hub: Hub) -> None:
    await hub.start("turn_is_killed", "killer")
    hub.died_with(lambda register: register.mark_turn("killer", "turn_is_killed"))
    await hub.host.start()
    ended = await hub.end("killer")
    assert ended.runtime_status.value == "Failed"
    assert "the turn of instance 'killer' killed its process twice: signal 9 (SIGKILL)" in str(ended.output)
    (letter,) = await hub.host.client.get_dead_letters()
    assert (letter.kind, letter.instance_id) == ("orchestrator", "killer")
    await hub.start("turn_is_killed", "another")
    assert (await hub.end("another")).runtime_status.value == "Failed", "it was convicted, so this process lives"


async def test_a_terminated_instance_ends_what_runs_apart_for_it(hub: Hub) -> None:
    marker = hub.folder / "marker"
    execution = await hub.start("calls", "suspect", ["touch_and_hang", str(marker)])
    hub.died_with(lambda register: register.enter(first_call("suspect", execution, "touch_and_hang"), True))
    await hub.host.start()
    child = int(await has_written(marker))
    await hub.host.client.terminate("suspect", "enough")
    assert (await hub.end("suspect")).runtime_status.value == "Terminated"
    assert await is_gone(child)
    assert await hub.host.client.get_dead_letters() == []


async def test_a_stop_ends_what_runs_apart_and_the_next_host_runs_it_again(hub: Hub) -> None:
    marker = hub.folder / "marker"
    execution = await hub.start("calls", "suspect", ["touch_and_hang", str(marker)])
    hub.died_with(lambda register: register.enter(first_call("suspect", execution, "touch_and_hang"), True))
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
    execution = await hub.start("calls", "suspect", "process_id")
    for number in range(10):
        await hub.start("chain", f"other-{number}", 1)
    hub.died_with(lambda register: register.enter(first_call("suspect", execution, "process_id"), True))
    hub.died_with(lambda register: register.mark_turn("other-3", "chain"))
    await hub.host.stop(0)
    async with hub.next_host(command=None):
        ends = [await hub.end(each) for each in ("suspect", *(f"other-{number}" for number in range(10)))]
    assert [each.output for each in ends[1:]] == [4] * 10
    assert ends[0].runtime_status.value == "Completed"
