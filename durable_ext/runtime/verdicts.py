"""The readable end of an instance whose code cannot be run any more."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from durable_ext.engine.turn import Turn
from durable_ext.errors import DurableError, FailureDetails
from durable_ext.history import (
    ExecutionCompleted,
    HistoryEvent,
    OrchestrationRuntimeStatus,
    OrchestratorCompleted,
    OrchestratorStarted,
    count_rewinds,
    encode_events,
)
from durable_ext.messages import answer_to_parent
from durable_ext.runtime.admission import Admission, Standing
from durable_ext.storage.contract import DeadLetter

MAX_DEATHS = 10
"""Workers that may die over an instance, without progress in between, before it is given up."""


class OrchestratorProcessLostError(DurableError):
    """Whenever the instance's turn was run, the process died."""

    def __init__(self, instance_id: str, times: int) -> None:
        super().__init__(
            f"{times} times the process died over a turn of instance '{instance_id}', the last times with nothing "
            f"else running. It is not tried again; look for what kills the process (memory, os._exit, a native crash)."
        )
        self.instance_id, self.times = instance_id, times


def condemn(
    standing: Standing, admission: Admission, history: Sequence[HistoryEvent], error: Exception, now: datetime
) -> Turn:
    """The turn that fails the instance on behalf of its code.

    Of the admitted events only a start is recorded; the dead letter keeps them all.
    """
    begun = admission.begins
    started = begun or standing.started
    if started is None:
        raise RuntimeError(f"instance '{standing.instance_id}' cannot fail before it begins")
    reason = f"Orchestrator function '{started.name}' failed: {error}"
    completed = ExecutionCompleted(
        timestamp=now,
        event_id=0 if begun is not None else 1 + max((each.event_id for each in history), default=-1),
        orchestration_status=OrchestrationRuntimeStatus.Failed,
        result=reason,
        failure_details=FailureDetails(
            error_type=type(error).__name__, error_message=str(error), is_non_retriable=True
        ),
    )
    opening: list[HistoryEvent] = [OrchestratorStarted(timestamp=now)]
    if begun is not None:
        opening.append(begun)
    answer = answer_to_parent(started, completed, 0 if begun is not None else count_rewinds(history))
    return Turn(
        execution_id=started.execution_id,
        events=[*opening, completed, OrchestratorCompleted(timestamp=now)],
        messages=[answer] if answer is not None else [],
        runtime_status=OrchestrationRuntimeStatus.Failed,
        output=reason,
        started=begun,
        status_changed=True,
    )


def orchestrator_letter(standing: Standing, admission: Admission, error: Exception, now: datetime) -> DeadLetter:
    """What could not be fed to the instance."""
    started = admission.begins or standing.started
    return DeadLetter(
        kind="orchestrator",
        instance_id=standing.instance_id,
        name=started.name if started is not None else "",
        payload=_payload(admission.events),
        reason=str(error),
        created_at=now,
    )


def _payload(events: list[HistoryEvent]) -> str:
    try:
        return encode_events(events).decode()
    except ValueError:  # lone surrogates: perhaps the very reason
        return repr(events).encode("ascii", "backslashreplace").decode()
