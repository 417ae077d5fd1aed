"""The HTTP side of the local host: the app's http functions, and the management API beside them.

It asks for no keys whatever a function's auth level is: it is for development, and listens on this machine only
unless told otherwise.
"""

from __future__ import annotations

import errno
import logging
import socket
import time
from collections.abc import Iterable, Sequence

from aiohttp import web

from durable_ext.errors import ConfigurationError
from durable_ext.functions.azure import Out
from durable_ext.host import management
from durable_ext.host.complaints import Complaints
from durable_ext.host.door import Door, NotAdmittedError
from durable_ext.host.invocation import Invoker
from durable_ext.host.loader import HTTP_TRIGGER, HttpFunction, UnservedFunction, http_request
from durable_ext.host.responses import to_response
from durable_ext.host.routes import RouteTable, decode_path, parse
from durable_ext.host.targets import Target, read_target
from durable_ext.http.api import ManagementApi
from durable_ext.printable import printable
from durable_ext.tracebacks import user_traceback

logger = logging.getLogger("durable_ext.host")

WEBHOOK_PATH = "runtime/webhooks/durabletask"
"""Where Durable Functions serves its management API."""

MAX_BODY = 100 * 1024 * 1024
"""The longest request body, as in the Functions host."""

_LAST_REQUESTS = 2.0
"""Seconds that open requests get to finish when the server stops, at most."""

_IDLE = 75.0
"""Seconds that a connection may be open without a whole request head having come: slow ones would be kept for ever."""

Routes = RouteTable[HttpFunction]


def build_routes(functions: Iterable[HttpFunction]) -> tuple[Routes, list[UnservedFunction]]:
    """The route table of the functions, and those whose route the Functions host would refuse too."""
    routes, refused = Routes(), []
    for function in functions:
        try:
            if function.route.strip("/").casefold().startswith(("admin", "runtime")):
                raise ConfigurationError(
                    f"route '{function.route}': the Functions host reserves what begins with admin or runtime"
                )
            routes.add(parse(function.route), function.methods, function)
        except ConfigurationError as err:
            refused.append(UnservedFunction(name=function.name, trigger=HTTP_TRIGGER, reason=str(err)))
    return routes, refused


def listen(bind: str, port: int) -> socket.socket:
    """Take the port; 0 means a free one. Raises `ConfigurationError` if it cannot be had."""
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    try:
        return socket.create_server((bind, port), family=family)
    except OSError as err:
        if err.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
            raise
        raise ConfigurationError(
            f"cannot listen on {bind}:{port}: {err.strerror}. Stop what uses it, or choose another with --port."
        ) from err


class HttpServer:
    """Serves from `start` to `stop`. `prefix` is host.json's routePrefix and may be empty."""

    def __init__(
        self,
        routes: Routes,
        api: ManagementApi,
        invoker: Invoker,
        *,
        door: Door,
        prefix: str,
        welcome: str,
        grace: float,
    ) -> None:
        self._routes, self._api, self._invoker, self._door = routes, api, invoker, door
        self._prefix, self._welcome = prefix.strip("/"), welcome
        self._management_prefixes = (WEBHOOK_PATH, f"{self._prefix}/durabletask".strip("/"))
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/{path:(?s:.*)}", self._answer)  # a path may hold an encoded newline
        self._runner = web.AppRunner(
            app,
            access_log=None,
            # Bodies reach functions as they were sent, as in the Functions host; and nobody can send a small one that
            # unpacks to gigabytes.
            auto_decompress=False,
            keepalive_timeout=_IDLE,
            logger=Complaints(logger, {}),
            shutdown_timeout=min(_LAST_REQUESTS, grace),
        )

    async def start(self, listener: socket.socket) -> None:
        """Answer what comes in on the socket."""
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    async def stop(self) -> None:
        """Accept nothing more, and give open requests a few seconds."""
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            authority = self._door.authority(request.headers.getall("Host", []))
            return await self._find(request, read_target(request.rel_url), authority)
        except NotAdmittedError as refusal:
            return web.Response(status=refusal.status, text=str(refusal))
        except web.RequestPayloadError as error:
            return web.Response(status=400, text=f"The request's body cannot be read: {printable(str(error))}")

    async def _find(self, request: web.Request, target: Target, authority: str) -> web.StreamResponse:
        path = target.path.strip("/")
        for prefix in self._management_prefixes:
            rest = _below(prefix, path)
            if rest is not None:
                return await management.answer(self._api, self._door, request, target, authority, prefix, rest)
        rest = _below(self._prefix, path)
        found = self._routes.find(request.method, decode_path(rest)) if rest is not None else None
        if found is not None:
            return await self._call(request, target, authority, *found)
        if not path:
            return web.Response(text=self._welcome)
        return web.Response(status=404)

    async def _call(
        self,
        request: web.Request,
        target: Target,
        authority: str,
        function: HttpFunction,
        route_params: dict[str, str],
    ) -> web.StreamResponse:
        began = time.perf_counter()
        data = http_request(
            method=request.method,
            url=f"http://{authority}{target.text}",
            headers={name: ",".join(request.headers.getall(name)) for name in request.headers},
            params={name: ",".join(values) for name, values in target.query.items()},
            route_params=route_params,
            body=await request.read(),
        )
        box = {function.response_name: Out()} if function.response_name else {}
        try:
            result = await self._invoker.call(function, data, **box)
            for out in box.values():
                result = out.get()
            response = to_response(function.name, result)
        except Exception as error:
            logger.error("http function %s failed:\n%s", function.name, user_traceback(error).rstrip())
            response = web.Response(status=500, text=f"Function {function.name} failed; the host's log has the reason.")
        elapsed = (time.perf_counter() - began) * 1000
        logger.info(
            "%s %s: %s answered %d (%.0f ms)", request.method, target.path, function.name, response.status, elapsed
        )
        return response


def _below(prefix: str, path: str) -> str | None:
    """The rest of `path` under `prefix`, or None. Prefixes compare case-insensitively."""
    wanted: Sequence[str] = prefix.split("/") if prefix else ()
    parts = path.split("/") if path else []
    if [each.casefold() for each in parts[: len(wanted)]] != [each.casefold() for each in wanted]:
        return None
    return "/".join(parts[len(wanted) :])
