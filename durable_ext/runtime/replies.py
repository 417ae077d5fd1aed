"""What a parent is told in place of a sub-orchestration that cannot answer for itself."""

from __future__ import annotations

from datetime import datetime

from durable_ext.errors import FailureDetails, InstanceAlreadyExistsError, InstanceNotFoundError
from durable_ext.history import ExecutionStarted, OrchestrationRuntimeStatus, ParentInstance
from durable_ext.messages import Message, failure_to_parent


def refuse_start(
    start: ExecutionStarted, parent: ParentInstance, status: OrchestrationRuntimeStatus, now: datetime
) -> Message:
    """The child's id belongs to a live instance, which the call must not disturb."""
    error = InstanceAlreadyExistsError(start.instance_id, status.value)
    way_out = "give the sub-orchestration another, or wait until that instance has ended"
    message = f"{error} Its ID is '{start.instance_id}': {way_out}."
    failure = FailureDetails(error_type=type(error).__name__, error_message=message)
    return failure_to_parent(parent, f"Orchestrator function '{start.name}' failed: {message}", failure, now, asked=0)


def refuse_rewind(instance_id: str, parent: ParentInstance, asked: int, now: datetime) -> Message:
    """The child to be rewound is gone, or its id is by now another line's. `asked` is what the rewind says."""
    error = InstanceNotFoundError(instance_id)
    message = f"{error} It was purged or replaced since it failed, so it cannot be rewound."
    failure = FailureDetails(error_type=type(error).__name__, error_message=message, is_non_retriable=True)
    return failure_to_parent(parent, f"Sub-orchestration '{instance_id}' failed: {message}", failure, now, asked=asked)
