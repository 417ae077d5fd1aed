"""The tasks a generator orchestrator yields.

A task is settled once, with a value or an error, and tells the compounds built over it. Coroutine orchestrators get
`asyncio.Future`s instead (`engine.futures`).
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

Completion: TypeAlias = Callable[[Any, BaseException | None], None]
"""Takes one outcome: a value, or an error. What has an outcome already takes no other."""


class Observed(Protocol):
    """Somebody who wants to know whether a task is looked at: the wait for an external event."""

    def look(self) -> None:
        """The task's state is being read: the last moment to settle it."""

    def watch(self) -> None:
        """Somebody will hear of the task when it is settled."""

    def unwatch(self) -> None:
        """Nobody will any more."""

    def give_up(self) -> None:
        """The task was cancelled."""


class TaskState(enum.Enum):
    """Where a task is."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class TaskBase:
    """What a durable call returns: yield it to wait for its outcome, as often as you like.

    `result` is the value, or the exception object of a failed task; None while it runs.
    """

    __slots__ = ("_parents", "id", "result", "state")

    is_cancelled = False

    def __init__(self, task_id: int | None = None) -> None:
        self.id = task_id
        self.state = TaskState.RUNNING
        self.result: Any = None
        # A dict as an ordered set: a task can be in many compounds, and a finished compound leaves in O(1).
        self._parents: dict[CompoundTask, None] | None = None

    @property
    def is_completed(self) -> bool:
        """Whether the task has an outcome."""
        return self.state is not TaskState.RUNNING

    @property
    def is_failed(self) -> bool:
        """Whether the outcome is an error."""
        return self.state is TaskState.FAILED

    def get_result(self) -> Any:
        """The value of a task that succeeded; raises the error of one that failed."""
        if self.state is TaskState.FAILED:
            raise self.result
        return self.result

    def settle(self, value: Any, error: BaseException | None = None) -> None:
        """The outcome is there."""
        if self.state is TaskState.RUNNING:
            if error is None:
                self.state, self.result = TaskState.SUCCEEDED, value
            else:
                self.state, self.result = TaskState.FAILED, error
            self._tell()

    def join(self, parent: CompoundTask) -> None:
        """Tell `parent` when this task completes."""
        if self._parents is None:
            self._parents = {}
        self._parents[parent] = None

    def leave(self, parent: CompoundTask) -> None:
        """Undo `join`."""
        if self._parents is not None:
            self._parents.pop(parent, None)

    def _tell(self) -> None:
        parents, self._parents = self._parents, None
        for parent in parents or ():
            parent.child_completed(self)

    def __iter__(self) -> Any:
        raise TypeError("a durable task is awaited with `yield task`, not with `yield from task`")


class TimerTask(TaskBase):
    """A durable timer. Cancel the ones you no longer wait for."""

    __slots__ = ("_cancel", "_is_cancelled")

    def __init__(self, task_id: int, cancel: Callable[[int | None], None]) -> None:
        super().__init__(task_id)
        self._cancel = cancel
        self._is_cancelled = False

    @property
    def is_cancelled(self) -> bool:  # type: ignore[override]  # of most tasks it is always False
        """Whether the timer was cancelled."""
        return self._is_cancelled

    def cancel(self) -> None:
        """Stop waiting: the timer never completes. Raises ValueError if it has fired."""
        if self.is_completed:
            raise ValueError("Cannot cancel a completed task.")
        if not self._is_cancelled:
            self._is_cancelled = True
            self._cancel(self.id)


class EventTask(TaskBase):
    """A wait for an external event. Whoever reads it or joins it looks at it, which may settle it on the spot."""

    __slots__ = ("_result", "_state", "_wait")

    def __init__(self, wait: Observed) -> None:
        self._wait = wait
        self.id, self._parents = None, None
        self._state = TaskState.RUNNING
        self._result: Any = None

    @property
    def state(self) -> TaskState:  # type: ignore[override]  # other tasks have a plain attribute, which is quicker
        """Where the task is."""
        if self._state is TaskState.RUNNING:
            self._wait.look()
        return self._state

    @property
    def result(self) -> Any:
        """The event's data, or the exception object."""
        if self._state is TaskState.RUNNING:
            self._wait.look()
        return self._result

    def settle(self, value: Any, error: BaseException | None = None) -> None:
        """As other tasks are settled, but without looking."""
        if self._state is TaskState.RUNNING:
            if error is None:
                self._state, self._result = TaskState.SUCCEEDED, value
            else:
                self._state, self._result = TaskState.FAILED, error
            self._tell()

    def await_here(self) -> None:
        """The code is at rest at a `yield` of this task. Said each time it comes to rest."""
        self._wait.watch()

    def join(self, parent: CompoundTask) -> None:
        super().join(parent)
        self._wait.watch()

    def leave(self, parent: CompoundTask) -> None:
        super().leave(parent)
        if not self._parents:
            self._wait.unwatch()


class CompoundTask(TaskBase, ABC):
    """A task over tasks."""

    __slots__ = ("children",)

    def __init__(self, children: Sequence[TaskBase]) -> None:
        super().__init__()
        self.children = list(children)
        for child in self.children:
            if not isinstance(child, TaskBase):
                raise TypeError(
                    f"a list of durable tasks is expected, but it holds {child!r}, a {type(child).__name__}: "
                    f"pass what call_activity, create_timer and the like return"
                )

    def _listen(self) -> None:
        """Hear first of those already complete, in argument order, then of the others as they come."""
        for child in dict.fromkeys(self.children):
            if self.is_completed:
                return
            if child.is_completed:
                self.child_completed(child)
            else:
                child.join(self)

    @abstractmethod
    def child_completed(self, child: TaskBase) -> None:
        """A child has its outcome."""

    def _tell(self) -> None:
        for child in self.children:
            child.leave(self)
        super()._tell()


class WhenAllTask(CompoundTask):
    """Completes when all do, with their results in argument order; fails with the first failure, at once."""

    __slots__ = ("_open",)

    def __init__(self, children: Sequence[TaskBase]) -> None:
        super().__init__(children)
        if any(child.is_cancelled for child in self.children):
            raise ValueError("task_all was given a timer that has been cancelled: it would wait for ever")
        self._open = len(dict.fromkeys(self.children))
        if self._open:
            self._listen()
        else:
            self.settle([])

    def child_completed(self, child: TaskBase) -> None:
        if child.state is TaskState.FAILED:
            self.settle(None, child.result)
            return
        self._open -= 1
        if self._open == 0:
            self.settle([each.result for each in self.children])


class WhenAnyTask(CompoundTask):
    """Completes with the first child to complete: the task itself, failed or not. Over nothing: None, at once."""

    __slots__ = ()

    def __init__(self, children: Sequence[TaskBase]) -> None:
        super().__init__(children)
        if self.children:
            self._listen()
        else:
            self.settle(None)

    def child_completed(self, child: TaskBase) -> None:
        self.settle(child)
