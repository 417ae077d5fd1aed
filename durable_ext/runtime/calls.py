"""How an activity's code is run, and its outcome made. Nothing that the code does escapes as an exception."""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
import types
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from durable_ext.clock import Clock
from durable_ext.errors import (
    CodecError,
    FailureDetails,
    FunctionNotFoundError,
    describe,
    details_json,
    with_causes,
)
from durable_ext.history import TaskCompleted, TaskFailed, encode_event
from durable_ext.messages import WorkItem
from durable_ext.registry import Activity
from durable_ext.runtime.logs import current_activity, shown_failure
from durable_ext.runtime.program import Program
from durable_ext.runtime.register import UNRECORDED, Register
from durable_ext.tracebacks import user_traceback

logger = logging.getLogger(__name__)

BLOCKING = 1.0
"""Seconds the event loop may stand still before somebody is told."""

Outcome = TaskCompleted | TaskFailed


class _WouldComeAgainError(Exception):
    """The call fails in a way that trying again does not help; `error` is how."""

    def __init__(self, error: CodecError | FunctionNotFoundError) -> None:
        super().__init__()
        self.error = error


class Running:
    """A call that runs here, in a `slot` of the register once it has one. `activity` is None if it is not known.

    `is_given_up`: nobody waits for its outcome any more. `is_last`: the worker stops once it has ended. `task` is None
    if it has a thread.
    """

    __slots__ = ("activity", "began", "is_given_up", "is_last", "item", "slot", "task")

    def __init__(self, item: WorkItem, activity: Activity | None, slot: int = UNRECORDED, began: float = 0.0) -> None:
        self.item, self.activity, self.slot, self.began = item, activity, slot, began
        self.task: asyncio.Task[Outcome] | None = None
        self.is_given_up = self.is_last = False


@dataclass(frozen=True, slots=True)
class KnownActivity:
    """An activity of the app. An async one runs on the event loop, the others in threads."""

    activity: Activity
    is_async: bool


