"""One execution of an orchestrator: the calls it made, which of them are open, and what it may still ask for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from types import FrameType
from typing import Any, Protocol

import msgspec

from durable_ext import ids
from durable_ext.codec import Codec
from durable_ext.engine.actions import Action, CreateTimer
from durable_ext.engine.mailbox import Mailbox
from durable_ext.engine.tasks import Completion
from durable_ext.engine.turn import EngineOptions
from durable_ext.errors import (
    ActivityFailedError,
    ActivityTimeout,
    CodecError,
    DurableError,
    FailureDetails,
    SubOrchestrationFailedError,
    TaskFailedError,
)
from durable_ext.history import (
    EventRaised,
    ExecutionStarted,
    SubOrchestrationInstanceFailed,
    TaskFailed,
)
from durable_ext.retry import RetryPolicy
from durable_ext.tracebacks import is_ours

# After this many refusals a closed execution hands out tasks that never complete: code that swallows
# every error in a loop must get to a `yield` or `await` for us to be rid of it.
_REFUSALS = 3


class Evicted(BaseException):
    """The session was unloaded. Not an Exception: user code has no business handling it."""


class TaskFactory(Protocol):
    """Makes the kind of tasks the orchestrator's flavour waits for."""

    def task(self, task_id: int | None = None) -> Any:
        """A task that `Completion` completes."""

    def timer(self, task_id: int, cancel: Callable[[int], None]) -> Any:
        """A task with `cancel()`."""

    def all(self, tasks: Iterable[Any]) -> Any:
        """See `DurableOrchestrationContext.task_all`."""

    def any(self, tasks: Iterable[Any]) -> Any:
        """See `DurableOrchestrationContext.task_any`."""


class OpenCall:
    """A call whose outcome is outstanding."""

    __slots__ = ("action", "completion", "result_type")

    def __init__(self, action: Action, completion: Completion, result_type: Any = None) -> None:
        self.action, self.completion, self.result_type = action, completion, result_type


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
        self.mailbox = Mailbox()
        self.custom_status: str | msgspec.UnsetType | None = msgspec.UNSET
        self.custom_status_value: Any = None
        self.continuation: Continuation | None = None
        self.uuids = 0
        self._closed = False
        self._refused = 0

    # --- calls ----------------------------------------------------------------------------------------

    def call(
        self,
        make: Callable[[int, int], Action],
        *,
        result_type: Any,
        retry: RetryPolicy | None = None,
        timeout: timedelta | None = None,
    ) -> Any:
        """Make the action `make(action id, attempt)` and return its task; again and again if `retry` says so."""
        if self.refuses():
            return self.factory.task()
        site = call_site()
        if retry is None and timeout is None:
            action = make(self.take_id(), 1)
            task = self.factory.task(action.action_id)
            self.begin(action, task, result_type, site)
            return task
        task = self.factory.task()
        _Attempts(self, make, task, result_type, site, retry, timeout).start()
        return task

    def begin(self, action: Action, completion: Completion, result_type: Any, site: Any) -> None:
        """Register an action and who waits for its outcome."""
        action.site = site
        self.pending[action.action_id] = action
        self.open[action.action_id] = OpenCall(action, completion, result_type)

    def tell(self, make: Callable[[int], Action]) -> None:
        """Make an action that has no outcome."""
        if not self.refuses():
            action = make(self.take_id())
            action.site = call_site()
            self.pending[action.action_id] = action

    def set_timer(self, fire_at: datetime, make: Callable[[int], Any]) -> Any:
        """Start a timer; `make(id)` gives the completion that hears of it, which is returned."""
        action = CreateTimer(action_id=self.take_id(), fire_at=fire_at)
        completion = make(action.action_id)
        self.begin(action, completion, None, call_site())
        return completion

    def begin_timer(self, delay: timedelta, fired: Callable[[], None]) -> int:
        """Start a timer that calls `fired`; return its id."""
        action = CreateTimer(action_id=self.take_id(), fire_at=self.now + delay)
        self.begin(action, _Then(fired), None, call_site())
        return action.action_id

    def cancel_timer(self, timer_id: int) -> None:
        """Forget a timer. One that was not recorded yet never will be."""
        self.open.pop(timer_id, None)
        self.pending.pop(timer_id, None)

    def take_id(self) -> int:
        """The next action id. Raises `DurableError` past the limit of host.json."""
        number = self.next_id
        if number >= self.options.max_actions:
            raise DurableError(
                f"Maximum amount of orchestration actions ({self.options.max_actions}) has been reached. "
                f"Use continue_as_new, divide the work over sub-orchestrations, or raise maxOrchestrationActions."
            )
        self.next_id = number + 1
        return number

    def refuses(self) -> bool:
        """Whether the session is closed. Raises `Evicted` the first times, so that user code ends."""
        if not self._closed:
            return False
        self._refused += 1
        if self._refused <= _REFUSALS:
            raise Evicted
        return True

    def close(self) -> None:
        """From now on nothing is scheduled."""
        self._closed = True

    # --- outcomes -------------------------------------------------------------------------------------

    def complete(self, task_id: int, result: str | None) -> None:
        """The open call's function returned."""
        call = self.open.pop(task_id)
        try:
            value = self.codec.decode(result, call.result_type)
        except CodecError as error:
            call.completion.fail(error)
        else:
            call.completion.succeed(value)

    def fail(self, event: TaskFailed | SubOrchestrationInstanceFailed) -> None:
        """The open call's function failed."""
        call = self.open.pop(event.task_scheduled_id)
        kind = ActivityFailedError if isinstance(event, TaskFailed) else SubOrchestrationFailedError
        call.completion.fail(_failed(kind, call, event))

    def fire(self, timer_id: int) -> None:
        """The open timer came due."""
        self.open.pop(timer_id).completion.succeed(None)


