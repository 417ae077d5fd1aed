"""The clients that functions get: the client of the task hub, plus answers to HTTP requests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import azure.functions as func

from durable_ext.client.orchestration import HttpRequestLike, OrchestrationClient
from durable_ext.client.status import DurableOrchestrationStatus
from durable_ext.client.sync import SyncOrchestrationClient
from durable_ext.errors import InstanceNotFoundError
from durable_ext.history import OrchestrationRuntimeStatus

_JSON = "application/json"


class DurableOrchestrationClient(OrchestrationClient):
    """Starts, queries and steers orchestrations; what `durable_client_input` passes to coroutine functions.

    Functions are given one; they do not make one. Text of a binding, as the first programming model passed it, is
    refused with a TypeError.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> DurableOrchestrationClient:
        """Refuse what the first programming model passed."""
        # Here, because the parameters of __init__ are not those of the first programming model and would only
        # complain about what is missing.
        if "context" in kwargs or (args and isinstance(args[0], str | bytes)):
            raise TypeError(
                "a durable client is not made from the binding's text in this release. Decorate the function with "
                "@app.durable_client_input(client_name=...), and it is passed a client."
            )
        return super().__new__(cls)

    def create_check_status_response(self, request: HttpRequestLike | None, instance_id: str) -> func.HttpResponse:
        """Answer 202, with the URLs that tell how the instance is doing and steer it.

        The URLs begin as `request` did; without a request, as the host is configured.
        """
        return _check_status(self.get_client_response_links(request, instance_id))

    async def wait_for_completion_or_create_check_status_response(
        self,
        request: HttpRequestLike | None,
        instance_id: str,
        timeout_in_milliseconds: int = 10000,
        retry_interval_in_milliseconds: int = 1000,
        return_internal_server_error_on_failure: bool | None = None,
    ) -> func.HttpResponse:
        """Answer with the outcome of the instance if it ends in time, else as `create_check_status_response` does.

        A completed instance answers 200 with its output: text as it is, anything else as JSON. A failed one answers
        500 with its status (200 if `return_internal_server_error_on_failure` is False), any other end 200. Changes
        are noticed when they happen: the retry interval is only checked to be no longer than the timeout.
        """
        seconds = _timeout(timeout_in_milliseconds, retry_interval_in_milliseconds)
        try:
            status = await self.wait_for_completion(instance_id, seconds)
        except (TimeoutError, InstanceNotFoundError):
            return self.create_check_status_response(request, instance_id)
        return _outcome(status, return_internal_server_error_on_failure)


class SyncDurableOrchestrationClient(SyncOrchestrationClient):
    """`DurableOrchestrationClient` for functions that are not coroutines: its methods block until they are through."""

    def create_check_status_response(self, request: HttpRequestLike | None, instance_id: str) -> func.HttpResponse:
        """Answer 202, with the URLs that tell how the instance is doing and steer it."""
        return _check_status(self.get_client_response_links(request, instance_id))

    def wait_for_completion_or_create_check_status_response(
        self,
        request: HttpRequestLike | None,
        instance_id: str,
        timeout_in_milliseconds: int = 10000,
        retry_interval_in_milliseconds: int = 1000,
        return_internal_server_error_on_failure: bool | None = None,
    ) -> func.HttpResponse:
        """Answer with the outcome of the instance if it ends in time, else as `create_check_status_response` does.

        `DurableOrchestrationClient` says which outcome has which status.
        """
        seconds = _timeout(timeout_in_milliseconds, retry_interval_in_milliseconds)
        try:
            status = self.wait_for_completion(instance_id, seconds)
        except (TimeoutError, InstanceNotFoundError):
            return self.create_check_status_response(request, instance_id)
        return _outcome(status, return_internal_server_error_on_failure)


def _check_status(links: Mapping[str, str]) -> func.HttpResponse:
    headers = {"Content-Type": _JSON, "Location": links["statusQueryGetUri"], "Retry-After": "10"}
    return func.HttpResponse(json.dumps(links), status_code=202, headers=headers)


def _timeout(timeout: int, retry_interval: int) -> float:
    if retry_interval > timeout:
        raise ValueError(f"Total timeout {timeout} (ms) should be bigger than retry timeout {retry_interval} (ms)")
    return timeout / 1000


def _outcome(status: DurableOrchestrationStatus, fail_with_500: bool | None) -> func.HttpResponse:
    code = 200
    body: Any = status.to_json()
    if status.runtime_status is OrchestrationRuntimeStatus.Completed:
        body = status.output
    elif status.runtime_status is OrchestrationRuntimeStatus.Failed and fail_with_500 is not False:
        code = 500
    text = body if isinstance(body, str) else json.dumps(body)
    return func.HttpResponse(text, status_code=code, mimetype=_JSON, headers={"Content-Type": _JSON})
