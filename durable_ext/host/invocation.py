"""Calls of a user's functions by the local host: async ones on the loop, the others on a pool of threads of its own."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from durable_ext.host.loader import Context, ServedFunction
from durable_ext.host.threads import current_function


class Invoker:
    """Calls functions with what they asked for by parameter name."""

    def __init__(self, threads: int | None = None) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="durable-function")

    async def call(self, function: ServedFunction, data: object, **more: object) -> Any:
        """Call the function with its trigger's data; return what it returns, raise what it raises.

        What is no `Exception` is raised as one: it is an error of this call, and not the host's end.
        """
        arguments: dict[str, object] = {function.trigger_name: data, **more}
        if function.takes_context:
            arguments["context"] = Context(function, str(uuid.uuid4()))
        task = asyncio.current_task()
        current_function.set(function.name)
        try:
            return await self._run(function.function, arguments)
        except Exception:
            raise
        except SystemExit as err:  # would end the event loop, and the host with it, as KeyboardInterrupt would
            raise RuntimeError(f"function {function.name} called sys.exit({err.code!r}); return instead") from err
        except BaseException as err:
            if isinstance(err, asyncio.CancelledError) and task is not None and task.cancelling():
                raise  # the stop means it
            raise RuntimeError(f"function {function.name} raised {type(err).__name__}: {err}") from err

    async def _run(self, function: Callable[..., Any], arguments: dict[str, object]) -> Any:
        if inspect.iscoroutinefunction(function):
            return await function(**arguments)
        context, loop = contextvars.copy_context(), asyncio.get_running_loop()
        result, error = await loop.run_in_executor(self._pool, lambda: context.run(_outcome, function, arguments))
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        """Start no more calls. Those that run are left to themselves: a thread cannot be stopped from outside."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _outcome(function: Callable[..., Any], arguments: dict[str, object]) -> tuple[Any, BaseException | None]:
    # Handed over as a value, so that the executor leaves no frames in the traceback the user will read.
    try:
        return function(**arguments), None
    except BaseException as error:
        return None, error
