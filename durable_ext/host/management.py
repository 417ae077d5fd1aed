"""The management API behind the local host's HTTP server: aiohttp's requests and responses for its own."""

from __future__ import annotations

from aiohttp import web

from durable_ext.http.api import ManagementApi
from durable_ext.http.messages import Request


async def answer(api: ManagementApi, request: web.Request, prefix: str, path: str) -> web.StreamResponse:
    """Let the API answer a request; `path` is what follows `prefix`, still percent-encoded."""
    response = await api.handle(
        Request(
            method=request.method,
            path=path,
            base_url=f"{request.scheme}://{request.host}/{prefix}",
            query={name: request.query.getall(name) for name in request.query},
            headers={name: ",".join(request.headers.getall(name)) for name in request.headers},
            body=await request.read(),
        )
    )
    return web.Response(status=response.status, headers=response.headers, body=response.body)
