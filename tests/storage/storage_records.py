"""Records to put into a store, and short ways to say what the tests say often."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

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
    TimerFired,
)
from durable_ext.messages import Message, WorkItem
from durable_ext.storage.contract import Commit, DeadLetter, Snapshot, StatusChange, Store, Version

if TYPE_CHECKING:
    from storage_mail import Mail

T = TypeVar("T")

Status = OrchestrationRuntimeStatus
ANY_STATE = LIVE | TERMINAL
THEN = datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)

_executions = itertools.count(1)


async def soon(awaitable: Awaitable[T]) -> T:
    """The result, or a failed test instead of one that hangs."""
    return await asyncio.wait_for(awaitable, 10)


# --- records -----------------------------------------------------------------------------------------


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


def raised(name: str) -> EventRaised:
    return EventRaised(timestamp=THEN, name=name, input="1")


def message(instance_id: str, name: str, *, visible_at: datetime | None = None) -> Message:
    return Message(instance_id=instance_id, event=raised(name), visible_at=visible_at)


def turn(*events: HistoryEvent) -> list[HistoryEvent]:
    return [OrchestratorStarted(timestamp=THEN), *events, OrchestratorCompleted(timestamp=THEN)]


def scheduled(task_id: int) -> TaskScheduled:
    return TaskScheduled(timestamp=THEN, event_id=task_id, name="SayHello")


def completed(task_id: int, result: str = '"Hello Tokyo!"') -> TaskCompleted:
    return TaskCompleted(timestamp=THEN, task_scheduled_id=task_id, result=result)


def ended(result: str | None = '"done"') -> ExecutionCompleted:
    return ExecutionCompleted(timestamp=THEN, orchestration_status=Status.Completed, result=result)


def letter(instance_id: str = "one", name: str = "SayHello") -> DeadLetter:
    return DeadLetter(
        kind="activity",
        instance_id=instance_id,
        name=name,
        payload='"Tokyo"',
        reason="it killed its process twice: signal 9",
        created_at=datetime(2024, 5, 1, tzinfo=UTC),
    )


# --- what clients and the runtime do -----------------------------------------------------------------


async def create(store: Store, instance_id: str = "one", **fields: Any) -> ExecutionStarted:
    started = start(instance_id, **fields)
    await store.create_instance(started, overridable=TERMINAL)
    return started


async def raise_event(store: Store, instance_id: str, name: str, **fields: Any) -> None:
    await store.send(message(instance_id, name, **fields), accepted=ANY_STATE)


async def snapshot(store: Store, instance_id: str = "one") -> Snapshot:
    loaded = await store.begin(instance_id, None, [])
    assert loaded.snapshot is not None
    return loaded.snapshot


async def version_of(store: Store, instance_id: str = "one") -> Version:
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


class Instance:
    """An instance with a history, and the version its next turn has to carry."""

    def __init__(self, store: Store, started: ExecutionStarted, version: Version) -> None:
        self.store, self.started, self.version = store, started, version
        self.instance_id, self.execution_id = started.instance_id, started.execution_id

    def work(self, task_id: int, **fields: Any) -> WorkItem:
        given: dict[str, Any] = {"name": "SayHello", "orchestrator": "Greet", "input": '"Tokyo"', **fields}
        return WorkItem(instance_id=self.instance_id, execution_id=self.execution_id, task_id=task_id, **given)

    def timer(self, task_id: int, due: datetime) -> Message:
        event = TimerFired(timestamp=due, timer_id=task_id, fire_at=due)
        return Message(instance_id=self.instance_id, execution_id=self.execution_id, event=event, visible_at=due)

    def turn(self, *events: HistoryEvent, **fields: Any) -> Commit:
        """A turn to be committed, perhaps."""
        given = {"execution_id": self.execution_id, "version": self.version, "events": turn(*events), **fields}
        return Commit(instance_id=self.instance_id, **given)

    async def commit(self, *events: HistoryEvent, **fields: Any) -> None:
        self.version = await self.store.commit(self.turn(*events, **fields))

    async def remove(self, *receipts: Any, **fields: Any) -> None:
        """A commit that moves nothing: messages there is no use for."""
        self.version = await self.store.commit(self.turn(events=(), consumed=receipts, **fields))

    async def end(self, status: Status = Status.Completed, **fields: Any) -> None:
        """An end that cancels whatever was called, unless told otherwise."""
        change = StatusChange(runtime_status=status, updated_at=THEN, output='"done"')
        await self.commit(ended(), status=change, **{"cancels_all": True, **fields})


async def running(mail: Mail, instance_id: str = "one", **fields: Any) -> Instance:
    """An instance whose first turn is committed, its start message consumed."""
    started = await create(mail.store, instance_id)
    delivery = await mail.next(instance_id)
    version = await version_of(mail.store, instance_id)
    version = await mail.store.commit(first_turn(started, version, consumed=[delivery.receipt], **fields))
    return Instance(mail.store, started, version)


async def finish(mail: Mail, instance_id: str = "one") -> Instance:
    """An instance that has ended."""
    instance = await running(mail, instance_id)
    await instance.end()
    return instance


async def kill(process: asyncio.subprocess.Process) -> bytes:
    """SIGKILL. Returns what it had still printed."""
    if process.returncode is None:
        process.kill()
    output, _ = await process.communicate()
    return output
