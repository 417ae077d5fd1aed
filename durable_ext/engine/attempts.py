"""A call under a retry policy, a timeout, or both: it fails only when no attempt is left."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from durable_ext.engine.actions import Action, CreateTimer
from durable_ext.engine.execution import Execution
from durable_ext.engine.sites import call_site
from durable_ext.errors import ActivityTimeout, DurableError, FailureDetails, TaskFailedError
from durable_ext.retry import RetryPolicy


def attempt(
    execution: Execution,
    make: Callable[[int, int], Action],
    result_type: Any,
    retry: RetryPolicy | None,
    timeout: timedelta | float | None,
) -> Any:
    """Begin the first attempt of a call and return the task of them all."""
    limit = None if timeout is None else duration(timeout)
    if limit is not None and limit <= timedelta(0):
        raise ValueError(f"timeout is {timeout!r}; it must be positive")
    if execution.refuses():
        return execution.factory.task()
    attempts = Attempts(execution, make, result_type, retry, limit)
    attempts.start()
    return attempts.task


def duration(value: timedelta | float) -> timedelta:
    """A time given as timedelta or in seconds."""
    return value if isinstance(value, timedelta) else timedelta(seconds=value)


class Attempts:
    """Attempts and the pauses between them are ordinary actions, each with a number of its own."""

    def __init__(
        self,
        execution: Execution,
        make: Callable[[int, int], Action],
        result_type: Any,
        retry: RetryPolicy | None,
        timeout: timedelta | None,
    ) -> None:
        self._execution, self._make, self._result_type = execution, make, result_type
        self._retry, self._timeout, self._site = retry, timeout, call_site()
        self.task = execution.factory.task(cancelled=self._cancel)
        self._attempt = 0
        self._first_at = execution.now
        self._action: Action
        self._under_way: list[int] = []  # the attempt and its deadline, or the pause

    def start(self) -> None:
        """Begin the next attempt. Raises, having begun nothing, past the last day there is or the action limit."""
        execution, timeout = self._execution, self._timeout
        expires = None if timeout is None else execution.now + timeout
        execution.require_ids(1 if expires is None else 2)
        self._attempt += 1
        self._action = execution.make(self._make, self._attempt)
        execution.begin(self._action, self._settled, self._result_type, self._site)
        self._under_way = [self._action.action_id]
        if expires is not None:
            # The next number: by `deadline_of` a rewind finds the timer.
            deadline = CreateTimer(action_id=execution.take_id(), fire_at=expires)
            execution.begin(deadline, self._expired, None, self._site)
            self._under_way.append(deadline.action_id)

    def _settled(self, value: Any, error: BaseException | None) -> None:
        """The attempt has an outcome. If it failed: pause and try again, or give up."""
        self._stop()
        if error is None:
            self.task.settle(value)
            return
        if self.task.is_completed:
            return  # cancelled by the orchestrator: there is nobody to try again for
        execution, delay = self._execution, None
        # A CodecError would only come again.
        if self._retry is not None and isinstance(error, TaskFailedError):
            delay = self._retry.next_delay(self._attempt, self._first_at, execution.now, error)
        if delay is None:
            self.task.settle(None, error)
        else:
            self._or_give_up(lambda: self._pause(delay))

    def _pause(self, delay: timedelta) -> None:
        pause = CreateTimer(action_id=self._execution.take_id(), fire_at=self._execution.now + delay)
        self._execution.begin(pause, lambda value, error: self._or_give_up(self.start), None, self._site)
        self._under_way = [pause.action_id]

    def _or_give_up(self, step: Callable[[], None]) -> None:
        """Between attempts no user code is running that could be told of an exhausted limit: the task is."""
        try:
            step()
        except (DurableError, OverflowError) as error:
            self.task.settle(None, error)

    def _expired(self, value: Any, error: BaseException | None) -> None:
        """The attempt took too long. Whatever comes of it is dropped."""
        self._settled(None, _timed_out(self._action, self._timeout, self._attempt))

    def _cancel(self, task_id: int | None) -> None:
        """Nobody waits for the call any more."""
        self._stop()

    def _stop(self) -> None:
        """Give up what is still open of the attempt, or of the pause."""
        for task_id in self._under_way:
            self._execution.abandon(task_id)
        self._under_way = []


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
