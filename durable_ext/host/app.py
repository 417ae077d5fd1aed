"""The local host: one Function App, its store, the engine, HTTP and timers, in one process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from durable_ext.clock import Clock, SystemClock
from durable_ext.codec import Codec
from durable_ext.functions.client import DurableOrchestrationClient
from durable_ext.functions.lowering import LoweredApp, lower
from durable_ext.functions.provider import HubClients
from durable_ext.functions.resolving import resolve
from durable_ext.host.door import Door
from durable_ext.host.invocation import Invoker
from durable_ext.host.loader import Functions, UnservedFunction, app_module, find_app, sort_functions, take_out_disabled
from durable_ext.host.localsettings import DEFAULT_PORT, environment, read_local_settings
from durable_ext.host.server import WEBHOOK_PATH, HttpServer, build_routes, listen
from durable_ext.host.state import absolute, make_room, storage_url, timers_file
from durable_ext.host.timers import TimerMemory, Timers, read_timers
from durable_ext.registry import Registry
from durable_ext.settings import Settings, load_settings
from durable_ext.storage.opening import open_store
from durable_ext.taskhub import GRACE, TaskHub


class LocalHost:
    """Runs the Function App in `app_dir` from entering the context to leaving it.

    `port` 0 takes a free one, None what local.settings.json says, else 7071; `storage` is a store's URL, None what
    host.json says, else a file in the app's directory. Leaving takes `grace` seconds at most. Entering raises
    `AppLoadError` for an app that cannot be loaded, `ConfigurationError` for wrong settings or a port in use,
    `StoreInUseError` for a store in use. The app is imported into this process: one host per process at a time.
    """

    settings: Settings
    registry: Registry
    functions: Functions
    unserved: tuple[UnservedFunction, ...]
    client_functions: tuple[str, ...]
    storage: str
    base_url: str
    hub: TaskHub
    client: DurableOrchestrationClient

    def __init__(
        self,
        app_dir: Path | str,
        *,
        port: int | None = None,
        storage: str | None = None,
        bind: str = "127.0.0.1",
        grace: float = GRACE,
        codec: Codec | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.app_dir = Path(app_dir).resolve()
        self._port, self._bind, self._grace = port, bind, grace
        self._storage = None if storage is None else absolute(storage)
        self._codec = codec
        self._clock: Clock = clock or SystemClock()
        self.is_importing = False  # the app's code: only an exception ends that
        self._stop_by = 0.0  # on the clock, once the stop has begun
        self._is_hosting = False
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> LocalHost:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_by = self._clock.monotonic() + self._grace
        self._clients.is_stopping = True
        await self._stack.aclose()

    def _time_left(self) -> float:
        return max(0.0, self._stop_by - self._clock.monotonic())

    async def _start(self) -> None:
        local = read_local_settings(self.app_dir)
        self._stack.enter_context(environment({**_usual_settings(self.app_dir), **local.values}))
        self.settings = load_settings(self.app_dir, os.environ)
        lowered = self._import_app()
        self.registry = lowered.registry
        self.functions = sort_functions(lowered.functions, os.environ)
        self.client_functions = tuple(each.name for each in lowered.functions if _has_client(each.function))
        routes, refused = build_routes(self.functions.http)
        timers = read_timers(self.functions.timers)
        self.unserved = (*self.functions.unserved, *refused, *take_out_disabled(self.registry, os.environ))

        # The port first: it tells a second host apart before that touches the store.
        port = self._port if self._port is not None else local.port or DEFAULT_PORT
        listener = self._stack.enter_context(listen(self._bind, port))
        self.base_url = _base_url(self._bind, listener.getsockname()[1])

        self.storage = storage_url(self.app_dir, self.settings, self._storage)
        make_room(self.storage)
        self.hub = self._make_hub()
        self._is_hosting = True
        self._stack.push_async_callback(self._stop_hub)
        await self.hub.start()
        self.client = self.hub.client_as(DurableOrchestrationClient)
        lowered.clients.provider = HubClients(self.hub)
        self._clients = lowered.clients

        invoker = Invoker()
        self._stack.callback(invoker.close)
        server = HttpServer(
            routes,
            self.hub.api,
            invoker,
            door=Door(self._bind, listener.getsockname()[0], local.allowed_hosts),
            prefix=self.settings.route_prefix,
            welcome=self._welcome(),
            grace=self._grace,
        )
        self._stack.push_async_callback(server.stop)
        await server.start(listener)
        running = Timers(timers, invoker, memory=TimerMemory(timers_file(self.storage)), clock=self._clock)
        self._stack.push_async_callback(self._stop_timers, running)
        running.start()

    def _import_app(self) -> LoweredApp:
        self.is_importing = True
        try:
            return lower(find_app(self._stack.enter_context(app_module(self.app_dir))))
        finally:
            self.is_importing = False

    def disown(self) -> None:
        """The process ends now, on purpose: what runs is not to blame for it. To be called from any thread."""
        if self._is_hosting:
            self.hub.disown()

    def _make_hub(self) -> TaskHub:
        return TaskHub(
            open_store(self.storage, self.settings, self._clock),
            self.registry,
            settings=self.settings,
            codec=self._codec,
            clock=self._clock,
            resolve=resolve,
            base_url=f"{self.base_url}/{WEBHOOK_PATH}",
            quarantine_command=self._quarantine_command(),
        )

    def _quarantine_command(self) -> list[str] | None:
        if self._codec is not None:  # one that was made in this process: another could not write values as it does
            return None
        return [sys.executable, "-m", "durable_ext.host.child", str(self.app_dir)]

    async def _stop_hub(self) -> None:
        await self.hub.stop(self._time_left())

    async def _stop_timers(self, timers: Timers) -> None:
        await timers.stop(self._time_left())

    def _welcome(self) -> str:
        routes = "".join(f"  {self.url_of(each.route)}  {each.name}\n" for each in self.functions.http)
        return f"This Function App is up and running.\n\n{routes}"

    def url_of(self, route: str) -> str:
        """Where a route is served."""
        return "/".join(part for part in (self.base_url, self.settings.route_prefix, route.strip("/")) if part)


def _has_client(function: Callable[..., Any]) -> bool:
    # Lowering keeps the user's function on those it wraps, and it wraps those that take a client.
    return hasattr(function, "client_function")


def _usual_settings(app_dir: Path) -> dict[str, str]:
    """What a Functions host tells every app."""
    return {
        "AzureWebJobsScriptRoot": str(app_dir),
        "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
        "FUNCTIONS_WORKER_RUNTIME": "python",
    }


def _base_url(bind: str, port: int) -> str:
    host = {"127.0.0.1": "localhost", "0.0.0.0": "localhost", "::1": "localhost", "::": "localhost"}.get(bind, bind)
    return f"http://{host}:{port}"
