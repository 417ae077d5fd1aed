"""The context: what an orchestrator function is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from durable_ext import ids
from durable_ext.engine.actions import Action, CallActivity, CallSubOrchestrator, SendEvent
from durable_ext.engine.arguments import result_type, retry_of
from durable_ext.engine.attempts import attempt, duration
from durable_ext.engine.execution import Continuation, Execution, child_id
from durable_ext.engine.waits import RAISE, EventWait, Expiry
from durable_ext.retry import RetryPolicy

MAX_CUSTOM_STATUS_BYTES = 16 * 1024


class DurableOrchestrationContext:
    """The orchestrator's only way to the outside.

    Durable calls are scheduled when they are called, in call order. In a generator orchestrator they return tasks to
    `yield`; in an `async def` one, futures to `await`, which asyncio's own combinators take as well.
    """

    def __init__(self, execution: Execution, input_type: Any = None) -> None:
        self._execution = execution
        self._input_type = input_type

    # --- about the instance ---------------------------------------------------------------------------

    @property
    def instance_id(self) -> str:
        """The id of this instance."""
        return self._execution.started.instance_id

    @property
    def parent_instance_id(self) -> str | None:
        """The id of the orchestration that called this one as a sub-orchestration, or None."""
        parent = self._execution.started.parent
        return parent.instance_id if parent is not None else None

    @property
    def name(self) -> str:
        """The name this orchestration was started by."""
        return self._execution.started.name

    @property
    def version(self) -> str | None:
        """The version the instance was started with, or None."""
        return self._execution.started.version

    @property
    def is_replaying(self) -> bool:
        """Whether the code is running over what it did before, or on its way out because the instance leaves memory."""
        return self._execution.replaying

    @property
    def current_utc_datetime(self) -> datetime:
        """The time to use instead of the clock: when the current turn began. The same in every replay."""
        return self._execution.now

    @property
    def will_continue_as_new(self) -> bool:
        """Whether `continue_as_new` was called."""
        return self._execution.continuation is not None

    def get_input(self, expected_type: Any = None) -> Any:
        """The input, restored to `expected_type`, else to the `input_type` of the decorator.

        Raises `CodecError` if it does not fit.
        """
        return self._execution.codec.decode(self._execution.started.input, expected_type or self._input_type)

    # --- calls ----------------------------------------------------------------------------------------

    def call_activity(
        self,
        name: Any,
        input_: Any = None,
        expected_type: Any = None,
        *,
        retry_policy: RetryPolicy | None = None,
        timeout: timedelta | float | None = None,
    ) -> Any:
        """Call an activity, by name or by its decorated function, with one JSON-serialisable input.

        `timeout` (a timedelta, or seconds) covers queue and run time of one attempt; when it is over the call raises
        `ActivityTimeout`, a failure like any other for `retry_policy`. A failed activity raises
        `ActivityFailedError`. Raises `CodecError` at the call if the input cannot be stored.
        """
        callee = self._execution.options.resolve(name, "activity")
        payload = self._execution.codec.encode(input_)

        def make(action_id: int, attempt: int) -> Action:
            return CallActivity(action_id=action_id, name=callee.name, input=payload, attempt=attempt)

        restored_to = result_type(expected_type, callee.result_type)
        if retry_policy is None and timeout is None:
            return self._execution.call(make, restored_to)
        return attempt(self._execution, make, restored_to, retry_of(retry_policy), timeout)

    def call_activity_with_retry(
        self, name: Any, retry_options: RetryPolicy, input_: Any = None, expected_type: Any = None
    ) -> Any:
        """`call_activity` that tries again as `retry_options` say. Raises the last error."""
        return self.call_activity(name, input_, expected_type, retry_policy=retry_options)

    def call_sub_orchestrator(
        self,
        name: Any,
        input_: Any = None,
        instance_id: str | None = None,
        version: str | None = None,
        expected_type: Any = None,
        *,
        retry_policy: RetryPolicy | None = None,
    ) -> Any:
        """Run another orchestration and wait for its output.

        Without an `instance_id` the child's follows from this call. A child that fails or is terminated, or whose id
        is already live, raises `SubOrchestrationFailedError`. Raises `InvalidInstanceIdError` on a bad id.
        """
        make, declared = self._sub_orchestration(name, input_, instance_id, version)
        restored_to = result_type(expected_type, declared)
        if retry_policy is None:
            return self._execution.call(make, restored_to)
        return attempt(self._execution, make, restored_to, retry_of(retry_policy), None)

    def call_sub_orchestrator_with_retry(
        self,
        name: Any,
        retry_options: RetryPolicy,
        input_: Any = None,
        instance_id: str | None = None,
        version: str | None = None,
        expected_type: Any = None,
    ) -> Any:
        """`call_sub_orchestrator` that tries again as `retry_options` say. Raises the last error."""
        return self.call_sub_orchestrator(name, input_, instance_id, version, expected_type, retry_policy=retry_options)

    def start_orchestration(
        self, name: Any, input_: Any = None, instance_id: str | None = None, version: str | None = None
    ) -> str:
        """Start an orchestration without waiting for it; return its instance id.

        If that id is live when the start arrives, the start is dropped and logged.
        """
        make, _ = self._sub_orchestration(name, input_, instance_id, version, fire_and_forget=True)
        started: list[str] = []

        def tell(action_id: int) -> Action:
            action = make(action_id, 1)
            started.append(action.instance_id)
            return action

        self._execution.tell(tell)
        return started[0] if started else ""

    def _sub_orchestration(
        self, name: Any, input_: Any, instance_id: str | None, version: str | None, *, fire_and_forget: bool = False
    ) -> tuple[Callable[[int, int], CallSubOrchestrator], Any]:
        execution = self._execution
        callee = execution.options.resolve(name, "orchestrator")
        payload = execution.codec.encode(input_)
        child_id(execution, instance_id, 0)  # a bad id raises here, before the call takes a number

        def make(action_id: int, attempt: int) -> CallSubOrchestrator:
            return CallSubOrchestrator(
                action_id=action_id,
                name=callee.name,
                instance_id=child_id(execution, instance_id, action_id),
                input=payload,
                version=version if version is not None else execution.options.default_version,
                fire_and_forget=fire_and_forget,
            )

        return make, callee.result_type

    # --- timers and events ----------------------------------------------------------------------------

    def create_timer(self, fire_at: datetime | timedelta) -> Any:
        """A durable timer: due at a time (naive means UTC) or after a delay. Any length; a past time fires at once.

        The task has `cancel()` and `is_cancelled`.
        """
        execution = self._execution
        if isinstance(fire_at, timedelta):
            due = execution.now + fire_at
        elif isinstance(fire_at, datetime):
            due = fire_at.replace(tzinfo=UTC) if fire_at.tzinfo is None else fire_at.astimezone(UTC)
        else:
            raise ValueError(f"create_timer takes a datetime or a timedelta, not {fire_at!r}")
        if execution.refuses():
            return execution.factory.task()
        return execution.timer(due)

    def wait_for_external_event(
        self,
        name: str,
        expected_type: Any = None,
        *,
        timeout: timedelta | float | None = None,
        default: Any = RAISE,
    ) -> Any:
        """Wait for one event of this name (names compare case-insensitively) and return its data.

        Events that came before the wait are served first, oldest first. After `timeout` (a timedelta, or seconds; one
        that is not positive is over at once) the wait returns `default`, or raises TimeoutError if there is none.

        An event is read once the code looks at a wait of its name: yields or awaits it, alone or with others, or asks
        whether it is completed. A wait that is left behind takes none.
        """
        if not name:
            raise ValueError("external_event_name cannot be empty")
        execution, expiry = self._execution, None
        if timeout is not None:
            delay = max(duration(timeout), timedelta(0))
            expiry = Expiry(execution.now + delay, f"Event {name} not received in {delay}", default)
        if execution.refuses():
            return execution.factory.task()
        return EventWait(execution, name, expected_type, expiry).task

    def send_event(self, instance_id: str, event_name: str, event_data: Any = None) -> None:
        """Raise an event on another instance, without waiting for anything."""
        if not event_name:
            raise ValueError("event_name must be a non-empty string.")
        ids.check_instance_id(instance_id)
        payload = self._execution.codec.encode(event_data)
        self._execution.tell(
            lambda action_id: SendEvent(action_id=action_id, name=event_name, instance_id=instance_id, input=payload)
        )

    # --- combinations ---------------------------------------------------------------------------------

    def task_all(self, activities: Iterable[Any]) -> Any:
        """A task that completes when all do: their results in argument order, or the first failure at once."""
        return self._execution.factory.all(activities)

    def task_any(self, activities: Iterable[Any]) -> Any:
        """A task whose result is the first of these to complete, as a task. The others go on; cancel lost timers."""
        return self._execution.factory.any(activities)

    # --- status and continuation ----------------------------------------------------------------------

    @property
    def custom_status(self) -> Any:
        """The custom status this execution set last."""
        return self._execution.custom_status_value

    def set_custom_status(self, status: Any) -> None:
        """Show any JSON value (None clears it) to whoever queries the instance, from the next checkpoint on.

        Raises ValueError above 16 KB of UTF-16, `CodecError` if it cannot be stored.
        """
        text = None if status is None else self._execution.codec.encode(status)
        size = 0 if text is None else len(text.encode("utf-16-le", "surrogatepass"))
        if size > MAX_CUSTOM_STATUS_BYTES:
            raise ValueError(
                f"The custom status is {size} bytes of UTF-16 JSON; at most {MAX_CUSTOM_STATUS_BYTES} are allowed. "
                f"Store large data elsewhere and put a reference into the status."
            )
        self._execution.custom_status = text
        self._execution.custom_status_value = status

    def continue_as_new(self, input_: Any, *, save_events: bool = True) -> None:
        """Begin again with a new input and an empty history, once this function returns; its result is ignored.

        Events nobody has read yet are kept unless `save_events` is False.
        """
        self._execution.continuation = Continuation(self._execution.codec.encode(input_), save_events)

    # --- determinism ----------------------------------------------------------------------------------

    def new_uuid(self) -> str:
        """A UUID that is the same in every replay, as text."""
        return ids.deterministic_uuid(self.instance_id, self._execution.now, self._take_uuid())

    def new_guid(self) -> UUID:
        """A UUID that is the same in every replay."""
        return ids.deterministic_guid(self.instance_id, self._execution.now, self._take_uuid())

    def _take_uuid(self) -> int:
        number = self._execution.uuids
        self._execution.uuids = number + 1
        return number

    def create_replay_safe_logger(self, logger: Any) -> ReplaySafeLogger:
        """A logger that says each thing once: it is silent while `is_replaying`."""
        return ReplaySafeLogger(logger, self._execution)


class ReplaySafeLogger:
    """Passes records on to a `logging.Logger`, with instance and orchestrator as extras, except during replay."""

    def __init__(self, logger: Any, execution: Execution) -> None:
        self._logger, self._execution = logger, execution

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        """As `logging.Logger.log`."""
        if self._execution.replaying:
            return
        started = self._execution.started
        about = {"instance_id": started.instance_id, "orchestrator": started.name}
        kwargs["extra"] = {**about, **(kwargs.get("extra") or {})}
        # One frame up: the record names the user's line, whichever of our methods was called.
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        self._logger.log(level, msg, *args, **kwargs)

    def debug(self, msg: object, *args: Any, **kwargs: Any) -> None:
        """As `logging.Logger.debug`."""
        self.log(10, msg, *args, **_deeper(kwargs))

    def info(self, msg: object, *args: Any, **kwargs: Any) -> None:
        """As `logging.Logger.info`."""
        self.log(20, msg, *args, **_deeper(kwargs))

    def warning(self, msg: object, *args: Any, **kwargs: Any) -> None:
        """As `logging.Logger.warning`."""
        self.log(30, msg, *args, **_deeper(kwargs))

    def error(self, msg: object, *args: Any, **kwargs: Any) -> None:
        """As `logging.Logger.error`."""
        self.log(40, msg, *args, **_deeper(kwargs))

    def exception(self, msg: object, *args: Any, **kwargs: Any) -> None:
        """As `logging.Logger.exception`."""
        self.log(40, msg, *args, **{"exc_info": True, **_deeper(kwargs)})

    def critical(self, msg: object, *args: Any, **kwargs: Any) -> None:
        """As `logging.Logger.critical`."""
        self.log(50, msg, *args, **_deeper(kwargs))

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name in logging
        """As `logging.Logger.isEnabledFor`; nothing is enabled during replay."""
        return not self._execution.replaying and bool(self._logger.isEnabledFor(level))


def _deeper(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {**kwargs, "stacklevel": kwargs.get("stacklevel", 1) + 1}
