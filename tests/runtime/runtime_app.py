"""An app on a store, without decorators or a host, and at most one worker that runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from durable_ext.clock import SystemClock
from durable_ext.codec import JsonCodec
from durable_ext.engine.turn import EngineOptions
from durable_ext.history import LIVE, TERMINAL, ExecutionStarted, HistoryEvent
from durable_ext.ids import new_execution_id
from durable_ext.messages import Message
from durable_ext.registry import Activity, Orchestrator, Registry
from durable_ext.runtime.program import Program
from durable_ext.runtime.worker import Worker
from durable_ext.settings import Settings
from durable_ext.storage.contract import InstanceRecord, Store

OPTIONS = ("warm_instances", "fetch_work", "quarantine_command")


class App:
    """A store, the functions of an app, and at most one worker that runs them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.registry = Registry()
        self.worker: Worker | None = None
        self.turn_limit: float | None = None

    def now(self) -> datetime:
        return datetime.now(UTC)

    def orchestrator(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        self.registry.orchestrators.add(Orchestrator(name=function.__name__, function=function))
        return function

    def activity(self, function: Callable[..., Any]) -> Callable[..., Any]:
        names = list(function.__code__.co_varnames)
        hints = dict(function.__annotations__)
        self.registry.activities.add(
            Activity(name=function.__name__, function=function, input_name=names[0], input_type=hints.get(names[0]))
        )
        return function

    def make_worker(self, store: Any = None, **settings: Any) -> Worker:
        options = {name: settings.pop(name) for name in OPTIONS if name in settings}
        program = Program(
            registry=self.registry, codec=JsonCodec(), options=EngineOptions(), turn_limit=self.turn_limit
        )
        self.worker = Worker(store or self.store, program, Settings(**settings), SystemClock(), **options)
        return self.worker

    async def work(self, store: Any = None, **settings: Any) -> Worker:
        worker = self.make_worker(store, **settings)
        await worker.start()
        return worker

    async def leave(self) -> None:
        if self.worker is not None:
            await self.worker.stop(1)

    async def start(self, name: str, instance_id: str, value: str | None = None, **options: Any) -> ExecutionStarted:
        execution_id = new_execution_id()
        start = ExecutionStarted(
            timestamp=datetime.now(UTC),
            name=name,
            instance_id=instance_id,
            execution_id=execution_id,
            start_id=execution_id,
            input=value,
        )
        await self.store.create_instance(start, overridable=options.get("overridable", TERMINAL))
        return start

    async def send(self, instance_id: str, event: HistoryEvent, accepted: Any = LIVE) -> None:
        await self.store.send(Message(instance_id=instance_id, event=event), accepted=accepted)

    async def until(self, instance_id: str, condition: Callable[[InstanceRecord], bool]) -> InstanceRecord:
        with self.store.watch(instance_id) as watch:
            async with asyncio.timeout(20):
                while True:
                    record = await self.store.get_instance(instance_id)
                    if record is not None and condition(record):
                        return record
                    await watch.changed(1)

    async def end(self, instance_id: str) -> InstanceRecord:
        return await self.until(instance_id, lambda record: record.runtime_status.is_terminal)
