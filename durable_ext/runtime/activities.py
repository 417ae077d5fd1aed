"""How an activity's code is run: one place decides for sync and async, and nothing it does escapes as an exception."""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
import types
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import Any

from durable_ext.codec import Codec
from durable_ext.errors import DurableError, FailureDetails, FunctionNotFoundError, describe, details_json
from durable_ext.history import TaskCompleted, TaskFailed, encode_event
from durable_ext.messages import WorkItem
from durable_ext.registry import Activity, FunctionTable
from durable_ext.runtime.logs import current_activity
from durable_ext.tracebacks import user_traceback

logger = logging.getLogger(__name__)

MAX_DELIVERIES = 5
"""An activity that was handed out this often and never answered is not run again: it kills its process."""

BLOCKING = 1.0
"""Seconds the event loop may stand still before somebody is told."""


class ActivityProcessLostError(DurableError):
    """An activity never came to an end: each time it ran, its process died."""

    def __init__(self, name: str, times: int) -> None:
        super().__init__(
            f"activity '{name}' was started {times} times, and each time the process died before it had an outcome. "
            f"It is not tried again; look for what kills the process (memory, os._exit, a native crash)."
        )
        self.name, self.times = name, times


@dataclass(frozen=True, slots=True)
class _Callable:
    activity: Activity
    is_async: bool


