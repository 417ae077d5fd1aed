"""Records to put into a store, and short ways to say what the tests say often."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from durable_ext.history import (
    LIVE,
    TERMINAL,
    EventRaised,
    ExecutionCompleted,
    ExecutionStarted,
    HistoryEvent,
    OrchestrationRuntimeStatus,
    OrchestratorCompleted,
    OrchestratorStarted,
    ParentInstance,
    TaskCompleted,
    TaskScheduled,
)
from durable_ext.messages import Message, WorkItem
from durable_ext.storage.contract import Commit, Delivery, Snapshot, StatusChange, Store, Version

T = TypeVar("T")

Status = OrchestrationRuntimeStatus
THEN = datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)

_executions = itertools.count(1)


def nothing_lost() -> None:
    """What a store calls when instances are no longer its worker's: these tests take note by `is_local`."""


async def soon(awaitable: Awaitable[T]) -> T:
    """The result, or a failed test instead of one that hangs."""
    return await asyncio.wait_for(awaitable, 10)


def start(instance_id: str = "one", **fields: Any) -> ExecutionStarted:
    execution_id = fields.pop("execution_id", None) or f"execution-{next(_executions)}"
    given: dict[str, Any] = {
        "timestamp": THEN,
        "name": "Greet",
        "start_id": execution_id,
        "input": '"Tokyo"',
        "version": "1.0",
        "tags": {"team": "blue"},
        **fields,
    }
    return ExecutionStarted(instance_id=instance_id, execution_id=execution_id, **given)


def child_start(instance_id: str, parent_id: str) -> ExecutionStarted:
    parent = ParentInstance(name="Parent", instance_id=parent_id, execution_id="parent-execution", task_id=0)
    return start(instance_id, parent=parent)


def raised(name: str, timestamp: datetime = THEN) -> EventRaised:
    return EventRaised(timestamp=timestamp, name=name, input="1")


def message(instance_id: str, name: str, *, visible_in: float | None = None) -> Message:
    visible_at = None if visible_in is None else datetime.now(UTC) + timedelta(seconds=visible_in)
    return Message(instance_id=instance_id, event=raised(name), visible_at=visible_at)


def turn(*events: HistoryEvent) -> list[HistoryEvent]:
    return [OrchestratorStarted(timestamp=THEN), *events, OrchestratorCompleted(timestamp=THEN)]


def work(instance_id: str, task_id: int, *, execution_id: str = "execution", **fields: Any) -> WorkItem:
    given: dict[str, Any] = {"name": "SayHello", "orchestrator": "Greet", "input": '"Tokyo"', **fields}
    return WorkItem(instance_id=instance_id, execution_id=execution_id, task_id=task_id, **given)


def scheduled(task_id: int) -> TaskScheduled:
    return TaskScheduled(timestamp=THEN, event_id=task_id, name="SayHello")


def completed(task_id: int, result: str = '"Hello Tokyo!"') -> TaskCompleted:
    return TaskCompleted(timestamp=THEN, task_scheduled_id=task_id, result=result)


def ended(result: str | None = '"done"') -> ExecutionCompleted:
    return ExecutionCompleted(timestamp=THEN, orchestration_status=Status.Completed, result=result)


async def create(store: Store, instance_id: str = "one", **fields: Any) -> ExecutionStarted:
    started = start(instance_id, **fields)
    await store.create_instance(started, overridable=TERMINAL)
    return started


async def raise_event(store: Store, instance_id: str, name: str, **fields: Any) -> None:
    await store.send(message(instance_id, name, **fields), accepted=LIVE)


async def snapshot(store: Store, instance_id: str) -> Snapshot:
    loaded = await store.begin(instance_id, None, [])
    assert loaded.snapshot is not None
    return loaded.snapshot


async def version_of(store: Store, instance_id: str) -> Version:
    return (await snapshot(store, instance_id)).version


def first_turn(started: ExecutionStarted, version: Version, *events: HistoryEvent, **fields: Any) -> Commit:
    status = StatusChange(runtime_status=Status.Running, updated_at=THEN, started=started)
    return Commit(
        instance_id=started.instance_id,
        execution_id=started.execution_id,
        version=version,
        events=turn(started, *events),
        **{"status": status, **fields},
    )


async def running(store: Store, instance_id: str = "one", **fields: Any) -> tuple[ExecutionStarted, Version]:
    """An instance whose first turn is committed, its start message consumed."""
    started = await create(store, instance_id)
    delivery = await next_for(store, instance_id)
    version = await version_of(store, instance_id)
    return started, await store.commit(first_turn(started, version, consumed=[delivery.receipt], **fields))


async def finish(store: Store, instance_id: str = "one") -> Version:
    """An instance that has ended."""
    started, version = await running(store, instance_id)
    return await store.commit(
        Commit(
            instance_id=instance_id,
            execution_id=started.execution_id,
            version=version,
            events=turn(ended()),
            status=StatusChange(runtime_status=Status.Completed, updated_at=THEN, output='"done"'),
        )
    )


async def next_for(store: Store, instance_id: str) -> Delivery:
    """The one message waiting, which must be for this instance."""
    (delivery,) = await soon(store.receive())
    assert delivery.instance_id == instance_id
    return delivery


async def receive_until(store: Store, name: str) -> list[Delivery]:
    """Everything up to the event of this name, which ends the wait for what must not come."""
    received: list[Delivery] = []
    while not received or name not in names(received):
        received += await soon(store.receive())
    return received


def names(deliveries: Sequence[Delivery]) -> list[str]:
    return [each.event.name for each in deliveries if isinstance(each.event, EventRaised | ExecutionStarted)]


async def nothing_else_waits(store: Store) -> None:
    """No message is ready: one stored now is the next to come, alone."""
    marker = f"marker-{next(_executions)}"
    await create(store, marker, name=marker)
    deliveries = await soon(store.receive())
    assert names(deliveries) == [marker]
    await store.commit(
        Commit(
            instance_id=marker,
            execution_id=deliveries[0].execution_id or "",
            version=await version_of(store, marker),
            consumed=[each.receipt for each in deliveries],
        )
    )


async def kill(process: asyncio.subprocess.Process) -> bytes:
    """SIGKILL. Returns what it had still printed."""
    if process.returncode is None:
        process.kill()
    output, _ = await process.communicate()
    return output
