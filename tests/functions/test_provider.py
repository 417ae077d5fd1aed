"""Functions whose clients come from a task hub in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import azure.functions as func
import pytest

import durable_ext as df
from durable_ext.errors import ConfigurationError
from durable_ext.functions.provider import HubClients
from durable_ext.storage.opening import open_store
from durable_ext.taskhub import TaskHub


@pytest.fixture
async def hub() -> AsyncIterator[TaskHub]:
    hub = TaskHub(open_store("memory://"), base_url="http://here")
    await hub.open()
    yield hub
    await hub.stop()


@pytest.fixture
def app() -> df.DFApp:
    app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)

    @app.route(route="start")
    @app.durable_client_input(client_name="client")
    async def start(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
        return client.create_check_status_response(req, await client.start_new("hello", "one"))

    @app.route(route="start-sync")
    @app.durable_client_input(client_name="client")
    def start_sync(req: func.HttpRequest, client: df.SyncDurableOrchestrationClient) -> str:
        return client.start_new("hello", "two")

    @app.route(route="elsewhere")
    @app.durable_client_input(client_name="client", task_hub="Other")
    async def elsewhere(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> None: ...

    return app


REQUEST = func.HttpRequest("POST", "http://here/api/start", body=b"")


def function_of(app: df.DFApp, name: str) -> Any:
    return next(each.get_user_function() for each in app.get_functions() if each.get_function_name() == name)


async def test_a_function_that_a_functions_host_calls_has_the_client_of_the_hub(app: df.DFApp, hub: TaskHub) -> None:
    function = function_of(app, "start")
    with pytest.raises(ConfigurationError, match="does not run orchestrations"):
        await function(req=REQUEST)
    app.clients.provider = HubClients(hub)
    assert (await function(req=REQUEST)).status_code == 202
    assert await hub.client.get_status("one")


async def test_a_plain_function_has_one_that_blocks(app: df.DFApp, hub: TaskHub) -> None:
    app.clients.provider = HubClients(hub)
    assert await asyncio.to_thread(function_of(app, "start_sync"), req=REQUEST) == "two"
    assert await hub.client.get_status("two")


async def test_a_client_of_another_hub_is_refused_with_the_way_out(app: df.DFApp, hub: TaskHub) -> None:
    app.clients.provider = HubClients(hub)
    with pytest.raises(ConfigurationError, match=r"runs one hub only, 'TestHubName'\. Leave task_hub out"):
        await function_of(app, "elsewhere")(req=REQUEST)