class Calls:
    """Runs the activities of a program. Each step of an async one is marked in `register` while it has the loop."""

    def __init__(self, program: Program, clock: Clock, register: Register) -> None:
        self._activities, self._codec, self._clock = program.registry.activities, program.codec, clock
        self._register = register
        self._known: dict[str, KnownActivity] = {}

    def knows(self, name: str) -> bool:
        """Whether the app has an activity of this name."""
        return self.find(name) is not None

    def is_async(self, name: str) -> bool:
        """Whether the app has an async activity of this name."""
        found = self.find(name)
        return found is not None and found.is_async

    def find(self, name: str) -> KnownActivity | None:
        """The activity of this name, and how it is run."""
        found = self._known.get(name)
        if found is None and name in self._activities:
            activity = self._activities.get(name)
            found = self._known[name] = KnownActivity(activity, _is_async(activity.function))
        return found

    def run_sync(self, running: Running) -> Outcome:
        """Run a call of a plain function, here and now. One that is not known fails."""
        item = running.item
        current_activity.set(item)
        around = sys.exception()
        try:
            return self.completed(item, self._enter(running))
        except BaseException as error:
            _forget_context(error, around)
            return self.failed(item, error)

    async def run_async(self, running: Running) -> Outcome:
        """Run a call of a coroutine function.

        Raises CancelledError only if it was given up, KeyboardInterrupt only if its worker stops.
        """
        item, around = running.item, sys.exception()
        try:
            return self.completed(item, await self._watched(self._enter(running), running))
        except asyncio.CancelledError as error:
            if running.is_given_up:
                raise
            return self.failed(item, error)
        except KeyboardInterrupt as error:
            if running.is_last:  # Ctrl-C once more, as the stop takes too long: meant for the process
                raise
            return self.failed(item, error)
        except BaseException as error:
            _forget_context(error, around)
            return self.failed(item, error)

    def _enter(self, running: Running) -> Any:
        """Call the function: a coroutine function gives what is to be awaited."""
        item, activity = running.item, running.activity
        if activity is None:
            raise _WouldComeAgainError(FunctionNotFoundError(item.name, "activity", self._activities.names()))
        try:
            value = self._codec.decode(item.input, activity.input_type)
        except CodecError as error:
            raise _WouldComeAgainError(error) from None
        return activity.function(**{activity.input_name: value})

    # --- outcomes ------------------------------------------------------------------------------------

    def completed(self, item: WorkItem, result: Any) -> TaskCompleted:
        """The function returned. What it did is done: if the result cannot be stored, it is not to do it again."""
        try:
            text = self._codec.encode(result)
        except CodecError as error:
            raise _WouldComeAgainError(error) from None
        return TaskCompleted(timestamp=self._clock.now(), task_scheduled_id=item.task_id, result=text, asked=item.asked)

    def failed(self, item: WorkItem, error: BaseException, *, is_final: bool = False) -> TaskFailed:
        """The function raised, or could not be run. `is_final`: it would not help to try again."""
        if isinstance(error, _WouldComeAgainError):
            return self.failed(item, error.error, is_final=True)
        try:
            failed = self._failed(item, error, describe(error, user_traceback(error), is_final=is_final))
            encode_event(failed)
        except Exception as unprintable:  # an error whose text raises, or is no Unicode, must not lose the outcome
            message = f"(the error's text cannot be stored: {type(unprintable).__name__})"
            kind = type(error).__name__
            failure = FailureDetails(error_type=kind, error_message=message, is_non_retriable=is_final)
            failed = self._with_reason(item, f"{_failed(item)}{kind}: {message}", failure)
        _tell(item, failed.failure_details)
        return failed

    def unknown(self, item: WorkItem) -> TaskFailed:
        """The app has no such function."""
        error = FunctionNotFoundError(item.name, "activity", self._activities.names())
        failure = describe(error, is_final=True)
        _tell(item, failure)
        return self._with_reason(item, failure.error_message, failure)

    def _failed(self, item: WorkItem, error: BaseException, failure: FailureDetails) -> TaskFailed:
        told = with_causes(f"{failure.error_type}: {failure.error_message}", error)
        return self._with_reason(item, f"{_failed(item)}{told}", failure)

    def _with_reason(self, item: WorkItem, reason: str, failure: FailureDetails) -> TaskFailed:
        return TaskFailed(
            timestamp=self._clock.now(),
            task_scheduled_id=item.task_id,
            reason=reason,
            details=details_json(failure),
            failure_details=failure,
            asked=item.asked,
        )

    # --- functions -----------------------------------------------------------------------------------

    def activity(self, name: str) -> Activity | None:
        """The activity of this name, if the app has it."""
        found = self.find(name)
        return found.activity if found is not None else None

    @types.coroutine
    def _watched(self, awaitable: Awaitable[Any], running: Running) -> Generator[Any, Any, Any]:
        """Await; mark every step between two suspensions, and tell if one holds up the loop."""
        register, item = self._register, running.item
        steps = awaitable.__await__()
        step: Callable[[Any], Any] = steps.send
        argument: Any = None
        while True:
            began = perf_counter()
            register.mark_call(running.slot, item)
            try:
                suspended_on = step(argument)
            except StopIteration as end:
                return end.value
            finally:
                register.clear()
                if (took := perf_counter() - began) > BLOCKING:
                    _warn_of_blocking(item, took)
            try:
                argument, step = (yield suspended_on), steps.send
            except BaseException as error:
                argument, step = error, steps.throw


def _forget_context(error: BaseException, around: BaseException | None) -> None:
    """Take back what Python noted as the context of user code's error: what we were handling when we called it."""
    seen: set[int] = set()
    each: BaseException | None = error
    while around is not None and each is not None and id(each) not in seen:
        seen.add(id(each))
        if each.__context__ is around:
            each.__context__ = None
        each = each.__cause__ or each.__context__


def _failed(item: WorkItem) -> str:
    # two blanks: what comes through the Functions host has them, and field code splits on them
    return f"Activity function '{item.name}' failed:  "


def _tell(item: WorkItem, failure: FailureDetails) -> None:
    """The one place where the frames of a failure are shown to people; what they see elsewhere is its text."""
    final = ", and is not tried again, as it would only fail again" if failure.is_non_retriable else ""
    logger.error("activity '%s' of %s failed%s: %s", item.name, item.instance_id, final, shown_failure(failure))


def _warn_of_blocking(item: WorkItem, took: float) -> None:
    logger.warning(
        "activity '%s' of %s held up the event loop for %.1f s: await instead, or make it a plain def",
        item.name,
        item.instance_id,
        took,
    )


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
