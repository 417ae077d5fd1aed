"""What can be asked of an instance: payloads are JSON text, and every refusal is an error.

`OrchestrationClient` puts the codec and the outcomes users know on top; the management API puts status codes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from durable_ext.errors import FunctionNotFoundError, InstanceNotFoundError, InstanceStateError
from durable_ext.history import (
    LIVE,
    NO_TAGS,
    TERMINAL,
    EventRaised,
    ExecutionResumed,
    ExecutionRewound,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
    HistoryEvent,
    OrchestrationRuntimeStatus,
)
from durable_ext.ids import check_instance_id, new_execution_id, new_instance_id
from durable_ext.messages import Message
from durable_ext.storage.contract import ClientStore

FAILED = frozenset({OrchestrationRuntimeStatus.Failed})


class KnownFunctions(Protocol):
    """The names of the functions an app has."""

    def __contains__(self, name: str) -> bool: ...

    def names(self) -> list[str]:
        """All of them, for error messages."""
        ...


def utc_now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(UTC)


class InstanceOperations:
    """Starts, steers and removes instances.

    `overridable` are the statuses in which an existing instance gives way to a new start with its id.
    `known_orchestrators` is asked at every start; without it any name is accepted.
    """

    def __init__(
        self,
        store: ClientStore,
        *,
        default_version: str | None = None,
        overridable: frozenset[OrchestrationRuntimeStatus] = TERMINAL,
        known_orchestrators: Callable[[], KnownFunctions] | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store, self._clock = store, clock
        self._default_version, self._overridable = default_version, overridable
        self._known_orchestrators = known_orchestrators

    async def start(
        self,
        name: str,
        instance_id: str | None = None,
        input_json: str | None = None,
        version: str | None = None,
    ) -> str:
        """Store a new Pending instance and its start message, and return its id.

        An empty or missing id means a random one. Raises `FunctionNotFoundError`, `InvalidInstanceIdError` or
        `InstanceAlreadyExistsError`, having stored nothing.
        """
        if instance_id is None or instance_id == "":
            instance_id = new_instance_id()
        version = self._default_version if version is None else version
        return await self._start(name, instance_id, input_json, version, self._overridable)

    async def restart(self, instance_id: str, *, with_new_id: bool = True) -> str:
        """Start the same orchestrator with the same input afresh; return the id of the new instance.

        With its own id the instance must have ended, whatever a plain start may override; what is known of its
        former run goes. Raises `InstanceNotFoundError`, or `InstanceAlreadyExistsError` if it is live.
        """
        record = await self._store.get_instance(instance_id)
        if record is None:
            raise InstanceNotFoundError(instance_id)
        target = new_instance_id() if with_new_id else instance_id
        return await self._start(record.name, target, record.input, record.version, TERMINAL, record.tags)

    async def _start(
        self,
        name: str,
        instance_id: str,
        input_json: str | None,
        version: str | None,
        overridable: frozenset[OrchestrationRuntimeStatus],
        tags: Mapping[str, str] = NO_TAGS,
    ) -> str:
        if not name:
            raise ValueError("function_name cannot be empty")
        if self._known_orchestrators is not None:
            known = self._known_orchestrators()
            if name not in known:
                raise FunctionNotFoundError(name, "orchestrator", known.names())
        check_instance_id(instance_id)
        execution_id = new_execution_id()
        start = ExecutionStarted(
            timestamp=self._clock(),
            name=name,
            instance_id=instance_id,
            execution_id=execution_id,
            start_id=execution_id,
            input=input_json,
            version=version,
            tags=dict(tags),
        )
        await self._store.create_instance(start, overridable=overridable)
        return instance_id

    async def raise_event(self, instance_id: str, event_name: str, data_json: str | None = None) -> None:
        """Put an event into the mailbox of a live instance, whether or not it waits for it yet."""
        if not isinstance(event_name, str) or not event_name:
            raise ValueError("event_name must be a non-empty string.")
        event = EventRaised(timestamp=self._clock(), name=event_name, input=data_json)
        await self._send(instance_id, event, LIVE)

    async def terminate(self, instance_id: str, reason: str | None = None, *, recursive: bool = False) -> None:
        """Ask a live instance to stop, with `recursive` its open sub-orchestrations too."""
        event = ExecutionTerminated(timestamp=self._clock(), reason=reason, recurse=recursive)
        await self._send(instance_id, event, LIVE)

    async def suspend(self, instance_id: str, reason: str | None = None) -> None:
        """Ask a live instance to pause. No effect on a paused one."""
        await self._send(instance_id, ExecutionSuspended(timestamp=self._clock(), reason=reason), LIVE)

    async def resume(self, instance_id: str, reason: str | None = None) -> None:
        """Ask a live instance to go on. No effect on one that is not paused."""
        await self._send(instance_id, ExecutionResumed(timestamp=self._clock(), reason=reason), LIVE)

    async def rewind(self, instance_id: str, reason: str | None = None) -> None:
        """Ask a failed instance to run its failed tasks again. Which these are, its next turn finds out."""
        await self._send(instance_id, ExecutionRewound(timestamp=self._clock(), reason=reason), FAILED)

    async def purge(self, instance_id: str) -> int:
        """Remove an ended instance with everything it owns; 0 if there is none, `InstanceStateError` if it is live."""
        removed = await self._store.purge((instance_id,))
        if not removed:
            record = await self._store.get_instance(instance_id, with_payloads=False)
            if record is not None and not record.runtime_status.is_terminal:
                status = record.runtime_status.name
                raise InstanceStateError(
                    instance_id,
                    status,
                    f"Instance '{instance_id}' cannot be purged: it is in the {status} state. "
                    f"Terminate it first, or wait until it has ended.",
                )
        return removed

    async def _send(
        self, instance_id: str, event: HistoryEvent, accepted: frozenset[OrchestrationRuntimeStatus]
    ) -> None:
        await self._store.send(Message(instance_id=instance_id, event=event), accepted=accepted)
