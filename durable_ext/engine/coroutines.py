"""Orchestrators written as `async def`: their tasks, and how they are run."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable, Coroutine, Iterable
from datetime import timedelta
from hashlib import blake2b
from typing import Any

from durable_ext.engine.ending import break_off
from durable_ext.engine.execution import Execution
from durable_ext.engine.futures import EventFuture, TaskFuture
from durable_ext.engine.loop import MAX_AWAITS, DeterministicLoop, EndlessLoopError, durable_loop
from durable_ext.engine.tasks import Observed
from durable_ext.engine.unbegun import unbegun
from durable_ext.errors import OrchestratorCodeError
from durable_ext.tracebacks import innermost_line

# What runs longer than this without waiting for anything durable is a loop around `asyncio.sleep(0)`.
_MAX_CALLBACKS = 5_000_000
_CLOSING_CALLBACKS = 10_000

_NEVER = -1  # the id of a timer that is not set


class CoroutineTasks:
    """Makes futures to `await`."""

    def __init__(self, loop: DeterministicLoop, abandon: Callable[[int | None], None]) -> None:
        self._loop, self._abandon = loop, abandon

    def task(self, task_id: int | None = None, cancelled: Callable[[int | None], None] | None = None) -> TaskFuture:
        return TaskFuture(task_id, cancelled or self._abandon, loop=self._loop)

    def timer(self, task_id: int) -> TaskFuture:
        return TaskFuture(task_id, self._abandon, loop=self._loop)

    def event(self, wait: Observed) -> EventFuture:
        return EventFuture(wait, loop=self._loop)

    def all(self, tasks: Iterable[Any]) -> TaskFuture:
        """Unlike `asyncio.gather` it is hashed by its order of creation."""
        members = [asyncio.ensure_future(each, loop=self._loop) for each in tasks]
        waiting = dict.fromkeys(members)

        def leave(_: object = None) -> None:
            for member in waiting:
                member.remove_done_callback(completed)

        def completed(member: asyncio.Future[Any]) -> None:
            waiting.pop(member, None)
            error = asyncio.CancelledError() if member.cancelled() else member.exception()
            if error is not None:
                joined.settle(None, error)
                leave()
            elif not waiting:
                joined.settle([each.result() for each in members])

        joined = self.task(cancelled=leave)
        for member in list(waiting):
            member.add_done_callback(completed)
        if not members:
            joined.settle([])
        return joined

    def any(self, tasks: Iterable[Any]) -> TaskFuture:
        members = dict.fromkeys(asyncio.ensure_future(each, loop=self._loop) for each in tasks)

        def leave(_: object = None) -> None:
            for member in members:
                member.remove_done_callback(completed)

        def completed(member: asyncio.Future[Any]) -> None:
            first.settle(member)
            leave()

        first = self.task(cancelled=leave)
        for member in members:
            member.add_done_callback(completed)
            if member.done():
                break  # the others need not be looked at
        if not members:
            first.settle(None)
        return first


class CoroutineDriver:
    """A coroutine on the deterministic loop."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], loop: DeterministicLoop) -> None:
        self.loop = loop
        self._coroutine = coroutine
        self._main = loop.create_task(coroutine)
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        if self.done:
            return
        try:
            self.loop.run_until_idle(_MAX_CALLBACKS)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # SystemExit: asyncio lets it through, whichever task raised it
            self.done, self.error = True, error
            return
        if self._main.done():
            self.done = True
            if self._main.cancelled():
                self.error = asyncio.CancelledError("the orchestrator's own code cancelled it")
            else:
                raised = self._main.exception()
                self.error = _endless(raised) if isinstance(raised, EndlessLoopError) else raised
                self.value = self._main.result() if self.error is None else None
        elif self.loop.is_busy:
            self.done, self.error = (
                True,
                OrchestratorCodeError(
                    f"the orchestrator went through {_MAX_CALLBACKS:,} steps of asyncio without waiting for anything "
                    f"durable: a loop around asyncio.sleep(0)? Use asyncio.sleep(seconds), which is a durable timer."
                ),
            )

    def position(self) -> str | None:
        innermost: Any = self._coroutine
        while inspect.iscoroutine(innermost.cr_await):
            innermost = innermost.cr_await
        frame = innermost.cr_frame
        return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else None

    def close(self) -> None:
        """Cancels first, so that `finally` and `async with` run; breaks off the rest."""
        open_tasks = list(self.loop.tasks)
        not_begun = unbegun(task.get_coro() for task in open_tasks)
        for task in open_tasks:
            task.cancel()
        self._drain()
        for agen in self.loop.agens:
            self.loop.create_task(agen.aclose())
        self._drain()
        tasks = self.loop.tasks
        while tasks:  # on their way out they may make new ones, but those never begin
            task = next(iter(tasks))
            del tasks[task]
            break_off(task.get_coro())
        self.loop.agens.clear()
        for coroutine in not_begun:
            if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
                coroutine.close()

    def _drain(self) -> None:
        try:
            self.loop.run_until_idle(_CLOSING_CALLBACKS)
        except KeyboardInterrupt:
            raise
        except BaseException:
            pass  # what the code says on its way out concerns nobody any more


def _endless(error: EndlessLoopError) -> OrchestratorCodeError:
    line = innermost_line(error) or ""
    return OrchestratorCodeError(
        f"the orchestrator awaited {MAX_AWAITS:,} times in a row ({line}) without ever having to wait. A failed call "
        f"stays failed: to try again, call again, or pass a retry policy"
    )


class _LoopTimers:
    """Durable timers for asyncio's `call_later`."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    def set(self, delay: float, fired: Callable[[], None]) -> int:
        execution = self._execution
        if delay == math.inf:
            return _NEVER
        try:
            fire_at = execution.now + timedelta(seconds=max(delay, 0.0))
        except OverflowError:
            raise OverflowError(
                f"a timer of {delay:g} seconds is due past the last day there is; math.inf seconds never end"
            ) from None
        if execution.refuses():
            return _NEVER
        return execution.set_timer(fire_at, lambda value, error: fired())

    def cancel(self, timer_id: int) -> None:
        self._execution.abandon(timer_id)


def loop_for(execution: Execution) -> DeterministicLoop:
    """The loop of one coroutine orchestrator."""
    salt = int.from_bytes(blake2b(execution.started.instance_id.encode(), digest_size=8).digest(), "big")
    return durable_loop(salt, lambda: execution.now.timestamp(), _LoopTimers(execution))
