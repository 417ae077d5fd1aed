"""A task hub behind the management API of a running host."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

from durable_ext.cli.target import Request, Status
from durable_ext.client.status import json_or_text
from durable_ext.errors import ClientError, InstanceNotFoundError, InstanceStateError
from durable_ext.history import HistoryEvent, decode_events
from durable_ext.http.api import CONTINUATION
from durable_ext.storage.contract import DeadLetter, InstanceQuery

_JSON = {"Content-Type": "application/json"}


class TargetOverHttp:
    """The instances of the hub behind the management API at `base_url`, which ends before `/instances`."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str, where: str) -> None:
        self._session, self._base, self.where = session, base_url.rstrip("/"), where

    async def start(self, name: str, instance_id: str | None, value: Any, version: str | None) -> str:
        path = f"orchestrators/{_quoted(name)}" + (f"/{_quoted(instance_id)}" if instance_id else "")
        query = {"version": version} if version is not None else {}
        body = await self._json("POST", path, instance_id or "", query, body=value)
        return str(body["id"])

    async def status(self, instance_id: str) -> Status:
        found: Status = await self._json("GET", f"instances/{_quoted(instance_id)}", instance_id)
        return found

    async def wait(self, instance_id: str, seconds: float) -> Status:
        # The API has no way to wait for an instance that is already running.
        return await self.status(instance_id)

    async def history(self, instance_id: str) -> list[HistoryEvent]:
        content = await self._request("GET", f"instances/{_quoted(instance_id)}/history", instance_id)
        return decode_events(content)

    async def instances(self, query: InstanceQuery) -> AsyncIterator[Status]:
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
        path = f"instances/{_quoted(instance_id)}/raiseEvent/{_quoted(event_name)}"
        await self._request("POST", path, instance_id, body=value)

    async def ask(self, request: Request, instance_id: str, reason: str | None) -> None:
        query = {"reason": reason} if reason is not None else {}
        await self._request("POST", f"instances/{_quoted(instance_id)}/{request}", instance_id, query)

    async def restart(self, instance_id: str, *, with_new_id: bool) -> str:
        query = {"restartWithNewInstanceId": "true" if with_new_id else "false"}
        body = await self._json("POST", f"instances/{_quoted(instance_id)}/restart", instance_id, query)
        return str(body["id"])

    async def purge(self, instance_id: str) -> int:
        body = await self._json("DELETE", f"instances/{_quoted(instance_id)}", instance_id)
        return int(body["instancesDeleted"])

    async def purge_matching(self, query: InstanceQuery) -> int:
        try:
            body = await self._json("DELETE", "instances", "", _range(query))
        except InstanceNotFoundError:  # what the API says when nothing matches
            return 0
        return int(body["instancesDeleted"])

    async def dead_letters(self) -> list[DeadLetter]:
        try:
            content = await self._request("GET", "deadletters", "")
        except InstanceNotFoundError:
            raise ClientError(f"the host at {self.where} keeps no dead letters: it is of another make") from None
        return msgspec.json.decode(content, type=list[DeadLetter])

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
