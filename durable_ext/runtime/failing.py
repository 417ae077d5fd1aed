"""The readable end of an instance that cannot go on: its code cannot be run any more, or its messages not be read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from durable_ext.engine.turn import Turn
from durable_ext.errors import DurableError, FailureDetails, storable, text_of
from durable_ext.history import (
    ExecutionCompleted,
    GenericEvent,
    HistoryEvent,
    OrchestrationRuntimeStatus,
    OrchestratorCompleted,
    OrchestratorStarted,
    encode_events,
)
from durable_ext.messages import answer_to_parent
from durable_ext.runtime.message_filter import Filtered
from durable_ext.runtime.state import InstanceState
from durable_ext.storage.contract import DeadLetter, Delivery


class UnreadableMessageError(DurableError):
    """A message to an instance is damaged, or was written by a release that knows more than this one."""

    def __init__(self, instance_id: str, reason: str) -> None:
        super().__init__(
            f"a message to instance '{instance_id}' cannot be read: {reason}. It is kept as a dead letter. If a newer "
            f"release wrote it, run that one and rewind the instance, or start it again."
        )
        self.instance_id, self.reason = instance_id, reason


class UnreadableHistoryError(DurableError):
    """The history of an instance is damaged, or was written by a release that knows more than this one."""

    def __init__(self, instance_id: str, reason: str) -> None:
        super().__init__(
            f"the history of instance '{instance_id}' cannot be read: {reason}. The instance cannot go on. Purge it, "
            f"and start it again if its work is still to be done."
        )
        self.instance_id, self.reason = instance_id, reason


def fail_instance(
    state: InstanceState, filtered: Filtered, history: Sequence[HistoryEvent], error: Exception, now: datetime
) -> Turn:
    """The turn that fails the instance on behalf of its code.

    Of the events let through only a start is recorded; the dead letter keeps them all.
    """
    begun = filtered.begins
    started = begun or state.started
    if started is None:
        raise RuntimeError(f"instance '{state.instance_id}' cannot fail before it begins")
    message = storable(text_of(error))
    reason = f"Orchestrator function '{started.name}' failed: {message}"
    completed = ExecutionCompleted(
        timestamp=now,
        event_id=0 if begun is not None else 1 + max((each.event_id for each in history), default=-1),
        orchestration_status=OrchestrationRuntimeStatus.Failed,
        result=reason,
        failure_details=FailureDetails(error_type=type(error).__name__, error_message=message, is_non_retriable=True),
    )
    first: list[HistoryEvent] = [OrchestratorStarted(timestamp=now)]
    if begun is not None:
        first.append(begun)
    answer = answer_to_parent(started, completed, 0 if begun is not None else state.rewinds)
    return Turn(
        execution_id=started.execution_id,
        events=[*first, completed, OrchestratorCompleted(timestamp=now)],
        messages=[answer] if answer is not None else [],
        runtime_status=OrchestrationRuntimeStatus.Failed,
        output=reason,
        started=begun,
        status_changed=True,
    )


def fail_without_history(execution_id: str, error: Exception) -> Turn:
    """The turn that fails an instance that never began, or whose history says nothing: only its status is written."""
    return Turn(
        execution_id=execution_id,
        events=(),
        runtime_status=OrchestrationRuntimeStatus.Failed,
        output=storable(text_of(error)),
        status_changed=True,
    )


def orchestrator_dead_letter(state: InstanceState, filtered: Filtered, error: Exception, now: datetime) -> DeadLetter:
    """What could not be fed to the instance."""
    started = filtered.begins or state.started
    return DeadLetter(
        kind="orchestrator",
        instance_id=state.instance_id,
        name=started.name if started is not None else "",
        payload=_payload(filtered.events),
        reason=str(error),
        created_at=now,
    )


def message_dead_letter(state: InstanceState, unreadable: Delivery, now: datetime) -> DeadLetter:
    """A message that cannot be read."""
    event = unreadable.event
    return DeadLetter(
        kind="message",
        instance_id=unreadable.instance_id,
        name=state.name,
        payload=event.data if isinstance(event, GenericEvent) else None,
        reason=f"cannot be read: {unreadable.unreadable}",
        created_at=now,
    )


def _payload(events: Sequence[HistoryEvent]) -> str:
    try:
        return encode_events(list(events)).decode()
    except ValueError:  # lone surrogates: perhaps the very reason
        return repr(events).encode("ascii", "backslashreplace").decode()
