"""One execution of an orchestrator: the calls it made, which of them are open, and what it may still ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Protocol

import msgspec

from durable_ext import ids
from durable_ext.codec import Codec
from durable_ext.engine.actions import Action, CallSubOrchestrator, CreateTimer
from durable_ext.engine.mailbox import Mailbox
from durable_ext.engine.sites import call_site
from durable_ext.engine.tasks import Completion, Observed
from durable_ext.engine.turn import EngineOptions
from durable_ext.errors import (
    ActivityFailedError,
    CodecError,
    DurableError,
    SubOrchestrationFailedError,
    TaskFailedError,
)
from durable_ext.history import ExecutionStarted, SubOrchestrationInstanceFailed, TaskFailed

# After this many refusals a closed execution hands out tasks that never complete: code that swallows
# every error in a loop must get to a `yield` or `await` for us to be rid of it.
_REFUSALS = 3


class Evicted(BaseException):
    """The session was unloaded. Not an Exception: user code has no business handling it."""


class TaskFactory(Protocol):
    """Makes the kind of tasks the orchestrator's flavour waits for.

    `cancelled` is told, with the task's id, when the code cancels the task; only some tasks can be.
    """

    def task(self, task_id: int | None = None, cancelled: Callable[[int | None], None] | None = None) -> Any:
        """A task that `settle` completes."""

    def timer(self, task_id: int) -> Any:
        """A task with `cancel()`."""

    def event(self, wait: Observed) -> Any:
        """A task that says when somebody looks at it."""

    def all(self, tasks: Iterable[Any]) -> Any:
        """A task over all of `tasks`."""

    def any(self, tasks: Iterable[Any]) -> Any:
        """A task over the first of `tasks`."""


class OpenCall:
    """A call whose outcome is outstanding, and who takes it."""

    __slots__ = ("action", "result_type", "settle")

    def __init__(self, action: Action, settle: Completion, result_type: Any = None) -> None:
        self.action, self.settle, self.result_type = action, settle, result_type


class Continuation(msgspec.Struct, frozen=True):
    """How the next generation begins."""

    input: str
    save_events: bool


class Execution:
    """State of one generation. Deterministic: everything in it follows from the events fed."""

    def __init__(self, started: ExecutionStarted, now: datetime, codec: Codec, options: EngineOptions) -> None:
        self.started, self.now, self.codec, self.options = started, now, codec, options
        self.factory: TaskFactory
        self.replaying = False
        self.next_id = 0
        self.pending: dict[int, Action] = {}  # asked for, not yet recorded; in order of ids
        self.open: dict[int, OpenCall] = {}
        self.cancelled: list[int] = []  # recorded ones that were abandoned since the turn began
        self.mailbox = Mailbox()
        self.custom_status: str | msgspec.UnsetType | None = msgspec.UNSET
        self.custom_status_value: Any = None
        self.continuation: Continuation | None = None
        self.uuids = 0
        self._closed = False
        self._refused = 0

    # --- calls ----------------------------------------------------------------------------------------

    def call(self, make: Callable[[int, int], Action], result_type: Any) -> Any:
        """Make the action `make(action id, attempt)` and return its task."""
        if self.refuses():
            return self.factory.task()
        action = self.make(make)
        task = self.factory.task(action.action_id)
        self.begin(action, task.settle, result_type, call_site())
        return task

    def begin(self, action: Action, settle: Completion, result_type: Any, site: Any) -> None:
        """Register an action and who takes its outcome."""
        action.site = site
        self.pending[action.action_id] = action
        self.open[action.action_id] = OpenCall(action, settle, result_type)

    def tell(self, make: Callable[[int], Action]) -> None:
        """Make an action that has no outcome."""
        if not self.refuses():
            action = self.make(lambda number, _: make(number))
            action.site = call_site()
            self.pending[action.action_id] = action

    def timer(self, fire_at: datetime) -> Any:
        """Set a timer and return its task."""
        action = CreateTimer(action_id=self.take_id(), fire_at=fire_at)
        task = self.factory.timer(action.action_id)
        self.begin(action, task.settle, None, call_site())
        return task

    def set_timer(self, fire_at: datetime, fired: Completion) -> int:
        """Set a timer that calls `fired`; return its id."""
        action = CreateTimer(action_id=self.take_id(), fire_at=fire_at)
        self.begin(action, fired, None, call_site())
        return action.action_id

    def abandon(self, task_id: int | None) -> None:
        """Nobody waits for this timer or activity any more. Sub-orchestrations are waited for until they end.

        A timer that was not recorded yet never will be; a call is recorded, but not sent.
        """
        call = self.open.get(task_id) if task_id is not None else None
        if call is None or self._closed or isinstance(call.action, CallSubOrchestrator):
            return
        number = call.action.action_id
        del self.open[number]
        if number not in self.pending:
            self.cancelled.append(number)
        elif isinstance(call.action, CreateTimer):
            del self.pending[number]
        else:
            call.action.is_withdrawn = True

    def cancel_timers(self) -> None:
        """Nobody waits for a timer any more. What was called goes on."""
        self.cancelled += [
            number
            for number, call in self.open.items()
            if isinstance(call.action, CreateTimer) and number not in self.pending
        ]

    def make(self, make: Callable[[int, int], Action], attempt: int = 1) -> Action:
        """Make an action, and only then use up its number: what is refused leaves no gap."""
        action = make(self.next_id, attempt)
        _require_text(action)
        self.take_id()
        return action

    def take_id(self) -> int:
        """The next action id. Raises `DurableError` past the limit of host.json."""
        number = self.next_id
        if number >= self.options.max_actions:
            self.require_ids(1)
        self.next_id = number + 1
        return number

    def require_ids(self, count: int) -> None:
        """Raise `DurableError` unless `count` more actions may be asked for."""
        if self.next_id + count > self.options.max_actions:
            raise DurableError(
                f"Maximum amount of orchestration actions ({self.options.max_actions}) has been reached. "
                f"Use continue_as_new, divide the work over sub-orchestrations, or raise maxOrchestrationActions."
            )

    def refuses(self) -> bool:
        """Whether the session is closed. Raises `Evicted` the first times, so that user code ends."""
        if not self._closed:
            return False
        self._refused += 1
        if self._refused <= _REFUSALS:
            raise Evicted
        return True

    def close(self) -> None:
        """From now on nothing is scheduled, and nothing the code says on its way out is news."""
        self._closed = self.replaying = True

    # --- outcomes -------------------------------------------------------------------------------------

    def complete(self, task_id: int, result: str | None) -> None:
        """The open call's function returned."""
        call = self.open.pop(task_id)
        try:
            value = self.codec.decode(result, call.result_type)
        except CodecError as error:
            call.settle(None, error)
        else:
            call.settle(value, None)

    def fail(self, event: TaskFailed | SubOrchestrationInstanceFailed) -> None:
        """The open call's function failed."""
        call = self.open.pop(event.task_scheduled_id)
        kind = ActivityFailedError if isinstance(event, TaskFailed) else SubOrchestrationFailedError
        call.settle(None, _failed(kind, call, event))

    def fire(self, timer_id: int) -> None:
        """The open timer came due."""
        self.open.pop(timer_id).settle(None, None)


