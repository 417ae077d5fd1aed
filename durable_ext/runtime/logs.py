"""What the runtime tells the log, and which activity a log line of user code belongs to."""

from __future__ import annotations

import logging
from contextvars import ContextVar

from durable_ext.engine.turn import Turn
from durable_ext.errors import FailureDetails, shortened
from durable_ext.history import ExecutionCompleted, OrchestrationRuntimeStatus
from durable_ext.messages import WorkItem
from durable_ext.runtime.message_filter import Drop

logger = logging.getLogger("durable_ext.runtime")

LONGEST = 2_000
"""Characters of an error's text that go into a line of the log. More of it is in the history."""

current_activity: ContextVar[WorkItem] = ContextVar("current_activity")
"""The call that is being run. Set in the activity's own context, so it follows the code across awaits."""


_FIELDS = ("instance_id", "orchestrator", "activity", "task_id", "attempt")


class ActivityLogFilter(logging.Filter):
    """Put `instance_id`, `orchestrator`, `activity`, `task_id` and `attempt` on every record.

    Add it to a handler, not to a logger (filters of loggers do not see what their children log). The fields are
    empty outside activities (or what the record has already), so that a format string may always name them.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Never drops a record."""
        item = current_activity.get(None)
        if item is not None:
            record.instance_id, record.orchestrator, record.activity = item.instance_id, item.orchestrator, item.name
            record.task_id, record.attempt = item.task_id, item.attempt
            return True
        for name in _FIELDS:  # a replay-safe logger has filled some
            if not hasattr(record, name):
                setattr(record, name, "")
        return True


def log_turn(instance_id: str, name: str, turn: Turn) -> None:
    """One line when an instance starts, one when it ends; the turns between are for debugging."""
    if turn.started is not None and not turn.replaces_history:
        logger.info("orchestrator '%s' started: instance %s", name, instance_id)
    status = turn.runtime_status
    if status is OrchestrationRuntimeStatus.Completed:
        logger.info("orchestrator '%s' completed: instance %s", name, instance_id)
    elif status.is_terminal:
        failure = _failure_of(turn)
        why = shortened(turn.output or "", LONGEST)
        if failure is not None and failure.stack_trace:
            why = shown_failure(failure)
        level = logging.ERROR if failure is not None else logging.INFO
        logger.log(level, "orchestrator '%s' %s: instance %s: %s", name, status.value.lower(), instance_id, why)
    elif logger.isEnabledFor(logging.DEBUG):
        steps = ", ".join(type(each).__name__ for each in turn.events[1:-1])
        logger.debug("orchestrator '%s' took a turn: instance %s: %s", name, instance_id, steps or "nothing new")


def log_drop(instance_id: str, name: str, drop: Drop) -> None:
    """A message goes unused: a warning if its sender may have counted on it."""
    level = logging.WARNING if drop.is_loss else logging.DEBUG
    if logger.isEnabledFor(level):
        event = drop.event
        what = getattr(event, "name", None)
        kind = f"{type(event).__name__} '{what}'" if what else type(event).__name__
        why = shortened(drop.reason, LONGEST)
        logger.log(level, "%s dropped: instance %s (%s): %s", kind, instance_id, name or "not begun", why)


def shown_failure(failure: FailureDetails) -> str:
    """A failure with the frames of user code, if there are any."""
    text = failure.stack_trace or f"{failure.error_type}: {failure.error_message}"
    return shortened(text.rstrip(), LONGEST)


def _failure_of(turn: Turn) -> FailureDetails | None:
    ends = (each.failure_details for each in turn.events if isinstance(each, ExecutionCompleted))
    return next(ends, None)
