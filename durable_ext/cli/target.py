"""The target of a command: a task hub behind the management API of a running host, or in its store.

Statuses are dictionaries as the management API writes them, whichever of the two it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal, Protocol, TypeAlias

from durable_ext.history import HistoryEvent
from durable_ext.storage.contract import DeadLetter, InstanceQuery

Status: TypeAlias = Mapping[str, Any]
"""An instance's status as the management API writes it."""

Request: TypeAlias = Literal["terminate", "suspend", "resume", "rewind"]
"""What an instance can be asked to do, with a reason."""


class Target(Protocol):
    """What the commands need of a task hub. Every refusal is a `ClientError`."""

    where: str

    async def start(self, name: str, instance_id: str | None, value: Any, version: str | None) -> str:
        """Start an orchestration; return the instance's id."""
        ...

    async def status(self, instance_id: str) -> Status:
        """The status of an instance."""
        ...

    async def wait(self, instance_id: str, seconds: float) -> Status:
        """The status of an instance, once it has ended or after about `seconds`."""
        ...

    async def history(self, instance_id: str) -> list[HistoryEvent]:
        """Every event of the current execution, as stored."""
        ...

    def instances(self, query: InstanceQuery) -> AsyncIterator[Status]:
        """All instances that match, page by page."""
        ...

    async def raise_event(self, instance_id: str, event_name: str, value: Any) -> None:
        """Send an event."""

    async def ask(self, request: Request, instance_id: str, reason: str | None) -> None:
        """Have an instance do something."""

    async def restart(self, instance_id: str, *, with_new_id: bool) -> str:
        """Start the same orchestration with the same input again; return the id."""
        ...

    async def purge(self, instance_id: str) -> int:
        """Remove an instance that has ended; return 1."""
        ...

    async def purge_matching(self, query: InstanceQuery) -> int:
        """Remove the instances that match and have ended; return how many. Needs `created_from`."""
        ...

    async def dead_letters(self) -> list[DeadLetter]:
        """What could not be processed, the most recent first."""
        ...
