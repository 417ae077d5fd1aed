"""A task hub as the command line sees it: through the management API of a running host, or in its store."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol
from urllib.parse import quote

import aiohttp
import msgspec

from durable_ext.client import OrchestrationClient
from durable_ext.client.status import json_or_text
from durable_ext.errors import ClientError, InstanceNotFoundError, InstanceStateError
from durable_ext.history import HistoryEvent, OrchestrationRuntimeStatus, decode_events
from durable_ext.http.bodies import status_body
from durable_ext.storage.contract import DeadLetter, InstanceQuery

Status = Mapping[str, Any]
"""An instance's status as the management API writes it."""

CONTINUATION = "x-ms-continuation-token"

_JSON = {"Content-Type": "application/json"}


class Hub(Protocol):
    """What the commands need. Every refusal is a `ClientError`."""

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

    async def steer(self, verb: str, instance_id: str, reason: str | None) -> None:
        """`terminate`, `suspend`, `resume` or `rewind`."""

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


class HubInStore:
    """A hub in a store that this process has open, beside a host or without one."""

    def __init__(self, client: OrchestrationClient, where: str) -> None:
        self._client, self.where = client, where

    async def start(self, name: str, instance_id: str | None, value: Any, version: str | None) -> str:
        """Start an orchestration. Whether a function of that name exists, the next host finds out."""
        return await self._client.start_new(name, instance_id, value, version)

    async def status(self, instance_id: str) -> Status:
        """The status of an instance."""
        status = await self._client.get_status(instance_id)
        if not status:
            raise InstanceNotFoundError(instance_id)
        return status_body(status)

    async def wait(self, instance_id: str, seconds: float) -> Status:
        """The status of an instance, once it has ended or after about `seconds`."""
        try:
            return status_body(await self._client.wait_for_completion(instance_id, seconds))
        except TimeoutError:
            return await self.status(instance_id)

    async def history(self, instance_id: str) -> list[HistoryEvent]:
        """Every event of the current execution, as stored."""
        return await self._client.get_history(instance_id)

    async def instances(self, query: InstanceQuery) -> AsyncIterator[Status]:
        """All instances that match, page by page."""
        while True:
            page = await self._client.list_instances(query)
            for status in page.instances:
                yield status_body(status)
            if not page.continuation_token:
                return
            query = msgspec.structs.replace(query, continuation_token=page.continuation_token)

    async def raise_event(self, instance_id: str, event_name: str, value: Any) -> None:
        """Send an event."""
        await self._client.raise_event(instance_id, event_name, value)

    async def steer(self, verb: str, instance_id: str, reason: str | None) -> None:
        """`terminate`, `suspend`, `resume` or `rewind`."""
        # The operations raise where nothing can come of it; the client itself would be silent about an ended instance.
        await getattr(self._client.operations, verb)(instance_id, reason)

    async def restart(self, instance_id: str, *, with_new_id: bool) -> str:
        """Start the same orchestration with the same input again; return the id."""
        return await self._client.restart(instance_id, with_new_id)

    async def purge(self, instance_id: str) -> int:
        """Remove an instance that has ended; return 1."""
        removed = await self._client.operations.purge(instance_id)
        if not removed:
            raise InstanceNotFoundError(instance_id)
        return removed

    async def purge_matching(self, query: InstanceQuery) -> int:
        """Remove the instances that match and have ended; return how many. Needs `created_from`."""
        result = await self._client.purge_instance_history_by(query.created_from, query.created_to, query.statuses)
        return result.instances_deleted

    async def dead_letters(self) -> list[DeadLetter]:
        """What could not be processed, the most recent first."""
        return await self._client.get_dead_letters()


