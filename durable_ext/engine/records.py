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


def unasked(event: Record, execution: Execution, driver: Driver) -> NonDeterminismError:
    """A record, where the code asked for something else or for nothing."""
    recorded = f"{RECORDED_KINDS[type(event)]} '{getattr(event, 'name', '')}'".removesuffix(" ''")
    return _mismatch(event.event_id, recorded, execution.pending.get(event.event_id), execution, driver)


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
