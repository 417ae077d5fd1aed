"""Operations on instances: payloads are JSON text, and every refusal is an error.

`OrchestrationClient` puts the codec and the outcomes users know on top; the management API puts status codes, the
command line puts words.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from datetime import datetime
from typing import Protocol

import msgspec

from durable_ext.clock import Clock, SystemClock
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
from durable_ext.storage.contract import ClientStore, DeadLetter, InstancePage, InstanceQuery, InstanceRecord

FAILED = frozenset({OrchestrationRuntimeStatus.Failed})

_LOOK_AGAIN = 10.0
"""Seconds after which whoever waits for an end reads the status anyway."""


class KnownFunctions(Protocol):
    """The names of the functions an app has."""

    def __contains__(self, name: str) -> bool: ...

    def names(self) -> list[str]:
        """All of them, for error messages."""
        ...


class InstanceOperations:
    """Starts, asks, steers and removes instances.

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
        clock: Clock | None = None,
    ) -> None:
        self._store = store
        self._clock: Clock = clock or SystemClock()
        self._default_version, self._overridable = default_version, overridable
        self._known_orchestrators = known_orchestrators

    # --- start -------------------------------------------------------------------------------------------

    async def start(
        self,
        name: str,
        instance_id: str | None = None,
        input_json: str | None = None,
        version: str | None = None,
    ) -> str:
        """Store a new Pending instance and its start message, and return its id.

        An empty or missing id means a random one; a missing version the app's default, an empty one none. Raises
        `FunctionNotFoundError`, `InvalidInstanceIdError` or `InstanceAlreadyExistsError`, having stored nothing.
        """
        if instance_id is None or instance_id == "":
            instance_id = new_instance_id()
        return await self._start(name, instance_id, input_json, version, self._overridable)

    async def restart(self, instance_id: str, *, with_new_id: bool = True, version: str | None = None) -> str:
        """Start the same orchestrator with the same input afresh; return the id of the new instance.

        It has the version a plain start would have: a restart is how an instance comes to today's code.
        With its own id the instance must have ended, whatever a plain start may override; what is known of its
        former run goes. Raises `InstanceNotFoundError`, or `InstanceAlreadyExistsError` if it is live.
        """
        record = await self.require(instance_id)
        target = new_instance_id() if with_new_id else instance_id
        return await self._start(record.name, target, record.input, version, TERMINAL, record.tags)

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
            timestamp=self._clock.now(),
            name=name,
            instance_id=instance_id,
            execution_id=execution_id,
            start_id=execution_id,
            input=input_json,
            version=(self._default_version if version is None else version) or None,
            tags=dict(tags),
        )
        await self._store.create_instance(start, overridable=overridable)
        return instance_id

    # --- ask ---------------------------------------------------------------------------------------------

    async def get(self, instance_id: str, *, with_input: bool = True) -> InstanceRecord | None:
        """The status row of an instance, or None. `with_input=False` may leave its input out."""
        return await self._store.get_instance(instance_id, with_payloads=with_input)

    async def require(self, instance_id: str) -> InstanceRecord:
        """The status row of an instance. Raises `InstanceNotFoundError`."""
        record = await self._store.get_instance(instance_id)
        if record is None:
            raise InstanceNotFoundError(instance_id)
        return record

    async def list_page(self, query: InstanceQuery) -> InstancePage:
        """One page of the instances that match. Raises ValueError on a continuation token nobody gave out."""
        return await self._store.list_instances(query)

    async def list_all(self, query: InstanceQuery) -> AsyncIterator[InstanceRecord]:
        """Every instance that matches, however many pages that takes."""
        while True:
            page = await self._store.list_instances(query)
            for record in page.instances:
                yield record
            if not page.continuation_token:
                return
            query = msgspec.structs.replace(query, continuation_token=page.continuation_token)

    async def history(self, instance_id: str) -> list[HistoryEvent]:
        """Every event of the current execution, as stored. Raises `InstanceNotFoundError`."""
        events = await self._store.read_history(instance_id)
        if not events and await self._store.get_instance(instance_id, with_payloads=False) is None:
            raise InstanceNotFoundError(instance_id)
        return events

    async def history_of(self, record: InstanceRecord) -> list[HistoryEvent] | None:
        """The history that goes with a status row; None while the instance has not begun."""
        if record.runtime_status is OrchestrationRuntimeStatus.Pending:
            return None
        return await self._store.read_history(record.instance_id)

    async def wait_for_end(self, instance_id: str, timeout: float | None = None) -> InstanceRecord:
        """Wait until the instance has ended, at most `timeout` seconds, and return its status row.

        Raises `TimeoutError`, which says what the instance is doing, and `InstanceNotFoundError`.
        """
        deadline = math.inf if timeout is None else self._clock.monotonic() + timeout
        with self._store.watch(instance_id, until_ended=True) as watch:
            while True:
                remaining = deadline - self._clock.monotonic()
                record = await self.require(instance_id)
                if record.runtime_status.is_terminal:
                    return record
                if remaining <= 0:
                    raise TimeoutError(
                        f"instance '{instance_id}' ({record.name}) is still {record.runtime_status.name} after "
                        f"{timeout:g} s; wait longer, or look at its history"
                    )
                await watch.changed(min(remaining, _LOOK_AGAIN))

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """What could not be processed, with payload and reason, the most recent first."""
        return await self._store.list_dead_letters(limit)

    # --- steer -------------------------------------------------------------------------------------------

    async def raise_event(self, instance_id: str, event_name: str, data_json: str | None = None) -> None:
        """Put an event into the mailbox of a live instance, whether or not it waits for it yet."""
        if not isinstance(event_name, str) or not event_name:
            raise ValueError("event_name must be a non-empty string.")
        event = EventRaised(timestamp=self._clock.now(), name=event_name, input=data_json)
        await self._send(instance_id, event, LIVE)

    async def terminate(self, instance_id: str, reason: str | None = None, *, recursive: bool = False) -> None:
        """Ask a live instance to stop, with `recursive` its open sub-orchestrations too."""
        event = ExecutionTerminated(timestamp=self._clock.now(), reason=reason, recurse=recursive)
        await self._send(instance_id, event, LIVE)

    async def suspend(self, instance_id: str, reason: str | None = None) -> None:
        """Ask a live instance to pause. No effect on a paused one."""
        await self._send(instance_id, ExecutionSuspended(timestamp=self._clock.now(), reason=reason), LIVE)

    async def resume(self, instance_id: str, reason: str | None = None) -> None:
        """Ask a live instance to go on. No effect on one that is not paused."""
        await self._send(instance_id, ExecutionResumed(timestamp=self._clock.now(), reason=reason), LIVE)

    async def rewind(self, instance_id: str, reason: str | None = None) -> None:
        """Ask a failed instance to run its failed tasks again. Which these are, its next turn finds out."""
        try:
            await self._send(instance_id, ExecutionRewound(timestamp=self._clock.now(), reason=reason), FAILED)
        except InstanceStateError as err:
            message = "The rewind operation is only supported on failed orchestration instances."
            raise InstanceStateError(instance_id, err.status, message) from err

    async def _send(
        self, instance_id: str, event: HistoryEvent, accepted: frozenset[OrchestrationRuntimeStatus]
    ) -> None:
        await self._store.send(Message(instance_id=instance_id, event=event), accepted=accepted)

    # --- remove ------------------------------------------------------------------------------------------

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

    async def purge_each(self, instance_ids: Collection[str]) -> int:
        """Remove those of the instances that have ended; the others, and ids nobody has, are passed over."""
        return await self._store.purge(instance_ids)

    async def purge_matching(
        self,
        created_from: datetime,
        created_to: datetime | None = None,
        statuses: frozenset[OrchestrationRuntimeStatus] = frozenset(),
        instance_id_prefix: str | None = None,
    ) -> int:
        """Remove the instances created in that time that have ended, in one of the statuses if any are given.

        Only those whose id begins with the prefix, if one is given. Live instances are never touched, whatever the
        statuses. `created_to` is now if left out.
        """
        if statuses and not statuses & TERMINAL:
            return 0
        query = InstanceQuery(
            created_from=created_from,
            created_to=created_to or self._clock.now(),
            statuses=statuses & TERMINAL,
            instance_id_prefix=instance_id_prefix,
        )
        return await self._store.purge_matching(query)
