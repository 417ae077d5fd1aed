"""How user code is run: one driver per way of writing an orchestrator.

`run()` goes on until the code waits or is done. Call everything here inside the code's `engine.loop.World`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from durable_ext.engine.coroutines import CoroutineDriver, CoroutineTasks, loop_for
from durable_ext.engine.ending import end
from durable_ext.engine.execution import Execution
from durable_ext.engine.loop import MAX_CORRECTIONS
from durable_ext.engine.tasks import EventTask, Observed, TaskBase, TaskState, TimerTask, WhenAllTask, WhenAnyTask
from durable_ext.errors import OrchestratorCodeError

# What is sent so many outcomes in a row without waiting for a new one is a loop around a task that has its outcome.
MAX_ANSWERS = 1_000_000


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


class GeneratorTasks:
    """Makes tasks to `yield`. Of these only timers can be cancelled."""

    def __init__(self, abandon: Callable[[int | None], None]) -> None:
        self._abandon = abandon
        self._numbers = count()

    def task(self, task_id: int | None = None, cancelled: Callable[[int | None], None] | None = None) -> TaskBase:
        return TaskBase(task_id, next(self._numbers))

    def timer(self, task_id: int) -> TimerTask:
        return TimerTask(task_id, self._abandon, next(self._numbers))

    def event(self, wait: Observed) -> EventTask:
        return EventTask(wait, next(self._numbers))

    def all(self, tasks: Iterable[TaskBase]) -> WhenAllTask:
        return WhenAllTask(list(tasks), next(self._numbers))

    def any(self, tasks: Iterable[TaskBase]) -> WhenAnyTask:
        return WhenAnyTask(list(tasks), next(self._numbers))


class Finished:
    """A plain function: it is done when it has been called."""

    done = True

    def __init__(self, value: Any, error: BaseException | None) -> None:
        self.value, self.error = value, error

    def run(self) -> None:
        pass

    def position(self) -> str | None:
        return None

    def close(self) -> None:
        pass


class GeneratorDriver:
    """A generator: it yields tasks and is sent their outcomes."""

    def __init__(self, generator: Any) -> None:
        self._generator = generator
        self._waiting: TaskBase | None = None
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        if self.done:
            return
        generator = self._generator
        waiting = self._waiting
        running = TaskState.RUNNING
        answers = 0
        try:
            while waiting is None or waiting.state is not running:
                answers += 1
                if answers > MAX_ANSWERS:
                    raise OrchestratorCodeError(self._endless())
                if waiting is None:
                    yielded = generator.send(None)
                elif waiting.state is TaskState.FAILED:
                    yielded = generator.throw(waiting.result.with_traceback(None))
                else:
                    yielded = generator.send(waiting.result)
                if not isinstance(yielded, TaskBase) or yielded.is_cancelled:
                    yielded = self._insist_on_a_task(yielded)
                waiting = yielded
            self._waiting = waiting
            if isinstance(waiting, EventTask):
                waiting.await_here()
        except StopIteration as stop:
            self.done, self.value = True, stop.value
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.done, self.error = True, error

    def _insist_on_a_task(self, yielded: object) -> TaskBase:
        """Raise at the `yield`. Code that swallows the error and does it again and again is ended by it."""
        for _ in range(MAX_CORRECTIONS):
            yielded = self._generator.throw(OrchestratorCodeError(_not_a_task(yielded)))
            if isinstance(yielded, TaskBase) and not yielded.is_cancelled:
                return yielded
        raise OrchestratorCodeError(_not_a_task(yielded))

    def _endless(self) -> str:
        return (
            f"the orchestrator yielded tasks that have their outcome {MAX_ANSWERS:,} times in a row "
            f"({Path(self.position() or '').name}), which never waits. A failed task stays failed: to try again, "
            f"call again, or pass a retry policy"
        )

    def position(self) -> str | None:
        innermost = self._generator
        while inspect.isgenerator(innermost.gi_yieldfrom):
            innermost = innermost.gi_yieldfrom
        frame = innermost.gi_frame
        return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else None

    def close(self) -> None:
        end(self._generator)


def _not_a_task(yielded: object) -> str:
    if isinstance(yielded, TaskBase):
        return "the orchestrator yielded a timer that it has cancelled: it would wait for ever"
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


class NotBegun:
    """The code of an instance that was suspended before it began."""

    done = False
    value: Any = None
    error: BaseException | None = None

    def run(self) -> None:
        pass

    def position(self) -> str | None:
        return None

    def close(self) -> None:
        pass


def start(function: Callable[[Any], Any], context: Any, execution: Execution) -> Driver:
    """Call the orchestrator function and find out by what it returns how it is written."""
    execution.factory = GeneratorTasks(execution.abandon)
    try:
        made = function(context)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return Finished(None, error)
    if inspect.isgenerator(made):
        return GeneratorDriver(made)
    if inspect.iscoroutine(made):
        loop = loop_for(execution)
        execution.factory = CoroutineTasks(loop, execution.abandon)
        return CoroutineDriver(made, loop)
    if inspect.isasyncgen(made):
        return Finished(None, OrchestratorCodeError(_ASYNC_GENERATOR))
    return Finished(made, None)


_ASYNC_GENERATOR = (
    "an orchestrator cannot be an async generator (`async def` with `yield`): "
    "use `async def` and `await`, or a plain generator and `yield`"
)
