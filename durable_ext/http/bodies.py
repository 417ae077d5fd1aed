"""The JSON bodies of the management API."""

from __future__ import annotations

import traceback
from datetime import UTC, datetime
from typing import Any

from durable_ext.client.status import json_or_text
from durable_ext.http.messages import Response, json_response
from durable_ext.storage.contract import InstanceRecord


def status_body(
    record: InstanceRecord, *, show_input: bool = True, history: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """The status of an instance; `historyEvents` is there only if there is a history."""
    body: dict[str, Any] = {
        "name": record.name,
        "instanceId": record.instance_id,
        "runtimeStatus": record.runtime_status.name,
        "input": json_or_text(record.input) if show_input else None,
        "customStatus": json_or_text(record.custom_status),
        "output": json_or_text(record.output),
        "createdTime": _whole_seconds(record.created_at),
        "lastUpdatedTime": _whole_seconds(record.updated_at),
    }
    if history is not None:
        body["historyEvents"] = history
    return body


def _whole_seconds(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def error(status: int, message: str, cause: BaseException | None = None) -> Response:
    """An error; with its cause the answer carries the exception's text, type and traceback as well."""
    body = {"Message": message}
    if cause is not None:
        body["ExceptionMessage"] = str(cause)
        body["ExceptionType"] = f"{type(cause).__module__}.{type(cause).__qualname__}"
        body["StackTrace"] = "".join(traceback.format_tb(cause.__traceback__))
    return json_response(status, body)
