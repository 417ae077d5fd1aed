"""How user code is run: one driver per way of writing an orchestrator.

`run()` goes on until the code waits or is done. The code runs in a world of its own (`World`): an empty context, a
running loop that knows only durable things, and hooks that keep async generators from being collected at random.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import sys
from asyncio import events
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol

from durable_ext.engine.execution import Execution
from durable_ext.engine.futures import TaskFuture, TimerFuture
from durable_ext.engine.loop import DeterministicLoop, RefusingLoop
from durable_ext.engine.tasks import TaskBase, TaskState, TimerTask, WhenAllTask, WhenAnyTask
from durable_ext.errors import OrchestratorCodeError

# What runs longer than this without waiting for anything durable is a loop around `asyncio.sleep(0)`.
_MAX_CALLBACKS = 5_000_000
_CLOSING_CALLBACKS = 10_000
_CLOSING_ATTEMPTS = 3


class Driver(Protocol):
    """User code, started."""

    done: bool
    value: Any
    error: BaseException | None

    def run(self) -> None:
        """Go on until the code waits or is done."""

    def position(self) -> str | None:
        """Where the code waits, as `file:line`."""

    def close(self) -> None:
        """End the code within a bound. The execution is closed already: nothing is scheduled."""


class World:
    """What surrounds user code while it runs."""

    def __init__(self, loop: RefusingLoop) -> None:
        self._loop = loop
        self._context = contextvars.Context()

    def run(self, step: Callable[..., None], *args: Any) -> None:
        """Run `step` inside."""
        outer_loop = events._get_running_loop()
        outer_hooks = sys.get_asyncgen_hooks()
        if isinstance(self._loop, DeterministicLoop):
            sys.set_asyncgen_hooks(self._loop.asyncgen_started, _collected)
        events._set_running_loop(self._loop)
        try:
            self._context.run(step, *args)
        finally:
            events._set_running_loop(outer_loop)
            sys.set_asyncgen_hooks(*outer_hooks)


def _collected(agen: Any) -> None:
    """Hook: never called while the loop keeps async generators, and nothing to do when it lets go."""


class GeneratorTasks:
    """Makes tasks to `yield`."""

    def task(self, task_id: int | None = None) -> TaskBase:
        """See `TaskFactory`."""
        return TaskBase(task_id)

    def timer(self, task_id: int, cancel: Callable[[int], None]) -> TimerTask:
        """See `TaskFactory`."""
        return TimerTask(task_id, cancel)

    def all(self, tasks: Iterable[TaskBase]) -> WhenAllTask:
        """See `DurableOrchestrationContext.task_all`."""
        return WhenAllTask(list(tasks))

    def any(self, tasks: Iterable[TaskBase]) -> WhenAnyTask:
        """See `DurableOrchestrationContext.task_any`."""
        return WhenAnyTask(list(tasks))


GENERATOR_TASKS = GeneratorTasks()  # stateless


class Finished:
    """A plain function: it is done when it has been called."""

    done = True

    def __init__(self, value: Any, error: BaseException | None) -> None:
        self.value, self.error = value, error

    def run(self) -> None:
        """See `Driver`."""

    def position(self) -> str | None:
        """See `Driver`."""
        return None

    def close(self) -> None:
        """See `Driver`."""


class GeneratorDriver:
    """A generator: it yields tasks and is sent their outcomes."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator
        self._waiting: TaskBase | None = None
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """See `Driver`."""
        if self.done:
            return
        generator = self._generator
        waiting = self._waiting
        running = TaskState.RUNNING
        try:
            while waiting is None or waiting.state is not running:
                if waiting is None:
                    yielded = generator.send(None)
                elif waiting.state is TaskState.FAILED:
                    yielded = generator.throw(waiting.result.with_traceback(None))
                else:
                    yielded = generator.send(waiting.result)
                while not isinstance(yielded, TaskBase):
                    yielded = generator.throw(OrchestratorCodeError(_not_a_task(yielded)))
                waiting = yielded
            self._waiting = waiting
        except StopIteration as stop:
            self.done, self.value = True, stop.value
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.done, self.error = True, error

    def position(self) -> str | None:
        """See `Driver`."""
        innermost = self._generator
        while inspect.isgenerator(innermost.gi_yieldfrom):
            innermost = innermost.gi_yieldfrom
        frame = innermost.gi_frame
        return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else None

    def close(self) -> None:
        """See `Driver`. Code that yields on in a `finally` or a swallowing loop is left after a few attempts."""
        for _ in range(_CLOSING_ATTEMPTS):
            try:
                self._generator.close()
            except RuntimeError:
                continue  # "generator ignored GeneratorExit"
            except BaseException:
                pass  # what the code says on its way out concerns nobody any more
            return


