"""A task hub for tests of the programming model: the real clients on a store that keeps status rows in a dictionary."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
from clocks import FixedClock

from durable_ext.errors import InstanceAlreadyExistsError
from durable_ext.functions.client import DurableOrchestrationClient, SyncDurableOrchestrationClient
from durable_ext.functions.resolving import resolve
from durable_ext.history import ExecutionStarted, OrchestrationRuntimeStatus
from durable_ext.settings import Settings
from durable_ext.storage.contract import InstanceRecord
from durable_ext.taskhub import TaskHub

NOW = datetime(2024, 1, 1, 12, tzinfo=UTC)


class Rows:
    """As much of a client store as starting and asking need."""

    def __init__(self) -> None:
        self.rows: dict[str, InstanceRecord] = {}
        self.starts: list[ExecutionStarted] = []
        self.refuse_name: str | None = None

    async def create_instance(
        self, start: ExecutionStarted, *, overridable: frozenset[OrchestrationRuntimeStatus]
    ) -> None:
        if start.name == self.refuse_name:
            raise OSError("the store is unreachable")
        present = self.rows.get(start.instance_id)
        if present is not None and present.runtime_status not in overridable:
            raise InstanceAlreadyExistsError(start.instance_id, present.runtime_status.name)
        self.starts.append(start)
        self.rows[start.instance_id] = InstanceRecord(
            instance_id=start.instance_id,
            execution_id=start.execution_id,
            name=start.name,
            runtime_status=OrchestrationRuntimeStatus.Pending,
            created_at=start.timestamp,
            updated_at=start.timestamp,
            input=start.input,
        )

    async def get_instance(self, instance_id: str, *, with_payloads: bool = True) -> InstanceRecord | None:
        return self.rows.get(instance_id)

    @contextmanager
    def watch(self, instance_id: str, *, until_ended: bool = False) -> Iterator[Rows]:
        yield self

    async def changed(self, timeout: float) -> None:
        await asyncio.sleep(0)

    def end(self, instance_id: str, status: OrchestrationRuntimeStatus, output: str | None = None) -> None:
        self.rows[instance_id] = msgspec.structs.replace(self.rows[instance_id], runtime_status=status, output=output)


class Hub:
    """A client provider, as a host is one."""

    def __init__(self) -> None:
        self.store = Rows()
        self.loop = asyncio.get_running_loop()
        self.asked: list[tuple[str | None, str | None]] = []
        self.base_url: str | None = "http://localhost:7071/runtime/webhooks/durabletask"

    def client(self) -> DurableOrchestrationClient:
        hub = TaskHub(
            self.store,  # type: ignore[arg-type]  # as much of one as the tests need
            settings=Settings(hub_name="TestHub"),
            clock=FixedClock(NOW),
            resolve=resolve,
            base_url=self.base_url,
        )
        return hub.client_as(DurableOrchestrationClient)

    def async_client(self, task_hub: str | None, connection_name: str | None) -> DurableOrchestrationClient:
        self.asked.append((task_hub, connection_name))
        return self.client()

    def sync_client(self, task_hub: str | None, connection_name: str | None) -> SyncDurableOrchestrationClient:
        self.asked.append((task_hub, connection_name))
        return SyncDurableOrchestrationClient(self.client(), self.loop)

    @property
    def started(self) -> list[tuple[str, Any]]:
        return [
            (start.name, None if start.input is None else msgspec.json.decode(start.input))
            for start in self.store.starts
        ]
