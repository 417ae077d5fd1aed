"""What travels between instances and to activities."""

from __future__ import annotations

from datetime import datetime

import msgspec

from durable_ext.errors import FailureDetails
from durable_ext.history import (
    ExecutionCompleted,
    ExecutionStarted,
    HistoryEvent,
    OrchestrationRuntimeStatus,
    ParentInstance,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceFailed,
)


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """An event on its way to an instance.

    `execution_id` is None where any execution will do (external events, terminate, suspend, resume, rewind).
    """

    instance_id: str
    event: HistoryEvent
    execution_id: str | None = None
    visible_at: datetime | None = None


class WorkReceipt(msgspec.Struct, frozen=True):
    """The identity of an activity call, and which asking of it: its outcome answers exactly this."""

    instance_id: str
    execution_id: str
    task_id: int
    asked: int = 0


class WorkItem(msgspec.Struct, frozen=True, kw_only=True):
    """An activity call.

    `orchestrator` is the caller's name, for logs. `attempt` counts from 1 under a retry policy. `asked` is how often
    a rewind has asked for the same call again. `tries` counts the times it was handed out to run: durably, before it
    ran; giving it back unrun uncounts. `queued_at` is when it began to wait in the store, if it did.
    """

    instance_id: str
    execution_id: str
    task_id: int
    name: str
    orchestrator: str
    input: str | None = None
    attempt: int = 1
    asked: int = 0
    tries: int = 0
    queued_at: datetime | None = None

    @property
    def receipt(self) -> WorkReceipt:
        """What a commit that carries the outcome completes."""
        return WorkReceipt(self.instance_id, self.execution_id, self.task_id, self.asked)


def answer_to_parent(started: ExecutionStarted, end: ExecutionCompleted, rewinds: int) -> Message | None:
    """What a sub-orchestration that has ended tells its parent; None if it has none. Always the same message.

    `rewinds` is `count_rewinds` of its history: a parent takes an answer only if that is above that of those it voided.
    """
    parent = started.parent
    if parent is None:
        return None
    if end.orchestration_status is OrchestrationRuntimeStatus.Completed:
        event = SubOrchestrationInstanceCompleted(
            timestamp=end.timestamp, task_scheduled_id=parent.task_id, result=end.result, asked=rewinds
        )
        return Message(instance_id=parent.instance_id, execution_id=parent.execution_id, event=event)
    reason = end.result or ""
    if end.orchestration_status is OrchestrationRuntimeStatus.Terminated:
        reason = f"Orchestrator function '{started.name}' was terminated: {reason}"
    failure = end.failure_details or FailureDetails(
        error_type=f"Orchestration{end.orchestration_status.value}", error_message=reason
    )
    return failure_to_parent(parent, reason, failure, end.timestamp, asked=rewinds)


def failure_to_parent(
    parent: ParentInstance, reason: str, failure: FailureDetails, when: datetime, *, asked: int
) -> Message:
    """What a parent is told of a sub-orchestration that failed, or that could not be run.

    `asked` as in `history.Outcome`.
    """
    event = SubOrchestrationInstanceFailed(
        timestamp=when,
        task_scheduled_id=parent.task_id,
        reason=reason,
        details=f"Message: {failure.error_message}, StackTrace: {failure.stack_trace or ''}",
        failure_details=failure,
        asked=asked,
    )
    return Message(instance_id=parent.instance_id, execution_id=parent.execution_id, event=event)
