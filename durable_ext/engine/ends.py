"""How an execution comes to its end: with a value, an error, or because somebody stopped it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from durable_ext.engine.actions import CallSubOrchestrator
from durable_ext.engine.execution import Execution
from durable_ext.errors import (
    CodecError,
    DurableError,
    FailureDetails,
    FunctionNotFoundError,
    NonDeterminismError,
    OrchestratorCodeError,
    TaskFailedError,
    describe,
    failure_text,
    storable,
)
from durable_ext.history import ExecutionCompleted, ExecutionTerminated, OrchestrationRuntimeStatus
from durable_ext.messages import Message
from durable_ext.tracebacks import user_traceback

_S = OrchestrationRuntimeStatus


def completed(execution: Execution, value: Any, now: datetime) -> ExecutionCompleted:
    """The code returned. A value that cannot be stored is a failure."""
    try:
        result = execution.codec.encode(value)
    except CodecError as error:
        return failed(execution, error, now)
    execution.cancel_timers()
    return _end(execution, now, _S.Completed, result)


def failed(execution: Execution, error: BaseException, now: datetime) -> ExecutionCompleted:
    """The code raised. The status says of what, not where: that is for those who may read the history."""
    text = f"Orchestrator function '{execution.started.name}' failed: {failure_text(error)}"
    failure = describe(error, user_traceback(error), is_final=_would_come_again(error))
    return _end(execution, now, _S.Failed, text, failure)


_FINAL = (CodecError, FunctionNotFoundError, OrchestratorCodeError)


def _would_come_again(error: BaseException) -> bool:
    """Whether another run of the same orchestrator, with the same input, would only end the same way."""
    return error.details.is_non_retriable if isinstance(error, TaskFailedError) else isinstance(error, _FINAL)


def broken(execution: Execution, error: NonDeterminismError, now: datetime) -> ExecutionCompleted:
    """The code is not that of the history. The status names the file that asks, the history says where it lies."""
    text = str(error)
    if error.where is not None:
        text = text.replace(error.where, re.split(r"[/\\]", error.where)[-1])
    text = storable(text)
    failure = msgspec.structs.replace(describe(error, error.where), error_message=text)
    return _end(execution, now, _S.Failed, text, failure)


def endless(execution: Execution, generations: int, now: datetime) -> ExecutionCompleted:
    """The code only ever continues as new."""
    error = DurableError(
        f"continue_as_new was called {generations:,} times in a row without waiting for anything in between: "
        f"an endless loop. Wait for a timer, an event or an activity before continuing."
    )
    return failed(execution, error, now)


def terminated(execution: Execution, stop: ExecutionTerminated, now: datetime) -> ExecutionCompleted:
    """Somebody stopped it."""
    return _end(execution, now, _S.Terminated, stop.reason)


def stops_of_children(execution: Execution, stop: ExecutionTerminated) -> Iterator[Message]:
    """What passes a terminate on to open sub-orchestrations, if it is to be."""
    for call in execution.open.values() if stop.recurse else ():
        if isinstance(call.action, CallSubOrchestrator):
            yield Message(instance_id=call.action.instance_id, event=stop)


def _end(
    execution: Execution,
    now: datetime,
    status: OrchestrationRuntimeStatus,
    result: str | None,
    failure: FailureDetails | None = None,
) -> ExecutionCompleted:
    return ExecutionCompleted(
        timestamp=now,
        event_id=execution.next_id,
        orchestration_status=status,
        result=result,
        failure_details=failure,
    )
