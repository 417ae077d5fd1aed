from __future__ import annotations

import asyncio
import json
from typing import Any

import azure.functions as func
import pytest
from functions_hub import Hub

from durable_ext.errors import ConfigurationError
from durable_ext.functions.client import DurableOrchestrationClient
from durable_ext.history import OrchestrationRuntimeStatus

Status = OrchestrationRuntimeStatus

REQUEST = func.HttpRequest(method="GET", url="https://public.example:8443/api/start?x=1", body=b"")


@pytest.fixture(params=["coroutine", "plain"])
def waiting(request: pytest.FixtureRequest, hub: Hub) -> Any:
    """The waiting answer of either client, to be awaited."""

    async def wait(*args: Any, **kwargs: Any) -> func.HttpResponse:
        if request.param == "coroutine":
            client = hub.async_client(None, None)
            return await client.wait_for_completion_or_create_check_status_response(*args, **kwargs)
        sync = hub.sync_client(None, None)
        return await asyncio.to_thread(sync.wait_for_completion_or_create_check_status_response, *args, **kwargs)

    return wait


@pytest.mark.parametrize("kind", ["async_client", "sync_client"])
async def test_check_status_response_has_the_urls_as_the_caller_reaches_them(hub: Hub, kind: str) -> None:
    client = getattr(hub, kind)(None, None)
    response = client.create_check_status_response(REQUEST, "one")
    links = json.loads(response.get_body())
    assert response.status_code == 202
    assert links["id"] == "one"
    assert links["statusQueryGetUri"].startswith(
        "https://public.example:8443/runtime/webhooks/durabletask/instances/one?"
    )
    assert response.headers["Location"] == links["statusQueryGetUri"]
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Retry-After"] == "10"
    unasked = client.create_check_status_response(None, "one")
    assert unasked.headers["Location"].startswith("http://localhost:7071/")


async def test_without_a_management_api_the_response_says_what_is_missing(hub: Hub) -> None:
    hub.base_url = None
    with pytest.raises(ConfigurationError, match="Webhooks are not configured"):
        hub.client().create_check_status_response(REQUEST, "one")


@pytest.mark.parametrize(
    ("status", "output", "code", "body"),
    [
        (Status.Completed, '"plain text"', 200, "plain text"),
        (Status.Completed, '{"a": [1]}', 200, '{"a": [1]}'),
        (Status.Completed, "null", 200, "null"),
        (Status.Completed, None, 200, "null"),
        (Status.Completed, "5", 200, "5"),
    ],
)
async def test_completed_instance_answers_with_its_output(
    hub: Hub, waiting: Any, status: Status, output: str | None, code: int, body: str
) -> None:
    await hub.client().start_new("Hello", "one")
    hub.store.end("one", status, output)
    response = await waiting(REQUEST, "one")
    assert (response.status_code, response.get_body().decode()) == (code, body)
    assert (response.mimetype, response.headers["Content-Type"]) == ("application/json", "application/json")


@pytest.mark.parametrize(
    ("status", "option", "code"),
    [
        (Status.Failed, {}, 500),
        (Status.Failed, {"return_internal_server_error_on_failure": True}, 500),
        (Status.Failed, {"return_internal_server_error_on_failure": False}, 200),
        (Status.Terminated, {}, 200),
        (Status.Canceled, {}, 200),
    ],
)
async def test_other_ends_answer_with_the_status(
    hub: Hub, waiting: Any, status: Status, option: dict[str, bool], code: int
) -> None:
    await hub.client().start_new("Hello", "one", [1])
    hub.store.end("one", status, "why")
    response = await waiting(REQUEST, "one", **option)
    shown = json.loads(response.get_body())
    assert response.status_code == code
    assert (shown["name"], shown["runtimeStatus"], shown["output"]) == ("Hello", status.name, "why")
    assert response.headers["Content-Type"] == "application/json"


async def test_instance_that_takes_longer_answers_with_the_urls(hub: Hub, waiting: Any) -> None:
    await hub.client().start_new("Hello", "one")
    response = await waiting(REQUEST, "one", timeout_in_milliseconds=1, retry_interval_in_milliseconds=1)
    assert response.status_code == 202
    assert json.loads(response.get_body())["id"] == "one"


async def test_unknown_instance_answers_with_the_urls(hub: Hub, waiting: Any) -> None:
    assert (await waiting(REQUEST, "nobody")).status_code == 202


async def test_retry_interval_beyond_the_timeout_is_refused(waiting: Any) -> None:
    with pytest.raises(ValueError, match=r"^Total timeout 5 \(ms\) should be bigger than retry timeout 6 \(ms\)$"):
        await waiting(REQUEST, "one", 5, 6)


@pytest.mark.parametrize("arguments", [("{}",), ("{}", "invocation"), (b"{}",)])
def test_clients_are_not_made_from_binding_text(arguments: Any) -> None:
    with pytest.raises(TypeError, match=r"not made from the binding's text.*durable_client_input"):
        DurableOrchestrationClient(*arguments)
    with pytest.raises(TypeError, match="not made from the binding's text"):
        DurableOrchestrationClient(context="{}")  # type: ignore[call-arg]
