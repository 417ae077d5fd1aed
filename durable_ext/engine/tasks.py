"""The tasks a generator orchestrator yields.

A task is settled once, with a value or an error, and tells the compounds built over it. Coroutine orchestrators get
`asyncio.Future`s instead (`engine.futures`).
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Protocol, TypeAlias

from durable_ext.errors import OrchestratorCodeError

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

    `result` is the value, or the exception object of a failed task; None while it runs. `number` says how many tasks
    the orchestrator made before: it is the hash, so that a set of tasks iterates alike in every replay.
    """

    __slots__ = ("_number", "_parents", "id", "result", "state")

    is_cancelled = False

    def __init__(self, task_id: int | None = None, number: int = 0) -> None:
        self.id, self._number = task_id, number
        self.state = TaskState.RUNNING
        self.result: Any = None
        # An ordered set: a task can be in many compounds, and a finished compound leaves in O(1). By `id`, which is
        # quicker to come by than the hash; nothing depends on its value.
        self._parents: dict[int, CompoundTask] | None = None

    def __hash__(self) -> int:
        return self._number

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
            if self._parents:
                _tell_parents(self)

    def join(self, parent: CompoundTask) -> None:
        """Tell `parent` when this task completes."""
        if self._parents is None:
            self._parents = {}
        self._parents[id(parent)] = parent

    def leave(self, parent: CompoundTask) -> None:
        """Undo `join`."""
        if self._parents is not None:
            self._parents.pop(id(parent), None)

    def release(self) -> Collection[CompoundTask]:
        """Whom to tell of the outcome. Once."""
        parents, self._parents = self._parents, None
        return () if parents is None else parents.values()

    def __iter__(self) -> Any:
        raise TypeError("a durable task is awaited with `yield task`, not with `yield from task`")


def _tell_parents(task: TaskBase) -> None:
    """Tell the compounds over a task, and those over them: depth first, and however deep they are nested."""
    parents = iter(task.release())
    for parent in parents:
        if parent.child_completed(task):
            break
    else:
        return  # the way of most outcomes
    told: list[tuple[TaskBase, Iterator[CompoundTask]]] = [(task, parents), (parent, iter(parent.release()))]
    while told:
        child, parents = told[-1]
        for parent in parents:
            if parent.child_completed(child):
                told.append((parent, iter(parent.release())))
                break
        else:
            told.pop()


class TimerTask(TaskBase):
    """A durable timer. Cancel the ones you no longer wait for."""

    __slots__ = ("_cancel", "_is_cancelled")

    def __init__(self, task_id: int, cancel: Callable[[int | None], None], number: int = 0) -> None:
        super().__init__(task_id, number)
        self._cancel = cancel
        self._is_cancelled = False

    @property
    def is_cancelled(self) -> bool:  # type: ignore[override]  # of most tasks it is always False
        """Whether the timer was cancelled."""
        return self._is_cancelled

    def cancel(self) -> None:
        """Stop waiting: the timer never completes. Raises ValueError if it has fired.

        A compound that cannot complete without it fails.
        """
        if self.is_completed:
            raise ValueError("Cannot cancel a completed task.")
        if not self._is_cancelled:
            self._is_cancelled = True
            self._cancel(self.id)
            _tell_parents(self)


class EventTask(TaskBase):
    """A wait for an external event. Whoever reads it or joins it looks at it, which may settle it on the spot."""

    __slots__ = ("_result", "_state", "_wait")

    def __init__(self, wait: Observed, number: int = 0) -> None:
        self._wait, self._number = wait, number
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
            if self._parents:
                _tell_parents(self)

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

    def __init__(self, children: Sequence[TaskBase], number: int = 0) -> None:
        super().__init__(number=number)
        self.children = list(children)
        for child in self.children:
            if not isinstance(child, TaskBase):
                raise TypeError(
                    f"a list of durable tasks is expected, but it holds {child!r}, a {type(child).__name__}: "
                    f"pass what call_activity, create_timer and the like return"
                )

    @property
    def _members(self) -> Collection[TaskBase]:
        """The children, each once, in order."""
        return {id(child): child for child in self.children}.values()

    def _listen(self) -> None:
        """Hear first of those already complete, in argument order, then of the others as they come."""
        for child in self._members:
            if not child.is_completed:
                child.join(self)
            elif self.child_completed(child):
                self._leave_children()
                return

    @abstractmethod
    def child_completed(self, child: TaskBase) -> bool:
        """A child has its outcome, or, if it is still running, is cancelled. Says whether this is an outcome here."""

    def release(self) -> Collection[CompoundTask]:
        self._leave_children()
        return super().release()

    def _leave_children(self) -> None:
        for child in self.children:
            child.leave(self)

    def _fail(self, error: BaseException) -> None:
        self.state, self.result = TaskState.FAILED, error


class WhenAllTask(CompoundTask):
    """Completes when all do, with their results in argument order; fails with the first failure, at once."""

    __slots__ = ("_open",)

    def __init__(self, children: Sequence[TaskBase], number: int = 0) -> None:
        super().__init__(children, number)
        if any(child.is_cancelled for child in self.children):
            raise ValueError("task_all was given a timer that has been cancelled: it would wait for ever")
        self._open = len(self._members)
        if self._open:
            self._listen()
        else:
            self.settle([])

    def child_completed(self, child: TaskBase) -> bool:
        if self.state is not TaskState.RUNNING:
            return False
        if child.state is TaskState.SUCCEEDED:
            self._open -= 1
            if self._open:
                return False
            self.state, self.result = TaskState.SUCCEEDED, [each.result for each in self.children]
        elif child.is_cancelled:
            self._fail(OrchestratorCodeError("task_all waits for a timer that was cancelled: it would wait for ever"))
        else:
            self._fail(child.result)
        return True


class WhenAnyTask(CompoundTask):
    """Completes with the first child to complete: the task itself, failed or not. Over nothing: None, at once."""

    __slots__ = ()

    def __init__(self, children: Sequence[TaskBase], number: int = 0) -> None:
        super().__init__(children, number)
        if not self.children:
            self.settle(None)
        elif self._is_in_vain():
            raise ValueError("task_any was given nothing but timers that have been cancelled: it would wait for ever")
        else:
            self._listen()

    def _is_in_vain(self) -> bool:
        return all(child.is_cancelled for child in self.children)

    def child_completed(self, child: TaskBase) -> bool:
        if self.state is not TaskState.RUNNING:
            return False
        if not child.is_cancelled:
            self.state, self.result = TaskState.SUCCEEDED, child
        elif self._is_in_vain():
            self._fail(
                OrchestratorCodeError("task_any waits for timers only that were cancelled: it would wait for ever")
            )
        return self.state is not TaskState.RUNNING
