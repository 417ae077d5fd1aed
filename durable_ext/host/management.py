"""The management API behind the local host's HTTP server: aiohttp's requests and responses for its own."""

from __future__ import annotations

from aiohttp import web

from durable_ext.host.door import Door, NotAdmittedError
from durable_ext.host.targets import Target
from durable_ext.http.api import ManagementApi
from durable_ext.http.bodies import error
from durable_ext.http.messages import Request, Response
from durable_ext.http.routes import match


async def answer(
    api: ManagementApi, door: Door, request: web.Request, target: Target, authority: str, prefix: str, path: str
) -> web.StreamResponse:
    """Let the API answer a request; `path` is what follows `prefix`, still percent-encoded."""
    try:
        door.check_sender(authority, request.headers)
        body = await request.read()
        if body:
            _check_type(request, path)
    except NotAdmittedError as refusal:
        return _to_aiohttp(error(refusal.status, str(refusal)))
    response = await api.handle(
        Request(
            method=request.method,
            path=path,
            base_url=f"http://{authority}/{prefix}",
            raw_query=target.raw_query,
            query=target.query,
            headers={name: ",".join(request.headers.getall(name)) for name in request.headers},
            body=body,
        )
    )
    return _to_aiohttp(response)


def _check_type(request: web.Request, path: str) -> None:
    """A form or a script of any page can send text; to send JSON it must ask first, and nobody here would agree."""
    media_type = request.content_type.casefold()
    if media_type in ("application/json", "text/json") or media_type.endswith("+json"):
        return
    found = match(request.method, path)
    if found is not None and found[0].operation == "raise_event":
        return  # says so itself, to those who ask about an instance that is there
    raise NotAdmittedError(
        400, "Only application/json request content is supported: send the header Content-Type: application/json"
    )


def _to_aiohttp(response: Response) -> web.Response:
    return web.Response(status=response.status, headers=response.headers, body=response.body)
