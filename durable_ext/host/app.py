"""The local host: one Function App, its store, the engine, HTTP and timers, in one process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from durable_ext.client import ManagementLinks
from durable_ext.codec import Codec, JsonCodec
from durable_ext.engine.turn import EngineOptions
from durable_ext.errors import ConfigurationError
from durable_ext.functions.client import DurableOrchestrationClient, SyncDurableOrchestrationClient
from durable_ext.functions.lowering import lower
from durable_ext.functions.resolving import resolve
from durable_ext.history import TERMINAL, OrchestrationRuntimeStatus
from durable_ext.host.invocation import Invoker
from durable_ext.host.loader import Functions, UnservedFunction, app_module, find_app, sort_functions
from durable_ext.host.localsettings import DEFAULT_PORT, environment, read_local_settings
from durable_ext.host.management import Management
from durable_ext.host.server import WEBHOOK_PATH, HttpServer, build_routes, listen
from durable_ext.host.state import absolute, make_room, storage_url, timers_file
from durable_ext.host.timers import TimerMemory, Timers, read_timers
from durable_ext.http.api import ManagementApi
from durable_ext.registry import Registry
from durable_ext.runtime.worker import Worker
from durable_ext.settings import Settings, load_settings
from durable_ext.storage.contract import Store
from durable_ext.storage.opening import open_store

GRACE = 10.0
"""Seconds that running activities get when the host stops."""


class LocalHost:
    """Runs the Function App in `app_dir` from entering the context to leaving it.

    `port` 0 takes a free one, None what local.settings.json says, else 7071; `storage` is a store's URL, None what
    host.json says, else a file in the app's directory. Entering raises `AppLoadError` for an app that cannot be
    loaded, `ConfigurationError` for wrong settings or a port in use, `StoreInUseError` for a store in use. The app is
    imported into this process: one host per process at a time.
    """

    settings: Settings
    registry: Registry
    functions: Functions
    unserved: tuple[UnservedFunction, ...]
    client_functions: tuple[str, ...]
    storage: str
    base_url: str
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
    ) -> None:
        self.app_dir = Path(app_dir).resolve()
        self._port, self._bind, self._grace = port, bind, grace
        self._storage = None if storage is None else absolute(storage)
        self._codec: Codec = codec or JsonCodec()
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
        await self._stack.aclose()

    async def _start(self) -> None:
        local = read_local_settings(self.app_dir)
        self._stack.enter_context(environment({**_usual_settings(self.app_dir), **local.values}))
        self.settings = load_settings(self.app_dir, os.environ)
        lowered = lower(find_app(self._stack.enter_context(app_module(self.app_dir))))
        self.registry = lowered.registry
        self.functions = sort_functions(lowered.functions, os.environ)
        self.client_functions = tuple(each.name for each in lowered.functions if _has_client(each.function))
        routes, refused = build_routes(self.functions.http)
        timers = read_timers(self.functions.timers)
        self.unserved = (*self.functions.unserved, *refused)

        # The port first: it tells a second host apart before that touches the store.
        port = self._port if self._port is not None else local.port or DEFAULT_PORT
        listener = self._stack.enter_context(listen(self._bind, port))
        self.base_url = _base_url(self._bind, listener.getsockname()[1])

        self.storage = storage_url(self.app_dir, self.settings, self._storage)
        make_room(self.storage)
        store = open_store(self.storage)
        await store.open()
        self._stack.push_async_callback(store.close)
        self.client = self._make_client(store)
        lowered.clients.provider = _Clients(self.client)

        worker = Worker(store, self.registry, self.settings, self._codec, self._engine_options())
        await worker.start()
        self._stack.push_async_callback(worker.stop, self._grace)

        invoker = Invoker()
        self._stack.callback(invoker.close)
        server = HttpServer(
            routes, self._management(), invoker, prefix=self.settings.route_prefix, welcome=self._welcome()
        )
        self._stack.push_async_callback(server.stop)
        await server.start(listener)
        running = Timers(timers, invoker, memory=TimerMemory(timers_file(self.storage)))
        self._stack.push_async_callback(running.stop)
        running.start()

    def _make_client(self, store: Store) -> DurableOrchestrationClient:
        settings = self.settings
        replace_any = settings.overridable_existing_instance_states == "AnyState"
        return DurableOrchestrationClient(
            store,
            codec=self._codec,
            hub_name=settings.hub_name,
            default_version=settings.default_version,
            overridable=frozenset(OrchestrationRuntimeStatus) if replace_any else TERMINAL,
            known_orchestrators=lambda: self.registry.orchestrators,
            resolve=lambda function: resolve(function, "orchestrator").name,
            links=ManagementLinks(hub_name=settings.hub_name, base_url=f"{self.base_url}/{WEBHOOK_PATH}"),
            use_forwarded_host=settings.http_settings.use_forwarded_host,
        )

    def _engine_options(self) -> EngineOptions:
        return EngineOptions(
            resolve=resolve,
            default_version=self.settings.default_version,
            store_inputs=self.settings.store_inputs_in_orchestration_history,
            max_actions=self.settings.max_orchestration_actions,
        )

    def _management(self) -> Management:
        api = ManagementApi(self.client, use_forwarded_host=self.settings.http_settings.use_forwarded_host)
        return Management(api, self.client)

    def _welcome(self) -> str:
        routes = "".join(f"  {self.url_of(each.route)}  {each.name}\n" for each in self.functions.http)
        return f"This Function App is up and running.\n\n{routes}"

    def url_of(self, route: str) -> str:
        """Where a route is served."""
        return "/".join(part for part in (self.base_url, self.settings.route_prefix, route.strip("/")) if part)


def _has_client(function: Callable[..., Any]) -> bool:
    # Lowering keeps the user's function on those it wraps, and it wraps those that take a client.
    return hasattr(function, "client_function")


class _Clients:
    """Gives functions the client of the one hub there is."""

    def __init__(self, client: DurableOrchestrationClient) -> None:
        self._client, self._loop = client, asyncio.get_running_loop()

    def async_client(self, task_hub: str | None, connection_name: str | None) -> DurableOrchestrationClient:
        """The client, for coroutine functions."""
        if task_hub and task_hub.casefold() != self._client.task_hub_name.casefold():
            raise ConfigurationError(
                f"a function asks for a client of task hub '{task_hub}', and the local host runs one hub only, "
                f"'{self._client.task_hub_name}'. Leave task_hub out, or run that hub's app and use its HTTP API."
            )
        return self._client

    def sync_client(self, task_hub: str | None, connection_name: str | None) -> SyncDurableOrchestrationClient:
        """The client, for functions on threads."""
        return SyncDurableOrchestrationClient(self.async_client(task_hub, connection_name), self._loop)


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