class Activities:
    """The activity slots of this worker. `settle` hears each outcome once, on the loop, its slot already free.

    A slot is taken by `reserve` (for calls that a commit is about to claim) or by `start`; either way at most
    `limit` activities run at a time, and what finds no slot waits here in order.
    """

    def __init__(
        self,
        functions: FunctionTable[Activity],
        codec: Codec,
        limit: int,
        clock: Callable[[], datetime],
        settle: Callable[[WorkItem, TaskCompleted | TaskFailed], None],
    ) -> None:
        self._functions, self._codec, self._limit, self._clock, self._settle = functions, codec, limit, clock, settle
        self._loop = asyncio.get_running_loop()
        self._known: dict[str, _Callable] = {}
        self._taken = 0
        self._waiting: deque[WorkItem] = deque()
        self._tasks: dict[asyncio.Task[TaskCompleted | TaskFailed], WorkItem] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._in_threads: dict[int, WorkItem] = {}
        self._finished: deque[tuple[int, TaskCompleted | TaskFailed]] = deque()
        self._bell_rung = False
        self._calls = 0
        self._is_starting = False
        self._is_closed = False
        self._watchers: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self.is_barred = False

    # --- slots ---------------------------------------------------------------------------------------

    @property
    def free(self) -> int:
        """Slots that an activity could take now."""
        return 0 if self.is_barred else max(0, self._limit - self._taken - len(self._waiting))

    @property
    def is_quiet(self) -> bool:
        """Whether no activity runs or is about to."""
        return not self._taken

    @property
    def is_idle(self) -> bool:
        """Whether no activity runs, is about to, or waits for a slot."""
        return not self._taken and not self._waiting

    def reserve(self, wanted: int) -> int:
        """Take up to so many slots; return how many. Each is given back by `run` or `release`."""
        granted = min(wanted, self.free)
        self._taken += granted
        return granted

    def release(self, slots: int) -> None:
        """Give back reserved slots unused."""
        self._taken -= slots
        self._next()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition, about slots, holds."""
        while not condition():
            watcher = self._loop.create_future()
            self._watchers.append((condition, watcher))
            await watcher

    def bar(self) -> None:
        """Start nothing more until `unbar`."""
        self.is_barred = True

    def withdraw(self) -> list[WorkItem]:
        """Take back what still waits for a slot."""
        unstarted = list(self._waiting)
        self._waiting.clear()
        return unstarted

    def unbar(self) -> None:
        """Start again what waits."""
        self.is_barred = False
        self._next()

    def _next(self) -> None:
        if self._is_starting:
            return  # an activity ended while it was started: the loop below goes on by itself
        self._is_starting = True
        try:
            while self._waiting and self._taken < self._limit and not self.is_barred:
                self._taken += 1
                self.run(self._waiting.popleft())
        finally:
            self._is_starting = False
        if self._watchers:
            still = []
            for condition, watcher in self._watchers:
                if condition() and not watcher.done():
                    watcher.set_result(None)
                elif not watcher.done():
                    still.append((condition, watcher))
            self._watchers = still

    # --- running -------------------------------------------------------------------------------------

    def start(self, items: Iterable[WorkItem]) -> None:
        """Run these as slots come free."""
        self._waiting.extend(items)
        self._next()

    def run(self, item: WorkItem) -> None:
        """Run a call in a slot reserved for it."""
        found = self._known.get(item.name) or self._find(item.name)
        if item.deliveries > MAX_DELIVERIES:
            self._end(item, self._gave_up(item))
        elif found is None:
            self._end(item, self._unknown(item))
        elif found.is_async:
            self._run_on_loop(found.activity, item)
        else:
            self._run_in_thread(found.activity, item)

    def _find(self, name: str) -> _Callable | None:
        if name not in self._functions:
            return None
        activity = self._functions.get(name)
        found = self._known[name] = _Callable(activity, _is_async(activity.function))
        return found

    def _run_on_loop(self, activity: Activity, item: WorkItem) -> None:
        context = Context()
        context.run(current_activity.set, item)
        task = _spawn(self._loop, self._call_async(activity, item), context)
        if task.done() and not task.cancelled():
            self._end(item, task.result())
        else:
            self._tasks[task] = item
            task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[TaskCompleted | TaskFailed]) -> None:
        item = self._tasks.pop(task, None)
        if item is None or task.cancelled():
            return
        self._end(item, task.result())

    async def _call_async(self, activity: Activity, item: WorkItem) -> TaskCompleted | TaskFailed:
        try:
            argument = self._codec.decode(item.input, activity.input_type)
            result = await _watched(activity.function(**{activity.input_name: argument}), item)
            return self._completed(item, result)
        except asyncio.CancelledError as error:
            if self._is_closed:
                raise  # the worker stops: no outcome, the call is offered again
            return self._failed(item, error)
        except (KeyboardInterrupt, GeneratorExit):
            raise  # meant for the process, not for the activity
        except BaseException as error:
            return self._failed(item, error)

    def _run_in_thread(self, activity: Activity, item: WorkItem) -> None:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._limit, thread_name_prefix="durable-activity")
        self._calls += 1
        self._in_threads[self._calls] = item
        try:
            self._threads.submit(self._call_in_thread, self._calls, activity, item)
        except RuntimeError as error:  # no more threads to be had
            del self._in_threads[self._calls]
            self._end(item, self._failed(item, error))

    def _call_in_thread(self, call: int, activity: Activity, item: WorkItem) -> None:
        self._finished.append((call, Context().run(self._call_sync, activity, item)))
        # One wake-up serves all that finish before the loop comes round. The flag is lowered before the queue is
        # emptied, so whoever sees it up has its outcome fetched.
        if not self._bell_rung:
            self._bell_rung = True
            try:
                self._loop.call_soon_threadsafe(self._fetch_finished)
            except RuntimeError:
                logger.warning("activity '%s' of %s ended after its worker", item.name, item.instance_id)

    def _call_sync(self, activity: Activity, item: WorkItem) -> TaskCompleted | TaskFailed:
        current_activity.set(item)
        try:
            argument = self._codec.decode(item.input, activity.input_type)
            return self._completed(item, activity.function(**{activity.input_name: argument}))
        except BaseException as error:
            return self._failed(item, error)

    def _fetch_finished(self) -> None:
        self._bell_rung = False
        while self._finished:
            call, outcome = self._finished.popleft()
            item = self._in_threads.pop(call, None)
            if item is not None:  # else it was given back when the worker stopped
                self._end(item, outcome)

    def _end(self, item: WorkItem, outcome: TaskCompleted | TaskFailed) -> None:
        self._taken -= 1
        self._settle(item, outcome)
        if self._waiting or self._watchers:
            self._next()

    # --- outcomes ------------------------------------------------------------------------------------

    def _completed(self, item: WorkItem, result: Any) -> TaskCompleted:
        return TaskCompleted(timestamp=self._clock(), task_scheduled_id=item.task_id, result=self._codec.encode(result))

    def _failed(self, item: WorkItem, error: BaseException) -> TaskFailed:
        try:
            failed = self._as_failure(item, describe(error, user_traceback(error)))
            encode_event(failed)
        except Exception as unprintable:  # an error whose text raises, or is no Unicode, must not lose the outcome
            message = f"(the error's text cannot be stored: {type(unprintable).__name__})"
            failed = self._as_failure(item, FailureDetails(error_type=type(error).__name__, error_message=message))
        return failed

    def _as_failure(self, item: WorkItem, failure: FailureDetails) -> TaskFailed:
        # two blanks: what comes through the Functions host has them, and field code splits on them
        reason = f"Activity function '{item.name}' failed:  {failure.error_type}: {failure.error_message}"
        return self._with_reason(item, reason, failure)

    def _with_reason(self, item: WorkItem, reason: str, failure: FailureDetails) -> TaskFailed:
        return TaskFailed(
            timestamp=self._clock(),
            task_scheduled_id=item.task_id,
            reason=reason,
            details=details_json(failure),
            failure_details=failure,
        )

    def _unknown(self, item: WorkItem) -> TaskFailed:
        error = FunctionNotFoundError(item.name, "activity", self._functions.names())
        return self._with_reason(item, str(error), describe(error))

    def _gave_up(self, item: WorkItem) -> TaskFailed:
        error = ActivityProcessLostError(item.name, item.deliveries - 1)
        failure = FailureDetails(error_type=type(error).__name__, error_message=str(error), is_non_retriable=True)
        return self._as_failure(item, failure)

    # --- the end -------------------------------------------------------------------------------------

    async def close(self, grace: float) -> list[WorkItem]:
        """Wait up to `grace` seconds for what runs; return the calls that did not end and were not begun.

        Async activities are cancelled then. Threads cannot be: theirs run on, and what they return is not used.
        """
        unstarted = self.withdraw()
        self.is_barred = True
        try:
            async with asyncio.timeout(grace):
                await self.until(lambda: not self._tasks and not self._in_threads)
        except TimeoutError:
            pass
        self._is_closed = True
        unfinished = list(self._in_threads.values())
        for item in unfinished:
            logger.warning("activity '%s' of %s did not end in time; its thread is left", item.name, item.instance_id)
        self._in_threads.clear()
        unfinished += await self._cancel_tasks(max(grace, 1.0))
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        return unfinished + unstarted

    async def _cancel_tasks(self, patience: float) -> list[WorkItem]:
        tasks = dict(self._tasks)
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=patience)
        unfinished = []
        for task, item in tasks.items():
            if task.done() and not task.cancelled():
                self._settle(item, task.result())
                continue
            if not task.done():
                logger.warning("activity '%s' of %s ignores its cancellation", item.name, item.instance_id)
            unfinished.append(item)
        return unfinished


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


if sys.version_info >= (3, 12):

    def _spawn(
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, TaskCompleted | TaskFailed],
        context: Context,
    ) -> asyncio.Task[TaskCompleted | TaskFailed]:
        """A task that has run up to its first suspension: most activities in a chain never wait for the loop."""
        return asyncio.Task(coroutine, loop=loop, context=context, eager_start=True)

else:

    def _spawn(
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, TaskCompleted | TaskFailed],
        context: Context,
    ) -> asyncio.Task[TaskCompleted | TaskFailed]:
        return loop.create_task(coroutine, context=context)


@types.coroutine
def _watched(awaitable: Awaitable[Any], item: WorkItem) -> Generator[Any, Any, Any]:
    """Await, and tell if a step between two suspensions holds up the loop."""
    steps = awaitable.__await__()
    step: Callable[[Any], Any] = steps.send
    argument: Any = None
    while True:
        began = perf_counter()
        try:
            suspended_on = step(argument)
        except StopIteration as end:
            return end.value
        finally:
            if (took := perf_counter() - began) > BLOCKING:
                logger.warning(
                    "activity '%s' of %s held up the event loop for %.1f s: await instead, or make it a plain def",
                    item.name,
                    item.instance_id,
                    took,
                )
        try:
            argument, step = (yield suspended_on), steps.send
        except BaseException as error:
            argument, step = error, steps.throw
