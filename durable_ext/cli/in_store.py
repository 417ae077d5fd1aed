"""A task hub in a store that this process has open, beside a host or without one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from durable_ext.cli.target import Request, Status
from durable_ext.errors import InstanceNotFoundError
from durable_ext.history import HistoryEvent
from durable_ext.http.bodies import status_body
from durable_ext.storage.contract import DeadLetter, InstanceQuery
from durable_ext.taskhub import TaskHub


class TargetInStore:
    """The instances of an open hub. Whether a function of some name exists, only a host can tell."""

    def __init__(self, hub: TaskHub, where: str) -> None:
        self._instances, self._codec, self.where = hub.operations, hub.codec, where
        self._requests = {
            "terminate": self._instances.terminate,
            "suspend": self._instances.suspend,
            "resume": self._instances.resume,
            "rewind": self._instances.rewind,
        }

    async def start(self, name: str, instance_id: str | None, value: Any, version: str | None) -> str:
        return await self._instances.start(name, instance_id, self._codec.encode(value), version)

    async def status(self, instance_id: str) -> Status:
        return status_body(await self._instances.require(instance_id))

    async def wait(self, instance_id: str, seconds: float) -> Status:
        try:
            return status_body(await self._instances.wait_for_end(instance_id, seconds))
        except TimeoutError:
            return await self.status(instance_id)

    async def history(self, instance_id: str) -> list[HistoryEvent]:
        return await self._instances.history(instance_id)

    async def instances(self, query: InstanceQuery) -> AsyncIterator[Status]:
        async for record in self._instances.list_all(query):
            yield status_body(record)

    async def raise_event(self, instance_id: str, event_name: str, value: Any) -> None:
        await self._instances.raise_event(instance_id, event_name, self._codec.encode(value))

    async def ask(self, request: Request, instance_id: str, reason: str | None) -> None:
        await self._requests[request](instance_id, reason)

    async def restart(self, instance_id: str, *, with_new_id: bool) -> str:
        return await self._instances.restart(instance_id, with_new_id=with_new_id)

    async def purge(self, instance_id: str) -> int:
        removed = await self._instances.purge(instance_id)
        if not removed:
            raise InstanceNotFoundError(instance_id)
        return removed

    async def purge_matching(self, query: InstanceQuery) -> int:
        if query.created_from is None:
            raise ValueError("a purge of many instances says when they were created at the earliest")
        return await self._instances.purge_matching(query.created_from, query.created_to, query.statuses)

    async def dead_letters(self) -> list[DeadLetter]:
        return await self._instances.dead_letters()
