"""The threads of `asyncio.to_thread` in the local host: they know on whose behalf they run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

from durable_ext.runtime.logs import current_activity

P = ParamSpec("P")
T = TypeVar("T")

current_function: ContextVar[str] = ContextVar("current_function")
"""The http or timer function that is being run, by its name."""

_on_behalf_of: dict[int, str] = {}


class CallThreads(ThreadPoolExecutor):
    """An event loop's default executor that notes which call of the app each of its threads works for."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """As a `ThreadPoolExecutor` does; called in the context of whoever wants it done."""
        caller = _caller()
        if caller is None:
            return super().submit(fn, *args, **kwargs)

        def run() -> T:
            ident = threading.get_ident()
            _on_behalf_of[ident] = caller
            try:
                return fn(*args, **kwargs)
            finally:
                del _on_behalf_of[ident]

        return super().submit(run)


def caller_of(thread: threading.Thread) -> str | None:
    """The call of the app that this thread works for now."""
    return _on_behalf_of.get(thread.ident or 0)


def _caller() -> str | None:
    item = current_activity.get(None)
    if item is not None:
        return f"activity '{item.name}' of {item.instance_id}"
    function = current_function.get(None)
    return None if function is None else f"function '{function}'"
