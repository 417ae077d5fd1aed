"""The client for code that cannot await: sync functions, on threads of their own."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from concurrent.futures import wait
from typing import Any, Concatenate, ParamSpec, TypeVar, cast, overload

from durable_ext.client.orchestration import HttpRequestLike, OrchestrationClient

P = ParamSpec("P")
R = TypeVar("R")

_LOOK_AGAIN = 1.0
"""Seconds after which a blocked caller checks that the loop it waits for still runs."""


def _blocking(
    method: Callable[Concatenate[OrchestrationClient, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[SyncOrchestrationClient, P], R]:
    """The method of the same name and parameters that returns the result itself."""

    @functools.wraps(method)
    def call(self: SyncOrchestrationClient, /, *args: P.args, **kwargs: P.kwargs) -> R:
        bound = getattr(self.client, method.__name__)  # by name, so that subclasses of the client are honoured
        return self.run(cast("Coroutine[Any, Any, R]", bound(*args, **kwargs)))

    return call


class SyncOrchestrationClient:
    """An `OrchestrationClient` whose methods block the calling thread until the result is there.

    The work is done on `loop`, the one the store was opened on, which must run in another thread.
    """

    def __init__(self, client: OrchestrationClient, loop: asyncio.AbstractEventLoop) -> None:
        self.client, self.loop = client, loop

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Run one coroutine on the loop and wait for it. Raises `RuntimeError` where that would never end."""
        if _running_here(self.loop):
            work.close()
            raise RuntimeError(
                "the blocking client was called on the event loop it needs; make the calling function "
                "`async def` and await the client's methods, or call it from a thread"
            )
        try:
            future = asyncio.run_coroutine_threadsafe(work, self.loop)
        except RuntimeError:  # the loop is closed
            work.close()
            raise
        try:
            while not wait((future,), timeout=_LOOK_AGAIN).done:
                if not self.loop.is_running():
                    raise RuntimeError("the host has stopped; whether the operation was stored is not known")
        finally:
            future.cancel()  # no effect on one that is done; else nobody waits for it any more
        return future.result()

    @property
    def task_hub_name(self) -> str:
        """The task hub this client talks to."""
        return self.client.task_hub_name

    start_new = _blocking(OrchestrationClient.start_new)
    raise_event = _blocking(OrchestrationClient.raise_event)
    terminate = _blocking(OrchestrationClient.terminate)
    suspend = _blocking(OrchestrationClient.suspend)
    resume = _blocking(OrchestrationClient.resume)
    rewind = _blocking(OrchestrationClient.rewind)
    restart = _blocking(OrchestrationClient.restart)
    get_status = _blocking(OrchestrationClient.get_status)
    get_status_all = _blocking(OrchestrationClient.get_status_all)
    get_status_by = _blocking(OrchestrationClient.get_status_by)
    list_instances = _blocking(OrchestrationClient.list_instances)
    get_history = _blocking(OrchestrationClient.get_history)
    wait_for_completion = _blocking(OrchestrationClient.wait_for_completion)
    get_dead_letters = _blocking(OrchestrationClient.get_dead_letters)
    purge_instance_history = _blocking(OrchestrationClient.purge_instance_history)
    purge_instance_history_by = _blocking(OrchestrationClient.purge_instance_history_by)
    purge_instances = _blocking(OrchestrationClient.purge_instances)

    @overload
    def create_http_management_payload(self, instance_id: str) -> dict[str, str]: ...

    @overload
    def create_http_management_payload(self, request: HttpRequestLike | None, instance_id: str) -> dict[str, str]: ...

    def create_http_management_payload(self, *arguments: Any, **named: Any) -> dict[str, str]:
        """See `OrchestrationClient.create_http_management_payload`."""
        return self.client.create_http_management_payload(*arguments, **named)

    def get_client_response_links(self, request: HttpRequestLike | None, instance_id: str) -> dict[str, str]:
        """See `OrchestrationClient.get_client_response_links`."""
        return self.client.get_client_response_links(request, instance_id)


def _running_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