def _failed(
    kind: type[TaskFailedError], call: OpenCall, event: TaskFailed | SubOrchestrationInstanceFailed
) -> TaskFailedError:
    return kind(
        task_name=call.action.name,
        task_id=event.task_scheduled_id,
        reason=event.reason,
        details=event.details,
        failure=event.failure_details,
        attempt=getattr(call.action, "attempt", 1),
    )


class _Attempts:
    """A call under a retry policy, a timeout, or both: it fails only when no attempt is left.

    Attempts and the pauses between them are ordinary actions, each with an id of its own.
    """

    def __init__(
        self,
        execution: Execution,
        make: Callable[[int, int], Action],
        task: Any,
        result_type: Any,
        site: Any,
        retry: RetryPolicy | None,
        timeout: timedelta | None,
    ) -> None:
        self._execution, self._make, self._task = execution, make, task
        self._result_type, self._site, self._retry, self._timeout = result_type, site, retry, timeout
        self._attempt = 0
        self._first_at = execution.now
        self._action: Action
        self._deadline: int | None = None

    def start(self) -> None:
        """Begin the next attempt."""
        execution = self._execution
        self._attempt += 1
        self._action = self._make(execution.take_id(), self._attempt)
        execution.begin(self._action, self, self._result_type, self._site)
        if self._timeout is not None:  # the next number: see `deadline_of`, by which a rewind finds the timer
            deadline = CreateTimer(action_id=execution.take_id(), fire_at=execution.now + self._timeout)
            execution.begin(deadline, _Then(self._expire), None, self._site)
            self._deadline = deadline.action_id

    def succeed(self, value: Any) -> None:
        """See `Completion`."""
        self._cancel_deadline()
        self._task.succeed(value)

    def fail(self, error: BaseException) -> None:
        """See `Completion`. The attempt failed: pause and try again, or give up."""
        self._cancel_deadline()
        execution, delay = self._execution, None
        # A CodecError would only come again.
        if self._retry is not None and isinstance(error, TaskFailedError):
            delay = self._retry.next_delay(self._attempt, self._first_at, execution.now, error)
        if delay is None:
            self._task.fail(error)
        else:
            self._or_give_up(lambda: self._pause(delay))

    def _pause(self, delay: timedelta) -> None:
        pause = CreateTimer(action_id=self._execution.take_id(), fire_at=self._execution.now + delay)
        self._execution.begin(pause, _Then(lambda: self._or_give_up(self.start)), None, self._site)

    def _or_give_up(self, step: Callable[[], None]) -> None:
        """Between attempts no user code is running that could be told of an exhausted action limit: the task is."""
        if self._task.is_completed:
            return  # cancelled by the orchestrator: there is nobody to try again for
        try:
            step()
        except DurableError as error:
            self._task.fail(error)

    def _expire(self) -> None:
        """The attempt took too long. Whatever comes of it is dropped."""
        self._deadline = None
        self._execution.open.pop(self._action.action_id, None)
        self.fail(_timed_out(self._action, self._timeout, self._attempt))

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._execution.cancel_timer(self._deadline)
            self._deadline = None


class _Then:
    """A completion that only wants to know when."""

    def __init__(self, then: Callable[[], None]) -> None:
        self._then = then

    def succeed(self, value: Any) -> None:
        """See `Completion`."""
        self._then()

    def fail(self, error: BaseException) -> None:
        """See `Completion`. Timers do not fail."""
        raise error


def _timed_out(action: Action, timeout: timedelta | None, attempt: int) -> ActivityTimeout:
    text = f"no outcome within {timeout}"
    return ActivityTimeout(
        task_name=action.name,
        task_id=action.action_id,
        reason=f"Activity function '{action.name}' failed:  ActivityTimeout: {text}",
        details=None,
        failure=FailureDetails(error_type="ActivityTimeout", error_message=text),
        attempt=attempt,
    )


class EventWait:
    """One wait for one external event (a `Waiter` of the mailbox)."""

    def __init__(self, execution: Execution, task: Any, expected_type: Any) -> None:
        self._execution, self._task, self._expected_type = execution, task, expected_type
        self.timer_id: int | None = None

    @property
    def is_waiting(self) -> bool:
        """False once served, timed out or cancelled."""
        return not self._task.is_completed

    def receive(self, event: EventRaised) -> None:
        """Take the event."""
        if self.timer_id is not None:
            self._execution.cancel_timer(self.timer_id)
        try:
            value = self._execution.codec.decode(event.input, self._expected_type)
        except CodecError as error:
            self._task.fail(error)
        else:
            self._task.succeed(value)


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


def call_site() -> tuple[Any, int]:
    """Where user code made the durable call that is being made: code object and instruction."""
    frame = sys._getframe(2)
    while frame.f_back is not None and _is_machinery(frame):
        frame = frame.f_back
    return frame.f_code, frame.f_lasti


def _is_machinery(frame: FrameType) -> bool:
    return is_ours(frame.f_code.co_filename) or str(frame.f_globals.get("__name__")).startswith("asyncio.")


def describe_site(site: tuple[Any, int] | None) -> str | None:
    """A call site as `file:line`."""
    if site is None:
        return None
    code, instruction = site
    line = next((line for start, end, line in code.co_lines() if start <= instruction < end), code.co_firstlineno)
    return f"{code.co_filename}:{line}"
