"""The check of a history's records against the calls that the code makes when it is replayed."""

from __future__ import annotations

from typing import TypeAlias

from durable_ext.engine.actions import RECORDED_KINDS, Action
from durable_ext.engine.coroutines import CoroutineDriver
from durable_ext.engine.drivers import Driver
from durable_ext.engine.execution import Execution
from durable_ext.engine.sites import describe_site
from durable_ext.errors import NonDeterminismError, text_of
from durable_ext.history import EventSent, SubOrchestrationInstanceCreated, TaskScheduled, TimerCreated

Record: TypeAlias = TaskScheduled | SubOrchestrationInstanceCreated | TimerCreated | EventSent
RECORDS = (TaskScheduled, SubOrchestrationInstanceCreated, TimerCreated, EventSent)


class RecordCheck:
    """Raises `NonDeterminismError` where the code and the history differ; not while it `is_lenient`."""

    __slots__ = ("_execution", "driver", "has_unrecorded", "is_lenient")

    def __init__(self, execution: Execution, driver: Driver) -> None:
        self._execution = execution
        self.driver = driver
        self.is_lenient = False
        self.has_unrecorded = False
        """The turn replayed last left actions its history does not have."""

    def match(self, event: Record) -> None:
        """A recorded action: the code must have asked for just that."""
        pending = self._execution.pending
        action = pending.get(event.event_id)
        if action is not None and action.recorded_as is type(event):
            name = "" if type(event) is TimerCreated else event.name  # type: ignore[union-attr]  # only timers lack it
            if name == action.name or name.casefold() == action.name.casefold():
                del pending[event.event_id]
                return
        if not self.is_lenient:
            recorded = f"{RECORDED_KINDS[type(event)]} '{getattr(event, 'name', '')}'".removesuffix(" ''")
            raise self._mismatch(event.event_id, recorded, action)

    def turn_ended(self) -> None:
        """No error yet: calls appended after everything recorded are taken with the next turn, ahead of its news."""
        self.has_unrecorded = bool(self._execution.pending)

    def require_records(self) -> None:
        """Something arrives: what the code asked for in the turn before must be recorded by now."""
        self.has_unrecorded = False
        if self._execution.pending and not self.is_lenient:
            action = next(iter(self._execution.pending.values()))
            raise self._mismatch(action.action_id, "nothing", action)

    def require_call(self, task_id: int) -> None:
        """An outcome nobody waits for: the call must at least have been made."""
        if task_id >= self._execution.next_id and not self.is_lenient:
            raise self._mismatch(task_id, "an outcome", None)

    def _mismatch(self, step: int, recorded: str, action: Action | None) -> NonDeterminismError:
        driver, started = self.driver, self._execution.started
        if action is not None:
            requested, where = f"the code asked for {action}", describe_site(action.site)
        elif driver.error is not None:
            requested, where = f"the code raised {type(driver.error).__name__}: {text_of(driver.error)}", None
        elif driver.done:
            requested, where = "the code has come to its end without asking for it", None
        else:
            requested, where = "the code has not asked for it: it waits", driver.position()
        python, hint = self._execution.options.python, ""
        if isinstance(driver, CoroutineDriver) and started.python not in (None, python):
            hint = (
                f"the instance began on Python {started.python} and this is Python {python}, "
                f"between which asyncio orders calls differently; "
            )
        return NonDeterminismError(step=step, recorded=recorded, requested=requested, where=where, hint=hint)