def _not_a_task(yielded: object) -> str:
    match yielded:
        case list() | tuple() | set():
            instead = "`yield context.task_all([...])` waits for several tasks"
        case _ if inspect.isgenerator(yielded):
            instead = "a helper generator is run with `yield from helper(...)`"
        case _ if inspect.isawaitable(yielded):
            instead = "awaitables are for orchestrators written as `async def`, with `await`"
        case _:
            instead = "yield what context.call_activity, create_timer, task_all and the like return"
    return f"the orchestrator yielded {yielded!r} (a {type(yielded).__name__}), which is not a durable task: {instead}"


class CoroutineTasks:
    """Makes futures to `await`."""

    def __init__(self, loop: DeterministicLoop) -> None:
        self._loop = loop

    def task(self, task_id: int | None = None) -> TaskFuture:
        """See `TaskFactory`."""
        return TaskFuture(task_id, loop=self._loop)

    def timer(self, task_id: int, cancel: Callable[[int], None]) -> TimerFuture:
        """See `TaskFactory`."""
        return TimerFuture(task_id, cancel, loop=self._loop)

    def all(self, tasks: Iterable[Any]) -> TaskFuture:
        """See `DurableOrchestrationContext.task_all`. Unlike `asyncio.gather` it is hashed by its order of creation."""
        members = [asyncio.ensure_future(each, loop=self._loop) for each in tasks]
        joined = self.task()
        waiting = dict.fromkeys(members)

        def completed(member: asyncio.Future[Any]) -> None:
            waiting.pop(member, None)
            error = asyncio.CancelledError() if member.cancelled() else member.exception()
            if error is not None:
                joined.fail(error)
            elif not waiting:
                joined.succeed([each.result() for each in members])

        for member in list(waiting):
            member.add_done_callback(completed)
        if not members:
            joined.succeed([])
        return joined

    def any(self, tasks: Iterable[Any]) -> TaskFuture:
        """See `DurableOrchestrationContext.task_any`."""
        members = [asyncio.ensure_future(each, loop=self._loop) for each in tasks]
        first = self.task()
        for member in dict.fromkeys(members):
            member.add_done_callback(first.succeed)
        if not members:
            first.succeed(None)
        return first


class CoroutineDriver:
    """A coroutine on the deterministic loop."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], loop: DeterministicLoop) -> None:
        self._loop = loop
        self._coroutine = coroutine
        self._main = loop.create_task(coroutine)
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """See `Driver`."""
        if self.done:
            return
        try:
            self._loop.run_until_idle(_MAX_CALLBACKS)
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
                self.error = self._main.exception()
                self.value = self._main.result() if self.error is None else None
        elif self._loop.is_busy:
            self.done, self.error = (
                True,
                OrchestratorCodeError(
                    f"the orchestrator went through {_MAX_CALLBACKS:,} steps of asyncio without waiting for anything "
                    f"durable: a loop around asyncio.sleep(0)? Use asyncio.sleep(seconds), which is a durable timer."
                ),
            )

    def position(self) -> str | None:
        """See `Driver`."""
        innermost: Any = self._coroutine
        while inspect.iscoroutine(innermost.cr_await):
            innermost = innermost.cr_await
        frame = innermost.cr_frame
        return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else None

    def close(self) -> None:
        """See `Driver`. Cancels politely, so that `finally` and `async with` run; what still waits is closed."""
        open_tasks = list(self._loop.tasks)
        for task in open_tasks:
            task.cancel()
        self._drain()
        for agen in self._loop.agens:
            self._loop.create_task(agen.aclose())
        self._drain()
        for task in [*self._loop.tasks]:
            _close_coroutine(task.get_coro())
        self._loop.tasks.clear()
        self._loop.agens.clear()

    def _drain(self) -> None:
        try:
            self._loop.run_until_idle(_CLOSING_CALLBACKS)
        except KeyboardInterrupt:
            raise
        except BaseException:
            pass  # what the code says on its way out concerns nobody any more


def _close_coroutine(coroutine: Any) -> None:
    for _ in range(_CLOSING_ATTEMPTS):
        try:
            coroutine.close()
        except RuntimeError:
            continue  # "coroutine ignored GeneratorExit"
        except BaseException:
            pass  # see CoroutineDriver._drain
        return


def start(function: Callable[[Any], Any], context: Any, execution: Execution, loop: DeterministicLoop | None) -> Driver:
    """Call the orchestrator function and find out how it is written. Call inside the `World` of `loop`.

    `loop` may be None for generator functions only.
    """
    execution.factory = GENERATOR_TASKS
    try:
        made = function(context)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Finished(None, error)
    if inspect.isgenerator(made):
        return GeneratorDriver(made)
    if inspect.iscoroutine(made):
        assert loop is not None
        execution.factory = CoroutineTasks(loop)
        return CoroutineDriver(made, loop)
    if inspect.isasyncgen(made):
        return Finished(None, OrchestratorCodeError(_ASYNC_GENERATOR))
    return Finished(made, None)


_ASYNC_GENERATOR = (
    "an orchestrator cannot be an async generator (`async def` with `yield`): "
    "use `async def` and `await`, or a plain generator and `yield`"
)
