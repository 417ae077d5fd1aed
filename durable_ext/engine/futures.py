"""The futures a coroutine orchestrator awaits: durable calls that asyncio's own combinators understand."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import Any

from durable_ext.engine.loop import DeterministicLoop, DurableFuture
from durable_ext.engine.tasks import Observed, TaskState


class TaskFuture(DurableFuture):
    """What a durable call returns in an `async def` orchestrator.

    Cancelling it, directly or through asyncio, drops the outcome of a call and stops a timer.
    """

    __slots__ = ("_cancelled", "id")

    def __init__(
        self, task_id: int | None, cancelled: Callable[[int | None], None], *, loop: DeterministicLoop
    ) -> None:
        super().__init__(loop=loop)
        self.id, self._cancelled = task_id, cancelled

    @property
    def is_completed(self) -> bool:
        """Whether there is an outcome."""
        return self.done()

    @property
    def is_failed(self) -> bool:
        """Whether the outcome is an error."""
        return self.done() and (self.cancelled() or self.exception() is not None)

    @property
    def is_cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self.cancelled()

    @property
    def state(self) -> TaskState:
        """Where the task is."""
        if not self.done():
            return TaskState.RUNNING
        return TaskState.FAILED if self.is_failed else TaskState.SUCCEEDED

    def get_result(self) -> Any:
        """The value, or raises the error."""
        return self.result()

    def settle(self, value: Any, error: BaseException | None = None) -> None:
        """The outcome is there."""
        if not self.done():
            if error is None:
                self.set_result(value)
            else:
                self.set_exception(error)

    def cancel(self, msg: Any | None = None) -> bool:
        """Stop waiting. False if there is an outcome already."""
        if not super().cancel(msg):
            return False
        self._cancelled(self.id)
        return True


class EventFuture(TaskFuture):
    """A wait for an external event. Whoever reads it or adds a callback looks at it, which may settle it on the spot.

    `await` adds a callback, and so do asyncio's own combinators.
    """

    __slots__ = ("_callbacks_added", "_wait")

    def __init__(self, wait: Observed, *, loop: DeterministicLoop) -> None:
        super().__init__(None, lambda _: wait.give_up(), loop=loop)
        self._wait, self._callbacks_added = wait, 0

    def done(self) -> bool:
        """As asyncio's."""
        self._wait.look()
        return super().done()

    def result(self) -> Any:
        """As asyncio's."""
        self._wait.look()
        return super().result()

    def exception(self) -> BaseException | None:
        """As asyncio's."""
        self._wait.look()
        return super().exception()

    def add_done_callback(self, fn: Callable[..., object], /, *, context: Context | None = None) -> None:
        """As asyncio's."""
        if not self.done():
            self._callbacks_added += 1
            self._wait.watch()
        super().add_done_callback(fn, context=context)

    def remove_done_callback(self, fn: Callable[..., object], /) -> int:
        """As asyncio's."""
        removed = super().remove_done_callback(fn)
        self._callbacks_added -= removed
        if not self._callbacks_added:
            self._wait.unwatch()
        return removed
