"""The management API behind the local host's HTTP server, and two routes more that only this host has."""

from __future__ import annotations

import re
from urllib.parse import unquote

import msgspec
from aiohttp import web

from durable_ext.client import OrchestrationClient
from durable_ext.errors import InstanceNotFoundError
from durable_ext.history import encode_events
from durable_ext.http.api import ManagementApi
from durable_ext.http.messages import Request

_HISTORY = re.compile(r"instances/([^/]+)/history", re.IGNORECASE)
_DEAD_LETTERS = re.compile(r"deadletters", re.IGNORECASE)


class Management:
    """Translates aiohttp's requests for a `ManagementApi`.

    Two routes are answered here, for the command line. `GET instances/{id}/history`: every event as it is stored,
    where the API's own history leaves out and merges rows. `GET deadletters`: what could not be processed.
    """

    def __init__(self, api: ManagementApi, client: OrchestrationClient) -> None:
        self._api, self._client = api, client

    async def __call__(self, request: web.Request, prefix: str, path: str) -> web.StreamResponse:
        """Answer; `path` is what follows `prefix`, still percent-encoded."""
        if request.method == "GET":
            if history := _HISTORY.fullmatch(path.strip("/")):
                return await self._history(unquote(history[1]))
            if _DEAD_LETTERS.fullmatch(path.strip("/")):
                letters = await self._client.get_dead_letters()
                return web.Response(body=msgspec.json.encode(letters), content_type="application/json")
        answer = await self._api.handle(
            Request(
                method=request.method,
                path=path,
                base_url=f"{request.scheme}://{request.host}/{prefix}",
                query={name: request.query.getall(name) for name in request.query},
                headers={name: ",".join(request.headers.getall(name)) for name in request.headers},
                body=await request.read(),
            )
        )
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)

    async def _history(self, instance_id: str) -> web.StreamResponse:
        try:
            events = await self._client.get_history(instance_id)
        except InstanceNotFoundError:
            return web.Response(status=404)
        return web.Response(body=encode_events(events), content_type="application/json")
