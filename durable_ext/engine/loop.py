"""An asyncio event loop without time, threads or I/O, for `async def` orchestrators.

It runs callbacks in the order they were scheduled, and nothing else. Its clock is the orchestrator's current time and
its timers are durable. Whatever would reach outside raises at that line and says what to use instead.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
from asyncio import events
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable
from typing import Any, NoReturn, Protocol, cast

from durable_ext.engine import strays
from durable_ext.errors import OrchestratorCodeError

_IN_ACTIVITY = "do it in an activity: `await context.call_activity(...)`"
_INSTEAD = {
    "run_in_executor": f"it would start a thread; {_IN_ACTIVITY}",
    "set_default_executor": f"it would start a thread; {_IN_ACTIVITY}",
    "call_soon_threadsafe": "other threads cannot reach an orchestrator; let them raise an external event",
    "run_until_complete": "the loop is running already; `await` the coroutine",
    "run_forever": "the loop is running already; `await` the coroutine",
    "add_signal_handler": "signals do not replay; wait for an external event",
    "set_task_factory": "task scheduling is the engine's",
}
MAX_CORRECTIONS = 100
"""How often in a row code is told that it waits for something that cannot be waited for, before it is ended."""

MAX_AWAITS = 1_000_000
"""What awaits so often in one go, without ever having to wait, is a loop around something that has its outcome."""

_HASH_STEP = 0x9E3779B97F4A7C15  # 2**64 / golden ratio: spreads consecutive numbers over a hash table
_HASH_MASK = (1 << 61) - 1


class RefusingLoop(asyncio.AbstractEventLoop):
    """The running loop of orchestrators that are not coroutines: every use of asyncio raises."""

    __slots__ = ()

    advice = "asyncio works in orchestrators written as `async def`"

    def is_running(self) -> bool:
        """A turn is running whenever user code can ask."""
        return True

    def is_closed(self) -> bool:
        """Never: it holds nothing that could be closed."""
        return False

    def get_debug(self) -> bool:
        """Off, always: debug mode reads clocks."""
        return False


def _refuse(name: str) -> Callable[..., NoReturn]:
    def refused(self: RefusingLoop, *args: Any, **kwargs: Any) -> NoReturn:
        instead = _INSTEAD.get(name, f"it would do I/O, which cannot be replayed; {_IN_ACTIVITY}")
        if self.advice and name in _PERMITTED:
            instead = self.advice
        raise OrchestratorCodeError(f"an orchestrator cannot use the event loop's {name}(): {instead}")

    refused.__name__ = name
    return refused


_PERMITTED = frozenset({"call_soon", "call_later", "call_at", "time", "create_future", "create_task"})
for _name, _method in vars(asyncio.AbstractEventLoop).items():
    if not _name.startswith("_") and callable(_method) and _name not in vars(RefusingLoop):
        setattr(RefusingLoop, _name, _refuse(_name))

# The stubs, not the class itself, call AbstractEventLoop abstract; `vars` above left nothing out.
REFUSING: RefusingLoop = cast(Any, RefusingLoop)()


class EndlessLoopError(BaseException):
    """Ends code that awaits what has its outcome again and again. Not an Exception: such code catches those."""


class DurableFuture(asyncio.Future[Any]):
    """A future whose hash is the same in every replay, so that sets of futures iterate alike."""

    __slots__ = ("_stable_hash",)

    def __init__(self, *, loop: DeterministicLoop) -> None:
        self._stable_hash = loop.next_hash()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._stable_hash

    def __await__(self) -> Generator[Any, None, Any]:
        # asyncio answers for one that is done without a callback, so `run_until_idle` cannot bound it.
        loop: DeterministicLoop = self._loop  # type: ignore[assignment]  # it was made with one
        loop.awaits += 1
        if loop.awaits > MAX_AWAITS:
            raise EndlessLoopError
        return super().__await__()


class _Task(asyncio.Task[Any]):
    """A task whose hash is the same in every replay. Its number lives in the salted hash, not in its name."""

    __slots__ = ("_stable_hash",)

    def __init__(self, coro: Any, *, loop: DeterministicLoop, name: str, context: contextvars.Context | None) -> None:
        # Before asyncio's own initialiser: it puts the task into a set of all tasks, by hash.
        self._stable_hash = loop.next_hash()
        super().__init__(coro, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self._stable_hash


class _Guarded(Coroutine[Any, Any, Any]):
    """Looks at what a coroutine awaits: a future of another loop would never wake it, so it raises at that line."""

    __slots__ = ("_coroutine", "_loop")

    def __init__(self, coroutine: Any, loop: DeterministicLoop) -> None:
        self._coroutine, self._loop = coroutine, loop

    def send(self, value: Any) -> Any:
        """As the coroutine does."""
        return self._checked(self._coroutine.send(value))

    def throw(self, *error: Any) -> Any:
        """As the coroutine does."""
        return self._checked(self._coroutine.throw(*error))

    def close(self) -> None:
        """As the coroutine does."""
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        awaiting: Generator[Any, Any, Any] = self._coroutine.__await__()
        return awaiting

    def _checked(self, awaited: Any) -> Any:
        if awaited is None or getattr(awaited, "_loop", None) is self._loop:
            return awaited
        for _ in range(MAX_CORRECTIONS):
            if getattr(awaited, "_asyncio_future_blocking", False):
                awaited._asyncio_future_blocking = False  # or the next `await` of it raises without telling us
            awaited = self._coroutine.throw(_foreign(awaited))
            if awaited is None or getattr(awaited, "_loop", None) is self._loop:
                return awaited
        raise _foreign(awaited)


def _foreign(awaited: Any) -> OrchestratorCodeError:
    return OrchestratorCodeError(
        f"an orchestrator cannot await {awaited!r}: only durable calls and asyncio's own tools over them "
        f"can be replayed. Anything else: {_IN_ACTIVITY}"
    )


class DurableTimers(Protocol):
    """The durable timers a loop sets."""

    def set(self, delay: float, fired: Callable[[], None]) -> int:
        """Call `fired` after `delay` seconds of orchestrator time; return the timer's id."""
        ...

    def cancel(self, timer_id: int) -> None:
        """The timer is of no interest any more. Harmless if it has fired."""
        ...


