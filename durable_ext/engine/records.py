"""The check of a history's records against the calls that the code makes when it is replayed."""

from __future__ import annotations

from typing import TypeAlias, cast

from durable_ext.engine.actions import Action, CallSubOrchestrator, describe_record
from durable_ext.engine.coroutines import CoroutineDriver
from durable_ext.engine.drivers import Driver
from durable_ext.engine.execution import Execution
from durable_ext.engine.sites import describe_site
from durable_ext.errors import NonDeterminismError, text_of
from durable_ext.history import EventSent, SubOrchestrationInstanceCreated, TaskScheduled, TimerCreated

Record: TypeAlias = TaskScheduled | SubOrchestrationInstanceCreated | TimerCreated | EventSent
RECORDS = (TaskScheduled, SubOrchestrationInstanceCreated, TimerCreated, EventSent)


def is_record_of(action: Action, event: Record) -> bool:
    """Whether this is what was recorded for what the code asks for. Names compare as the registry does."""
    if action.recorded_as is not type(event):
        return False
    if isinstance(event, TimerCreated):
        return True
    if event.name != action.name and event.name.casefold() != action.name.casefold():
        return False
    if type(event) is SubOrchestrationInstanceCreated:
        # One that was only started never answers: code that now waits for it would wait for ever.
        return cast(CallSubOrchestrator, action).fire_and_forget == event.fire_and_forget
    return True


def unasked(event: Record, execution: Execution, driver: Driver) -> NonDeterminismError:
    """A record, where the code asked for something else or for nothing."""
    return _mismatch(event.event_id, describe_record(event), execution.pending.get(event.event_id), execution, driver)


def unrecorded(execution: Execution, driver: Driver) -> NonDeterminismError:
    """A call, where the history goes on without it."""
    action = next(iter(execution.pending.values()))
    return _mismatch(action.action_id, "nothing", action, execution, driver)


def uncalled(task_id: int, execution: Execution, driver: Driver) -> NonDeterminismError:
    """An outcome, where the code has made no such call."""
    return _mismatch(task_id, "an outcome", None, execution, driver)


def _mismatch(
    step: int, recorded: str, action: Action | None, execution: Execution, driver: Driver
) -> NonDeterminismError:
    if action is not None:
        requested, where = f"the code asked for {action}", describe_site(action.site)
    elif driver.error is not None:
        requested, where = f"the code raised {type(driver.error).__name__}: {text_of(driver.error)}", None
    elif driver.done:
        requested, where = "the code has come to its end without asking for it", None
    else:
        requested, where = "the code has not asked for it: it waits", driver.position()
    began_on, python, hint = execution.started.python, execution.options.python, ""
    if isinstance(driver, CoroutineDriver) and began_on not in (None, python):
        hint = (
            f"the instance began on Python {began_on} and this is Python {python}, "
            f"between which asyncio orders calls differently; "
        )
    return NonDeterminismError(step=step, recorded=recorded, requested=requested, where=where, hint=hint)