def _require_text(action: Action) -> None:
    for text in (action.name, getattr(action, "version", None)):
        if isinstance(text, str) and not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise CodecError(
                    f"{action.kind} {text!r} cannot be stored: that is no valid Unicode (a lone surrogate)"
                ) from error


def _failed(
    kind: type[TaskFailedError], call: OpenCall, event: TaskFailed | SubOrchestrationInstanceFailed
) -> TaskFailedError:
    details = event.details
    if details is not None and kind is SubOrchestrationFailedError:
        # Code puts this text into errors and statuses of its own. Where the child failed is for the history alone.
        details = details.partition(", StackTrace: ")[0]
    return kind(
        task_name=call.action.name,
        task_id=event.task_scheduled_id,
        reason=event.reason,
        details=details,
        failure=event.failure_details,
        attempt=getattr(call.action, "attempt", 1),
    )


def child_id(execution: Execution, instance_id: str | None, action_id: int) -> str:
    """The instance id of a sub-orchestration: the one given, checked, or derived from the call."""
    if not instance_id:
        return ids.child_instance_id(execution.started.execution_id, action_id)
    own, parent = execution.started.instance_id, execution.started.parent
    ids.check_instance_id(instance_id)
    if instance_id == own or (parent is not None and instance_id == parent.instance_id):
        raise ValueError(
            f"The instance ID of a sub-orchestration ('{instance_id}') must be different than the instance ID "
            f"of the orchestration that starts it and of that one's parent."
        )
    return instance_id
