"""The composition root: what a task hub consists of, put together in one place.

A hub is a store, the functions of an app, its settings, a codec and a clock. Out of these it makes the client, the
management API and the worker; the edges (local host, Functions app, command line, tests) add only what they know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar

from durable_ext.client.links import ManagementLinks
from durable_ext.client.operations import InstanceOperations
from durable_ext.client.orchestration import OrchestrationClient
from durable_ext.clock import Clock, SystemClock
from durable_ext.codec import Codec, JsonCodec
from durable_ext.engine.turn import Callee, EngineOptions, by_name_only
from durable_ext.history import TERMINAL, OrchestrationRuntimeStatus
from durable_ext.http.api import ManagementApi
from durable_ext.http.keys import DevelopmentKeys, Keys
from durable_ext.messages import WorkItem
from durable_ext.registry import Registry
from durable_ext.runtime.program import Program
from durable_ext.runtime.worker import Worker
from durable_ext.settings import Settings
from durable_ext.storage.contract import Store

C = TypeVar("C", bound=OrchestrationClient)

Resolver = Callable[[Any, str], Callee]

GRACE = 10.0
"""Seconds that running activities get when a hub stops."""


def make_program(
    registry: Registry, settings: Settings, *, codec: Codec | None = None, resolve: Resolver = by_name_only
) -> Program:
    """The functions of an app as the runtime needs them: with what host.json says about running them."""
    options = EngineOptions(
        resolve=resolve,
        default_version=settings.default_version,
        store_inputs=settings.store_inputs_in_orchestration_history,
        max_actions=settings.max_orchestration_actions,
    )
    limit = float(settings.orchestrator_turn_timeout_in_seconds)
    return Program(registry=registry, codec=codec or JsonCodec(), options=options, turn_limit=limit)


class TaskHub:
    """A task hub in this process: for clients once it is open, and running the app's instances once it has started.

    Without a `registry` it serves clients only: it accepts any orchestrator's name and cannot start. `resolve` turns
    what the app passes as a function into its name. `base_url` is where the management API is served, before
    `/instances`; None if it is not. `keys` open that API; without them everybody may do everything. With
    `quarantine_command` calls that killed their process run again in a process which that command starts.
    `warm_instances` bounds the orchestrators kept in memory while they wait. `fetch_work=False` takes no activity
    calls from the store's queue: they are handed in with `perform`.

    As a context manager it starts, and stops at the end. It has one life: what has stopped does not start again.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry | None = None,
        *,
        settings: Settings | None = None,
        codec: Codec | None = None,
        clock: Clock | None = None,
        resolve: Resolver = by_name_only,
        base_url: str | None = None,
        keys: Keys | None = None,
        quarantine_command: Sequence[str] | None = None,
        warm_instances: int = 1_000,
        fetch_work: bool = True,
    ) -> None:
        self.store = store
        self.settings = settings or Settings()
        self.codec: Codec = codec or JsonCodec()
        self.clock: Clock = clock or SystemClock()
        self._resolve, self._base_url = resolve, base_url
        self._keys: Keys = keys or DevelopmentKeys()
        self.operations = _make_operations(store, registry, self.settings, self.clock)
        self.client = self.client_as(OrchestrationClient)
        self.api = ManagementApi(
            self.operations,
            codec=self.codec,
            hub_name=self.settings.hub_name,
            keys=self._keys,
            use_forwarded_host=self.settings.http_settings.use_forwarded_host,
        )
        self._registry, self._quarantine_command = registry, quarantine_command
        self._warm_instances, self._fetch_work = warm_instances, fetch_work
        self._changing = asyncio.Lock()  # opening, starting or stopping
        self._is_open = False
        self._worker: Worker | None = None  # from start on
        self._end: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The hub's name, as host.json has it."""
        return self.settings.hub_name

    def client_as(self, kind: type[C]) -> C:
        """A client of this hub of the edge's own kind."""
        return kind(
            self.operations,
            codec=self.codec,
            resolve=lambda function: self._resolve(function, "orchestrator").name,
            links=ManagementLinks(hub_name=self.name, base_url=self._base_url, code_for=self._keys.code_for),
            use_forwarded_host=self.settings.http_settings.use_forwarded_host,
        )

    # --- life --------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect the store and no more: enough for the client and the API. Opening an open hub is no matter."""
        async with self._changing:
            await self._open()

    async def _open(self) -> None:
        if self._end is not None:
            raise RuntimeError(f"task hub '{self.name}' has stopped; make a new one to go on")
        if not self._is_open:
            await self.store.open()
            self._is_open = True

    async def start(self) -> None:
        """Open, become a host of the store, and work. Raises `StoreInUseError` if it has another host."""
        async with self._changing:
            if self._worker is not None and self._end is None:
                raise RuntimeError(f"task hub '{self.name}' has started already")
            worker = self._make_worker()
            await self._open()
            await worker.start()
            self._worker = worker

    def _make_worker(self) -> Worker:
        if self._registry is None:
            raise RuntimeError(
                f"task hub '{self.name}' was made without the functions of an app, so it can run none: give it a "
                f"registry"
            )
        return Worker(
            self.store,
            make_program(self._registry, self.settings, codec=self.codec, resolve=self._resolve),
            self.settings,
            self.clock,
            warm_instances=self._warm_instances,
            fetch_work=self._fetch_work,
            quarantine_command=self._quarantine_command,
        )

    async def stop(self, grace: float = GRACE) -> None:
        """Stop working, give running activities `grace` seconds, and close the store.

        Calling it again waits for the first call. What was never opened is not opened again either.
        """
        if self._end is None:
            self._end = asyncio.get_running_loop().create_task(self._stop(grace), name="durable: stop the task hub")
        await asyncio.shield(self._end)

    async def _stop(self, grace: float) -> None:
        async with self._changing:
            try:
                if self._worker is not None:
                    await self._worker.stop(grace)
            finally:
                await self.store.close()

    def disown(self) -> None:
        """The process ends now, on purpose: what runs is not to blame for it. To be called from any thread."""
        if self._worker is not None:
            self._worker.disown()

    async def __aenter__(self) -> TaskHub:
        try:
            await self.start()
        except BaseException:
            await self.stop(0)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # --- a window of work --------------------------------------------------------------------------------

    def resume(self) -> None:
        """Take messages and work again, after `pause`."""
        self._running().resume()

    async def pause(self) -> None:
        """Take nothing more from the store until `resume`. Turns that are due and activities that run go on."""
        await self._running().pause()

    async def until_idle(self, quiet: float, deadline: float) -> bool:
        """True once nothing was due or running for `quiet` seconds, False after `deadline` seconds."""
        return await self._running().until_idle(quiet, deadline)

    async def perform(self, item: WorkItem) -> bool:
        """Run an activity call that was handed in from outside, also while paused.

        True once its outcome is stored; False if none will come from here: its instance has ended, or it was given
        back to the store, as the hub stops or cannot run it now.
        """
        return await self._running().perform(item)

    def _running(self) -> Worker:
        if self._worker is None or self._end is not None:
            state = "has stopped" if self._end is not None else "has not started"
            raise RuntimeError(f"task hub '{self.name}' {state}, and this needs one that runs: call start() first")
        return self._worker


def _make_operations(store: Store, registry: Registry | None, settings: Settings, clock: Clock) -> InstanceOperations:
    replace_any = settings.overridable_existing_instance_states == "AnyState"
    return InstanceOperations(
        store,
        default_version=settings.default_version,
        overridable=frozenset(OrchestrationRuntimeStatus) if replace_any else TERMINAL,
        known_orchestrators=None if registry is None else lambda: registry.orchestrators,
        clock=clock,
    )
