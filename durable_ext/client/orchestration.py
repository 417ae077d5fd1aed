"""The client of a task hub, as apps have it: values instead of JSON text, and leniency where users expect it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from datetime import UTC, date, datetime, time
from typing import Any, Protocol, overload

from durable_ext.client.history_view import show_history as project_history
from durable_ext.client.links import ManagementLinks, forwarded_origin, origin_of, with_origin
from durable_ext.client.operations import InstanceOperations
from durable_ext.client.status import DurableOrchestrationStatus, PurgeHistoryResult, StatusPage
from durable_ext.codec import Codec
from durable_ext.errors import ClientError, InstanceNotFoundError, InstanceStateError
from durable_ext.history import HistoryEvent, OrchestrationRuntimeStatus
from durable_ext.storage.contract import DeadLetter, InstanceQuery

Statuses = OrchestrationRuntimeStatus | str | Iterable[OrchestrationRuntimeStatus | str]
"""One status or several, by member or by name."""


class HttpRequestLike(Protocol):
    """As much of a request as links need: its URL, and if it has them its headers."""

    @property
    def url(self) -> str:
        """The URL the caller used."""
        ...


class OrchestrationClient:
    """Starts, queries and steers the orchestrations of one task hub.

    The methods that change an instance return once the request is stored; poll, or `wait_for_completion`, for the
    effect. Refusals are `ClientError`s and store nothing.

    `links` say where its management API is, and its name. `resolve` turns what the app passes as an orchestrator into
    its name. `use_forwarded_host` believes the headers of a proxy about where a caller is.
    """

    def __init__(
        self,
        operations: InstanceOperations,
        *,
        codec: Codec,
        links: ManagementLinks,
        resolve: Callable[[Any], str],
        use_forwarded_host: bool = False,
    ) -> None:
        self._operations, self._codec, self._links = operations, codec, links
        self._resolve, self._use_forwarded_host = resolve, use_forwarded_host

    @property
    def task_hub_name(self) -> str:
        """The task hub this client talks to."""
        return self._links.hub_name

    @property
    def operations(self) -> InstanceOperations:
        """The same operations without leniency: whatever does not apply raises."""
        return self._operations

    # --- start and steer ---------------------------------------------------------------------------------

    async def start_new(
        self,
        orchestration_function_name: Any,
        instance_id: str | None = None,
        client_input: Any = None,
        version: str | None = None,
    ) -> str:
        """Start an orchestration and return its instance id; without one, or with "", a random id.

        Raises `FunctionNotFoundError` for a name the app does not have, `InvalidInstanceIdError`, `CodecError` for
        an input that is not serialisable, and `InstanceAlreadyExistsError` if the id is live. Of any number of
        concurrent starts with one id exactly one succeeds.
        """
        name = self._resolve(orchestration_function_name)
        return await self._operations.start(name, instance_id, self._codec.encode(client_input), version)

    async def raise_event(
        self,
        instance_id: str,
        event_name: str,
        event_data: Any = None,
        task_hub_name: str | None = None,
        connection_name: str | None = None,
    ) -> None:
        """Send an event to a live instance; it is kept until the orchestrator waits for it.

        A client has one store: another `task_hub_name` is refused, `connection_name` is accepted and means nothing.
        """
        self._check_hub(task_hub_name)
        try:
            await self._operations.raise_event(instance_id, event_name, self._codec.encode(event_data))
        except InstanceNotFoundError as err:
            raise InstanceNotFoundError(instance_id, f"No instance with ID {instance_id} found.") from err
        except InstanceStateError as err:
            message = f"Instance with ID {instance_id} is gone: either completed or failed"
            raise InstanceStateError(instance_id, err.status, message) from err

    async def terminate(self, instance_id: str, reason: str | None = None, *, recursive: bool = False) -> None:
        """Stop an instance; the reason becomes its output. No effect on one that has ended.

        Running activities go on, their results are dropped. Sub-orchestrations go on too unless `recursive`.
        """
        with suppress(InstanceStateError):  # it has ended, so it is stopped
            await self._operations.terminate(instance_id, reason, recursive=recursive)

    async def suspend(self, instance_id: str, reason: str | None = None) -> None:
        """Pause an instance: what arrives meanwhile waits. No effect on one that is paused or has ended."""
        with suppress(InstanceStateError):
            await self._operations.suspend(instance_id, reason)

    async def resume(self, instance_id: str, reason: str | None = None) -> None:
        """End the pause of an instance. No effect on one that is not paused or has ended."""
        with suppress(InstanceStateError):
            await self._operations.resume(instance_id, reason)

    async def rewind(
        self,
        instance_id: str,
        reason: str | None = None,
        task_hub_name: str | None = None,
        connection_name: str | None = None,
    ) -> None:
        """Run a failed instance again from where it failed; results it already has are kept."""
        self._check_hub(task_hub_name)
        try:
            await self._operations.rewind(instance_id, reason)
        except InstanceNotFoundError as err:
            raise InstanceNotFoundError(instance_id, f"No instance with ID {instance_id} found.") from err

    async def restart(
        self, instance_id: str, restart_with_new_instance_id: bool = True, *, version: str | None = None
    ) -> str:
        """Start the same orchestrator with the same input afresh; return the new instance's id.

        The new run has the app's default version, whatever the former one had, unless `version` says otherwise.
        With the old id the instance must have ended, and what is known of its former run goes.
        """
        return await self._operations.restart(instance_id, with_new_id=restart_with_new_instance_id, version=version)

    # --- ask ---------------------------------------------------------------------------------------------

    async def get_status(
        self,
        instance_id: str,
        show_history: bool = False,
        show_history_output: bool = False,
        show_input: bool = True,
    ) -> DurableOrchestrationStatus:
        """The status of an instance. Falsy if there is none, never None."""
        record = await self._operations.get(instance_id, with_input=show_input)
        if record is None:
            return DurableOrchestrationStatus(message=f"No instance with ID '{instance_id}' found.")
        history = None
        if show_history and (events := await self._operations.history_of(record)) is not None:
            history = project_history(events, with_results=show_history_output, with_inputs=show_input)
        return DurableOrchestrationStatus.from_record(record, show_input=show_input, history=history)

    async def get_status_all(self) -> list[DurableOrchestrationStatus]:
        """The status of every orchestration of the hub, however many pages that takes."""
        return await self._all(InstanceQuery())

    async def get_status_by(
        self,
        created_time_from: date | None = None,
        created_time_to: date | None = None,
        runtime_status: Statuses | None = None,
        instance_id_prefix: str | None = None,
        *,
        name: str | None = None,
    ) -> list[DurableOrchestrationStatus]:
        """The status of every orchestration that meets all conditions given.

        Times are inclusive; one without a zone is UTC, a date is its midnight. No status means any. `name` is the
        orchestrator's.
        """
        query = InstanceQuery(
            created_from=_utc(created_time_from),
            created_to=_utc(created_time_to),
            statuses=_statuses(runtime_status),
            instance_id_prefix=instance_id_prefix,
            name=name,
        )
        return await self._all(query)

    async def list_instances(self, query: InstanceQuery) -> StatusPage:
        """One page of orchestrations. Entities are listed only to a prefix that begins with `@`."""
        page = await self._operations.list_page(query)
        return StatusPage(
            [DurableOrchestrationStatus.from_record(each, show_input=query.with_payloads) for each in page.instances],
            page.continuation_token,
        )

    async def _all(self, query: InstanceQuery) -> list[DurableOrchestrationStatus]:
        return [DurableOrchestrationStatus.from_record(each) async for each in self._operations.list_all(query)]

    async def get_history(self, instance_id: str) -> list[HistoryEvent]:
        """Every event of the current execution, as stored. Raises `InstanceNotFoundError`."""
        return await self._operations.history(instance_id)

    async def wait_for_completion(self, instance_id: str, timeout: float | None = None) -> DurableOrchestrationStatus:
        """Wait until the instance has ended, at most `timeout` seconds, and return its status.

        Raises `TimeoutError`, which says what the instance is doing, and `InstanceNotFoundError`.
        """
        return DurableOrchestrationStatus.from_record(await self._operations.wait_for_end(instance_id, timeout))

    async def get_dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """What could not be processed, with payload and reason, the most recent first."""
        return await self._operations.dead_letters(limit)

    # --- remove ------------------------------------------------------------------------------------------

    async def purge_instance_history(self, instance_id: str) -> PurgeHistoryResult:
        """Remove an instance that has ended, with everything it owns; a live one raises `InstanceStateError`."""
        return PurgeHistoryResult(await self._operations.purge(instance_id))

    async def purge_instance_history_by(
        self,
        created_time_from: date | None = None,
        created_time_to: date | None = None,
        runtime_status: Statuses | None = None,
    ) -> PurgeHistoryResult:
        """Remove the instances created in that time that have ended, in one of the statuses if any are given.

        Without `created_time_from` it raises ValueError. Live instances are never touched, whatever the statuses.
        `created_time_to` is now if left out.
        """
        created_from = _utc(created_time_from)
        if created_from is None:
            raise ValueError("created_time_from is required when purging instance history")
        removed = await self._operations.purge_matching(created_from, _utc(created_time_to), _statuses(runtime_status))
        return PurgeHistoryResult(removed)

    async def purge_instances(self, instance_ids: Collection[str]) -> PurgeHistoryResult:
        """Remove those of the instances that have ended; the others, and ids nobody has, are passed over."""
        return PurgeHistoryResult(await self._operations.purge_each(instance_ids))

    # --- hand out ----------------------------------------------------------------------------------------

    @overload
    def create_http_management_payload(self, instance_id: str) -> dict[str, str]: ...

    @overload
    def create_http_management_payload(self, request: HttpRequestLike | None, instance_id: str) -> dict[str, str]: ...

    def create_http_management_payload(  # type: ignore[misc]  # a lone argument is the id, which `isinstance` tells
        self, request: HttpRequestLike | str | None = None, instance_id: str | None = None
    ) -> dict[str, str]:
        """The management URLs of an instance, for somebody without access to this client.

        With a request they are those of `get_client_response_links`.
        """
        if isinstance(request, str) and instance_id is None:
            request, instance_id = None, request
        if instance_id is None or isinstance(request, str):
            raise TypeError("create_http_management_payload takes an instance id, or a request and an instance id")
        return self.get_client_response_links(request, instance_id)

    def get_client_response_links(self, request: HttpRequestLike | None, instance_id: str) -> dict[str, str]:
        """The management URLs as the sender of `request` can reach them: with scheme and host as it used them."""
        payload = self._links.payload(instance_id)
        if request is None or not request.url:
            return payload
        origin = origin_of(request.url)
        if self._use_forwarded_host:
            origin = forwarded_origin(getattr(request, "headers", {})) or origin
        return {key: value if key == "id" else with_origin(value, origin) for key, value in payload.items()}

    def _check_hub(self, task_hub_name: str | None) -> None:
        if task_hub_name and task_hub_name.casefold() != self.task_hub_name.casefold():
            raise ClientError(
                f"this client talks to task hub '{self.task_hub_name}', not to '{task_hub_name}'; "
                f"use a client that is bound to that hub"
            )


def _utc(moment: date | None) -> datetime | None:
    if moment is None:
        return None
    if not isinstance(moment, datetime):
        moment = datetime.combine(moment, time())
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _statuses(given: Statuses | None) -> frozenset[OrchestrationRuntimeStatus]:
    if isinstance(given, OrchestrationRuntimeStatus | str):
        given = (given,)
    return frozenset(OrchestrationRuntimeStatus(each) for each in given or ())
