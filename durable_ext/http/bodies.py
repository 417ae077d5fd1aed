"""The JSON bodies of the management API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from durable_ext.client.status import json_or_text
from durable_ext.http.messages import Response, json_response
from durable_ext.storage.contract import InstanceRecord


def status_body(
    record: InstanceRecord, *, show_input: bool = True, history: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """The status of an instance; version, parent and `historyEvents` are there only if the instance has them."""
    body: dict[str, Any] = {
        "name": record.name,
        **({"version": record.version} if record.version else {}),
        "instanceId": record.instance_id,
        **({"parentInstanceId": record.parent_instance_id} if record.parent_instance_id else {}),
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
    """An error; with its cause the answer carries the exception's text and type as well.

    The documented `StackTrace` is empty: where our files are is nothing for whoever knows a URL. The log has it.
    """
    body = {"Message": message}
    if cause is not None:
        body["ExceptionMessage"] = _text_of(cause)
        body["ExceptionType"] = f"{type(cause).__module__}.{type(cause).__qualname__}"
        body["StackTrace"] = ""
    return json_response(status, body)


def _text_of(cause: BaseException) -> str:
    if isinstance(cause, OSError) and cause.filename is not None:
        return cause.strerror or type(cause).__name__
    return str(cause)
