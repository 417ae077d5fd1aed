"""Orchestrations on the local host, in this process."""

from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hosting import write_app

from durable_ext.errors import ConfigurationError, StoreInUseError
from durable_ext.host.app import LocalHost

APP = """
@app.route(route="start/{name}", methods=["POST"])
@app.durable_client_input(client_name="client")
async def start(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    instance_id = await client.start_new(req.route_params["name"], client_input=req.get_json())
    return client.create_check_status_response(req, instance_id)

@app.route(route="start-sync", methods=["POST"])
@app.durable_client_input(client_name="client")
def start_sync(req: func.HttpRequest, client: df.SyncDurableOrchestrationClient) -> func.HttpResponse:
    instance_id = client.start_new(greet_all, client_input=["Tokyo"])
    return client.wait_for_completion_or_create_check_status_response(req, instance_id)

@app.orchestration_trigger(context_name="context")
def greet_all(context: df.DurableOrchestrationContext):
    return (yield context.task_all([context.call_activity(greet, each) for each in context.get_input()]))

@app.orchestration_trigger(context_name="context")
async def wait_for_word(context: df.DurableOrchestrationContext):
    return await context.wait_for_external_event("word")

@app.activity_trigger(input_name="city")
def greet(city: str) -> str:
    return f"Hello {city}!"
"""


@pytest.fixture
def app_dir(tmp_path: Path) -> Path:
    return write_app(tmp_path / "app", APP)


async def post(url: str, value: Any = None) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.post(url, json=value) as answer:
        return answer.status, await answer.json() if answer.content_type == "application/json" else None


async def test_an_orchestration_from_start_to_output_over_http(app_dir: Path) -> None:
    async with LocalHost(app_dir, port=0) as host:
        status, links = await post(f"{host.base_url}/api/start/greet_all", ["Tokyo", "London"])
        assert status == 202
        await host.client.wait_for_completion(links["id"], timeout=20)
        async with aiohttp.ClientSession() as session, session.get(links["statusQueryGetUri"]) as answer:
            body = await answer.json()
    assert body["runtimeStatus"] == "Completed"
    assert body["output"] == ["Hello Tokyo!", "Hello London!"]


async def test_a_function_without_async_gets_a_client_that_blocks(app_dir: Path) -> None:
    async with LocalHost(app_dir, port=0) as host:
        assert await post(f"{host.base_url}/api/start-sync") == (200, ["Hello Tokyo!"])


async def test_an_unknown_orchestrator_names_the_known_ones(app_dir: Path) -> None:
    async with LocalHost(app_dir, port=0) as host:
        status, body = await post(f"{host.base_url}/api/durabletask/orchestrators/nobody")
    assert status == 400
    assert "'greet_all', 'wait_for_word'" in body["ExceptionMessage"]


async def test_state_survives_the_host_in_a_file_that_git_does_not_see(app_dir: Path) -> None:
    async with LocalHost(app_dir, port=0) as host:
        instance_id = await host.client.start_new("wait_for_word")
    async with LocalHost(app_dir, port=0) as host:
        await host.client.raise_event(instance_id, "word", "now")
        status = await host.client.wait_for_completion(instance_id, timeout=20)
    assert status.output == "now"
    assert (app_dir / ".durable" / "TestHubName.db").exists()
    assert (app_dir / ".durable" / ".gitignore").read_text() == "*\n"
    assert stat.S_IMODE((app_dir / ".durable").stat().st_mode) & 0o077 == 0, "payloads are nobody else's business"


async def test_host_json_can_name_the_file(tmp_path: Path) -> None:
    settings = {"extensions": {"durableTask": {"storageProvider": {"type": "sqlite", "path": "mine/state.db"}}}}
    async with LocalHost(write_app(tmp_path, APP, host=settings), port=0):
        assert (tmp_path / "mine" / "state.db").exists()


async def test_azure_storage_is_refused_with_the_way_out(tmp_path: Path) -> None:
    settings = {"extensions": {"durableTask": {"storageProvider": {"type": "AzureStorage"}}}}
    with pytest.raises(ConfigurationError, match="Name another store with --storage"):
        async with LocalHost(write_app(tmp_path, APP, host=settings), port=0):
            pass


async def test_a_port_in_use_is_told_before_anything_is_stored(app_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"cannot listen on 127.0.0.1:{port}: .* another with --port"):
            async with LocalHost(app_dir, port=port):
                pass
    assert not (app_dir / ".durable").exists()


async def test_local_settings_can_name_the_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    app = write_app(tmp_path, APP, local__settings={"Host": {"LocalHttpPort": port}})
    async with LocalHost(app, storage="sqlite:///:memory:") as host:
        assert host.base_url == f"http://localhost:{port}"


async def test_a_second_host_on_the_file_names_the_first(app_dir: Path, tmp_path: Path) -> None:
    other = write_app(tmp_path / "other", APP)
    storage = f"sqlite:///{tmp_path}/shared.db"
    async with LocalHost(app_dir, port=0, storage=storage):
        with pytest.raises(StoreInUseError, match="process"):
            async with LocalHost(other, port=0, storage=storage):
                pass


async def test_a_client_for_another_hub_is_refused(tmp_path: Path) -> None:
    body = (
        APP
        + """
@app.route(route="other")
@app.durable_client_input(client_name="client", task_hub="Other")
async def other(req: func.HttpRequest, client) -> str:
    return "never"
"""
    )
    async with LocalHost(write_app(tmp_path, body), port=0, storage="sqlite:///:memory:") as host:
        assert (await post(f"{host.base_url}/api/other"))[0] == 500


async def test_a_timer_trigger_runs_and_can_start_orchestrations(tmp_path: Path) -> None:
    body = (
        APP
        + """
@app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *", run_on_startup=True)
@app.durable_client_input(client_name="client")
async def tick(timer: func.TimerRequest, client) -> None:
    await client.start_new("greet_all", "started-by-the-timer", [])
"""
    )
    async with LocalHost(write_app(tmp_path, body), port=0, storage="sqlite:///:memory:") as host:
        async with asyncio.timeout(20):
            while not await host.client.get_status("started-by-the-timer"):
                await asyncio.sleep(0.01)
        status = await host.client.wait_for_completion("started-by-the-timer", timeout=20)
    assert status.output == []
