"""What cannot be read is set aside with its payload, and whoever needed it fails readably. Nothing spins."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fault_scenarios import REGISTRY

from durable_ext.client.status import DurableOrchestrationStatus
from durable_ext.history import EventRaised, ExecutionStarted, encode_event
from durable_ext.storage.contract import Store
from durable_ext.storage.opening import open_store
from durable_ext.taskhub import TaskHub

NONSENSE = b'{"EventType":"FromTheFuture","Timestamp":"2024-05-01T00:00:00Z"}'


class PoisonedHub:
    def __init__(self, path: Path, store: Store) -> None:
        self._path, self.store = path, store
        self.task_hub = TaskHub(store, REGISTRY)
        self.client = self.task_hub.client

    def poison(
        self, instance_id: str, event: bytes = NONSENSE, *, execution_id: str | None = None, visible_at: int = 0
    ) -> None:
        """Store a message behind everybody's back."""
        with sqlite3.connect(self._path) as database:
            database.execute(
                "INSERT INTO inbox (instance_id, execution_id, visible_at, event) VALUES (?, ?, ?, ?)",
                (instance_id, execution_id, visible_at, event),
            )
        database.close()

    def damage_start(self, instance_id: str) -> None:
        with sqlite3.connect(self._path) as database:
            database.execute("UPDATE inbox SET event = x'80ff' WHERE instance_id = ?", (instance_id,))
        database.close()

    def messages(self) -> int:
        database = sqlite3.connect(self._path)
        (count,) = database.execute("SELECT count(*) FROM inbox").fetchone()
        database.close()
        return int(count)

    async def running(self, name: str, instance_id: str) -> None:
        """Start an instance, and wait until it waits."""
        await self.client.start_new(name, instance_id)
        await self.until(instance_id, "Running")

    async def until(self, instance_id: str, status: str) -> None:
        async with asyncio.timeout(10):
            with self.store.watch(instance_id) as watch:
                while (await self.client.get_status(instance_id)).runtime_status.value != status:
                    await watch.changed(1)

    async def end(self, instance_id: str) -> DurableOrchestrationStatus:
        return await self.client.wait_for_completion(instance_id, 10)


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[PoisonedHub]:
    path = tmp_path / "hub.db"
    hub = PoisonedHub(path, open_store(f"sqlite:///{path}"))
    await hub.task_hub.open()
    yield hub
    await hub.task_hub.stop(1)


async def test_an_unreadable_message_fails_its_instance_and_nobody_else(hub: PoisonedHub) -> None:
    await hub.task_hub.start()
    await hub.running("collector", "victim")
    hub.poison("victim")
    await hub.client.start_new("chain", "neighbour", 2)
    assert (await hub.end("neighbour")).output == 7

    ended = await hub.end("victim")
    assert ended.runtime_status.value == "Failed"
    assert "Orchestrator function 'collector' failed: a message to instance 'victim' cannot be read" in str(
        ended.output
    )
    assert "FromTheFuture" in str(ended.output)
    (letter,) = await hub.client.get_dead_letters()
    assert (letter.kind, letter.instance_id, letter.name) == ("message", "victim", "collector")
    assert letter.payload == NONSENSE.decode()
    assert "FromTheFuture" in letter.reason
    assert hub.messages() == 0


async def test_an_instance_that_failed_over_an_unreadable_message_can_be_rewound(hub: PoisonedHub) -> None:
    await hub.task_hub.start()
    await hub.running("collector", "victim")
    hub.poison("victim")
    await hub.end("victim")
    await hub.client.rewind("victim")
    await hub.until("victim", "Running")
    for name, data in (("go", None), ("item", 1), ("item", 2), ("item", 3)):
        await hub.client.raise_event("victim", name, data)
    assert (await hub.end("victim")).output == [1, 2, 3]


async def test_what_came_with_an_unreadable_message_is_kept_too(hub: PoisonedHub) -> None:
    event = EventRaised(timestamp=datetime.now(UTC), name="item", input='"precious"')
    await hub.client.start_new("collector", "victim")
    hub.poison("victim")
    hub.poison("victim", encode_event(event))
    await hub.task_hub.start()
    assert (await hub.end("victim")).runtime_status.value == "Failed"
    kinds = {each.kind: each.payload or "" for each in await hub.client.get_dead_letters()}
    assert kinds.keys() == {"message", "orchestrator"}
    assert "precious" in kinds["orchestrator"]
    assert hub.messages() == 0


async def test_an_unreadable_start_fails_an_instance_that_never_began(hub: PoisonedHub) -> None:
    await hub.client.start_new("chain", "stillborn", 2)
    hub.damage_start("stillborn")
    await hub.task_hub.start()
    ended = await hub.end("stillborn")
    assert (ended.name, ended.runtime_status.value) == ("chain", "Failed")
    assert "a message to instance 'stillborn' cannot be read" in str(ended.output)
    (letter,) = await hub.client.get_dead_letters()
    assert (letter.kind, letter.instance_id, letter.payload) == ("message", "stillborn", "\\x80\\xff")

    await hub.client.start_new("chain", "stillborn", 2)
    assert (await hub.end("stillborn")).output == 7


async def test_an_unreadable_child_start_is_no_end_for_a_later_child(hub: PoisonedHub) -> None:
    await hub.client.start_new("child", "family-first", 1)
    hub.damage_start("family-first")
    await hub.task_hub.start()
    assert (await hub.end("family-first")).runtime_status.value == "Failed"
    await hub.client.start_new("family", "family")
    assert (await hub.end("family")).output == [2, 4]
    history = await hub.client.get_history("family-first")
    assert [type(each) for each in history].count(ExecutionStarted) == 1


@pytest.mark.parametrize("state", ["unknown", "ended", "of an execution that is over"])
async def test_an_unreadable_message_nobody_needs_only_leaves_a_letter(hub: PoisonedHub, state: str) -> None:
    await hub.task_hub.start()
    if state != "unknown":
        await hub.running("collector", "bystander")
    if state == "ended":
        await hub.client.terminate("bystander", "enough")
        await hub.end("bystander")
    hub.poison("bystander", execution_id="another" if state.startswith("of") else None)
    async with asyncio.timeout(10):
        while not await hub.client.get_dead_letters():
            await asyncio.sleep(0.01)
    (letter,) = await hub.client.get_dead_letters()
    assert (letter.kind, letter.instance_id) == ("message", "bystander")
    assert hub.messages() == 0
    record = await hub.store.get_instance("bystander")
    expected = {"unknown": None, "ended": "Terminated"}.get(state, "Running")
    assert (record and record.runtime_status.value) == expected


async def test_an_unreadable_timer_does_not_stop_the_timers_after_it(hub: PoisonedHub) -> None:
    hub.poison("victim", visible_at=1)
    await hub.task_hub.start()
    await hub.client.start_new("doorkeeper", "door")
    await hub.client.raise_event("door", "answer", "hello")
    assert (await hub.end("door")).output == ["hello", "nobody"]