class HubOverHttp:
    """A hub behind the management API at `base_url`, which ends before `/instances`."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str, where: str) -> None:
        self._session, self._base, self.where = session, base_url.rstrip("/"), where

    async def start(self, name: str, instance_id: str | None, value: Any, version: str | None) -> str:
        """Start an orchestration; return the instance's id."""
        path = f"orchestrators/{_quoted(name)}" + (f"/{_quoted(instance_id)}" if instance_id else "")
        query = {"version": version} if version is not None else {}
        body = await self._json("POST", path, instance_id or "", query, body=value)
        return str(body["id"])

    async def status(self, instance_id: str) -> Status:
        """The status of an instance."""
        found: Status = await self._json("GET", f"instances/{_quoted(instance_id)}", instance_id)
        return found

    async def wait(self, instance_id: str, seconds: float) -> Status:
        """The status now: the API has no way to wait for an instance that is already running."""
        return await self.status(instance_id)

    async def history(self, instance_id: str) -> list[HistoryEvent]:
        """Every event of the current execution, as stored. Only the local host answers this."""
        await self.status(instance_id)
        content = await self._request("GET", f"instances/{_quoted(instance_id)}/history", instance_id)
        return decode_events(content)

    async def instances(self, query: InstanceQuery) -> AsyncIterator[Status]:
        """All instances that match, page by page."""
        parameters = {"top": str(query.page_size), **_range(query)}
        if query.instance_id_prefix:
            parameters["instanceIdPrefix"] = query.instance_id_prefix
        headers: dict[str, str] = {}
        while True:
            async with self._session.get(f"{self._base}/instances", params=parameters, headers=headers) as answer:
                await _check(answer, "")
                for status in await answer.json():
                    if query.name is None or status["name"].casefold() == query.name.casefold():
                        yield status
                token = answer.headers.get(CONTINUATION)
            if not token:
                return
            headers = {CONTINUATION: token}

    async def raise_event(self, instance_id: str, event_name: str, value: Any) -> None:
        """Send an event."""
        path = f"instances/{_quoted(instance_id)}/raiseEvent/{_quoted(event_name)}"
        await self._request("POST", path, instance_id, body=value)

    async def steer(self, verb: str, instance_id: str, reason: str | None) -> None:
        """`terminate`, `suspend`, `resume` or `rewind`."""
        query = {"reason": reason} if reason is not None else {}
        await self._request("POST", f"instances/{_quoted(instance_id)}/{verb}", instance_id, query)

    async def restart(self, instance_id: str, *, with_new_id: bool) -> str:
        """Start the same orchestration with the same input again; return the id."""
        query = {"restartWithNewInstanceId": "true" if with_new_id else "false"}
        body = await self._json("POST", f"instances/{_quoted(instance_id)}/restart", instance_id, query)
        return str(body["id"])

    async def purge(self, instance_id: str) -> int:
        """Remove an instance that has ended; return 1."""
        body = await self._json("DELETE", f"instances/{_quoted(instance_id)}", instance_id)
        return int(body["instancesDeleted"])

    async def purge_matching(self, query: InstanceQuery) -> int:
        """Remove the instances that match and have ended; return how many. Needs `created_from`."""
        try:
            body = await self._json("DELETE", "instances", "", _range(query))
        except InstanceNotFoundError:  # what the API says when nothing matches
            return 0
        return int(body["instancesDeleted"])

    async def dead_letters(self) -> list[DeadLetter]:
        """What could not be processed, the most recent first. Only the local host answers this."""
        return msgspec.json.decode(await self._request("GET", "deadletters", ""), type=list[DeadLetter])

    async def _json(
        self, method: str, path: str, instance_id: str, query: Mapping[str, str] | None = None, *, body: Any = None
    ) -> Any:
        return json.loads(await self._request(method, path, instance_id, query, body=body))

    async def _request(
        self, method: str, path: str, instance_id: str, query: Mapping[str, str] | None = None, *, body: Any = None
    ) -> bytes:
        # Not `json=`: that sends nothing for None, where the API wants the JSON text null.
        data = json.dumps(body) if method == "POST" else None
        url = f"{self._base}/{path}"
        async with self._session.request(method, url, params=query, data=data, headers=_JSON) as answer:
            return await _check(answer, instance_id)


def _quoted(segment: str) -> str:
    return quote(segment, safe="")


def _range(query: InstanceQuery) -> dict[str, str]:
    parameters = {}
    if query.created_from is not None:
        parameters["createdTimeFrom"] = query.created_from.isoformat()
    if query.created_to is not None:
        parameters["createdTimeTo"] = query.created_to.isoformat()
    if query.statuses:
        parameters["runtimeStatus"] = ",".join(sorted(each.name for each in query.statuses))
    return parameters


async def _check(answer: aiohttp.ClientResponse, instance_id: str) -> bytes:
    """The answer's body, or the error it stands for."""
    content = await answer.read()
    if answer.status < 400:
        return content
    if answer.status == 404:
        raise InstanceNotFoundError(instance_id)
    if answer.status == 410:
        raise InstanceStateError(
            instance_id, "ended", f"Instance '{instance_id}' has ended, or is in no state for this."
        )
    said = json_or_text(content.decode(errors="replace"))
    if isinstance(said, dict):
        said = said.get("ExceptionMessage") or said.get("Message")
    raise ClientError(str(said or f"the host answered {answer.status} {answer.reason}"))


def parse_statuses(names: list[str]) -> frozenset[OrchestrationRuntimeStatus]:
    """Statuses by name, in any case. Raises ValueError naming those there are."""
    known = {each.name.casefold(): each for each in OrchestrationRuntimeStatus}
    try:
        return frozenset(known[name.strip().casefold()] for each in names for name in each.split(",") if name.strip())
    except KeyError as err:
        raise ValueError(f"{err} is not one of {', '.join(each.name for each in OrchestrationRuntimeStatus)}") from None
