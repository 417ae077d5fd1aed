"""The futures a coroutine orchestrator awaits: durable calls that asyncio's own combinators understand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from durable_ext.engine.loop import DeterministicLoop, DurableFuture
from durable_ext.engine.tasks import TaskState


class TaskFuture(DurableFuture):
    """What a durable call returns in an `async def` orchestrator. Cancelling it drops the outcome, not the work."""

    __slots__ = ("id",)

    def __init__(self, task_id: int | None = None, *, loop: DeterministicLoop) -> None:
        super().__init__(loop=loop)
        self.id = task_id

    @property
    def is_completed(self) -> bool:
        """Whether there is an outcome."""
        return self.done()

    @property
    def is_failed(self) -> bool:
        """Whether the outcome is an error."""
        return self.done() and (self.cancelled() or self.exception() is not None)

    @property
    def state(self) -> TaskState:
        """Where the task is."""
        if not self.done():
            return TaskState.RUNNING
        return TaskState.FAILED if self.is_failed else TaskState.SUCCEEDED

    def get_result(self) -> Any:
        """The value, or raises the error."""
        return self.result()

    def succeed(self, value: Any) -> None:
        """See `engine.tasks.Completion`."""
        if not self.done():
            self.set_result(value)

    def fail(self, error: BaseException) -> None:
        """See `engine.tasks.Completion`."""
        if not self.done():
            self.set_exception(error)


class TimerFuture(TaskFuture):
    """A durable timer. Cancelling it, directly or through asyncio, cancels the timer."""

    __slots__ = ("_cancel_timer",)

    def __init__(self, task_id: int, cancel: Callable[[int], None], *, loop: DeterministicLoop) -> None:
        super().__init__(task_id, loop=loop)
        self._cancel_timer = cancel

    @property
    def is_cancelled(self) -> bool:
        """Whether the timer was cancelled."""
        return self.cancelled()

    def cancel(self, msg: Any | None = None) -> bool:
        """Stop waiting: the timer never fires. False if it has."""
        if not super().cancel(msg):
            return False
        if self.id is not None:
            self._cancel_timer(self.id)
        return True
