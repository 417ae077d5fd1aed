"""The JSON bodies of the management API."""

from __future__ import annotations

import traceback
from datetime import datetime
from typing import Any

from durable_ext.client.status import DurableOrchestrationStatus
from durable_ext.http.messages import Response, json_response


def status_body(status: DurableOrchestrationStatus) -> dict[str, Any]:
    """The status of an existing instance; `historyEvents` is there only if there is a history."""
    body: dict[str, Any] = {
        "name": status.name,
        "instanceId": status.instance_id,
        "runtimeStatus": status.runtime_status.name if status.runtime_status else None,
        "input": status.input_,
        "customStatus": status.custom_status,
        "output": status.output,
        "createdTime": _whole_seconds(status.created_time),
        "lastUpdatedTime": _whole_seconds(status.last_updated_time),
    }
    if status.history is not None:
        body["historyEvents"] = status.history
    return body


def _whole_seconds(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def error(status: int, message: str, cause: BaseException | None = None) -> Response:
    """An error; with its cause the answer carries the exception's text, type and traceback as well."""
    body = {"Message": message}
    if cause is not None:
        body["ExceptionMessage"] = str(cause)
        body["ExceptionType"] = f"{type(cause).__module__}.{type(cause).__qualname__}"
        body["StackTrace"] = "".join(traceback.format_tb(cause.__traceback__))
    return json_response(status, body)