class _DurableTimerHandle(asyncio.TimerHandle):
    __slots__ = ("timer_id",)

    timer_id: int


class DeterministicLoop(RefusingLoop):
    """Runs one coroutine orchestrator. `salt` keeps the hashes of different instances apart.

    They share asyncio's global set of tasks, where equal hashes would make it slow.
    """

    __slots__ = (
        "_ensured",
        "_hashes",
        "_is_making",
        "_now",
        "_ready",
        "_salt",
        "_tasks_made",
        "_timers",
        "agens",
        "awaits",
        "tasks",
    )

    advice = ""

    def __init__(self, salt: int, now: Callable[[], float], timers: DurableTimers) -> None:
        self._ready: deque[events.Handle] = deque()
        self._salt, self._hashes, self._tasks_made = salt, 0, 0
        self._now, self._timers = now, timers
        self._is_making = False
        self._ensured: dict[int, _Task] = {}  # by the ids of coroutines that somebody holds meanwhile
        self.tasks: dict[_Task, None] = {}
        self.agens: list[AsyncGenerator[Any, Any]] = []
        self.awaits = 0  # since `run_until_idle` began

    def run_until_idle(self, limit: int | None = None) -> None:
        """Run what is ready, and what that makes ready, until nothing is (or `limit` callbacks have run)."""
        ready = self._ready
        self.awaits = 0
        while ready and limit != 0:
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()
            if limit is not None:
                limit -= 1

    @property
    def is_busy(self) -> bool:
        """Whether something is ready to run."""
        return bool(self._ready)

    def next_hash(self) -> int:
        """The hash of a future that is made next. It depends on the instance and on how many came before only."""
        self._hashes += 1
        self._is_making = True
        return (self._salt + self._hashes * _HASH_STEP) & _HASH_MASK

    # --- what asyncio calls --------------------------------------------------------------------------

    def get_debug(self) -> bool:
        """Off, always. Every future and handle asks while it is made, so those nobody announced are found out here."""
        if self._is_making:
            self._is_making = False
        else:
            strays.take_in(sys._getframe(1), self.next_hash)
            self._is_making = False
        return False

    def time(self) -> float:
        """The orchestrator's current time, in seconds."""
        return self._now()

    def call_soon(  # type: ignore[override]  # the stubs type callbacks with TypeVarTuple
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> events.Handle:
        """Run in this turn, after what is already scheduled."""
        self._is_making = True
        handle = events.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]  # see call_soon
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Run after `delay` seconds, by a durable timer."""
        self._is_making = True
        handle = _DurableTimerHandle(self._now() + delay, callback, args, self, context)
        handle.timer_id = self._timers.set(delay, lambda: self._ready.append(handle))
        return handle

    def call_at(  # type: ignore[override]  # see call_soon
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Run at a time of this loop's clock, by a durable timer."""
        return self.call_later(when - self._now(), callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if isinstance(handle, _DurableTimerHandle):
            self._timers.cancel(handle.timer_id)

    def get_task_factory(self) -> None:
        """None is set."""

    def create_future(self) -> DurableFuture:
        """A future of this loop."""
        return DurableFuture(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, Any] | Coroutine[Any, Any, Any],
        *,
        name: object = None,
        context: contextvars.Context | None = None,
        **_: Any,
    ) -> _Task:
        """A task of this loop. Unnamed ones are numbered per instance."""
        if not asyncio.iscoroutine(coro):
            raise TypeError(
                f"a coroutine was expected, got {coro!r}. "
                f"A durable call is under way once it is made: await it, or pass it to asyncio.gather"
            )
        given = strays.given_to_as_completed(sys._getframe(1))
        if given is not None:
            return self._ensure_in_order(coro, given)
        return self._make_task(coro, name, context)

    def _ensure_in_order(self, coro: Any, given: Iterable[Any]) -> _Task:
        """The task of one of several coroutines that are asked for in no order: all are made with the first."""
        if id(coro) not in self._ensured:
            self._ensured = {id(each): self._make_task(each) for each in dict.fromkeys(given)}
        return self._ensured.pop(id(coro))

    def _make_task(self, coro: Any, name: object = None, context: contextvars.Context | None = None) -> _Task:
        self._tasks_made += 1
        task = _Task(_Guarded(coro, self), loop=self, name=str(name or f"Task-{self._tasks_made}"), context=context)
        self.tasks[task] = None
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: Any) -> None:
        self.tasks.pop(task, None)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Say nothing: asyncio reports what was never awaited when it is collected, and no replay repeats when."""

    def get_exception_handler(self) -> None:
        """None is set."""

    def asyncgen_started(self, agen: AsyncGenerator[Any, Any]) -> None:
        """Hook: keep it alive until the session closes. When it would be collected, no replay can repeat."""
        self.agens.append(agen)


def durable_loop(salt: int, now: Callable[[], float], timers: DurableTimers) -> DeterministicLoop:
    """A loop for one orchestrator; see `DeterministicLoop`."""
    loop: DeterministicLoop = cast(Any, DeterministicLoop)(salt, now, timers)
    return loop


class Sandbox:
    """What surrounds user code while it runs.

    An empty context, a running loop that knows only durable things, and hooks that keep async generators from being
    collected at random.
    """

    def __init__(self, loop: RefusingLoop) -> None:
        self._loop = loop
        self._context = contextvars.Context()

    def run(self, step: Callable[..., None], *args: Any) -> None:
        """Run `step` inside."""
        outer_loop = events._get_running_loop()
        # Left meanwhile: from Python 3.14 on a thread, not a loop, has but one current task.
        outer_task = asyncio.current_task(outer_loop) if outer_loop is not None else None
        outer_hooks = sys.get_asyncgen_hooks()
        if outer_loop is not None and outer_task is not None:
            asyncio.tasks._leave_task(outer_loop, outer_task)
        if isinstance(self._loop, DeterministicLoop):
            sys.set_asyncgen_hooks(self._loop.asyncgen_started, _collected)
        events._set_running_loop(self._loop)
        try:
            self._context.run(step, *args)
        finally:
            events._set_running_loop(outer_loop)
            sys.set_asyncgen_hooks(*outer_hooks)
            if outer_loop is not None and outer_task is not None:
                asyncio.tasks._enter_task(outer_loop, outer_task)


def _collected(agen: Any) -> None:
    """Hook: never called while the loop keeps async generators, and nothing to do when it lets go."""
