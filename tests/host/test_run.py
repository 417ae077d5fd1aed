"""`durable run` as a real process."""

from __future__ import annotations

import json
import signal
import socket
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from hosting import DEADLINE, durable, running_host, write_app

APP = """
import asyncio, os, time

@app.orchestration_trigger(context_name="context")
def chain(context: df.DurableOrchestrationContext):
    said = []
    for number in range(3):
        said.append((yield context.call_activity("note", number)))
    said.append((yield context.wait_for_external_event("go")))
    return said

@app.activity_trigger(input_name="number")
def note(number: int) -> int:
    return number

@app.orchestration_trigger(context_name="context")
def stuck(context: df.DurableOrchestrationContext):
    yield context.call_activity("hang_for_ever", context.get_input())

@app.orchestration_trigger(context_name="context")
def kill(context: df.DurableOrchestrationContext):
    yield context.call_activity("leave", 7)

@app.activity_trigger(input_name="code")
def leave(code: int) -> None:
    os._exit(code)

@app.activity_trigger(input_name="number")
def hang_for_ever(number: int) -> None:
    print("hanging", flush=True)
    time.sleep(3600)

@app.route(route="hang")
def hang(req: func.HttpRequest) -> str:
    print("hanging", flush=True)
    time.sleep(3600)

@app.route(route="hang-async")
async def hang_async(req: func.HttpRequest) -> str:
    print("hanging", flush=True)
    await asyncio.sleep(3600)

@app.queue_trigger(arg_name="msg", queue_name="orders", connection="AzureWebJobsStorage")
def from_queue(msg: func.QueueMessage) -> None: ...

@app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *")
def yearly(timer: func.TimerRequest) -> None: ...
"""


WITHOUT_EFFECT = {"useGracefulShutdown": True, "tracing": {"version": "V2"}, "extendedSessionsEnabled": True}


@pytest.fixture
def app_dir(tmp_path: Path) -> Path:
    return write_app(tmp_path / "app", APP, host={"extensions": {"durableTask": WITHOUT_EFFECT}})


def ask(url: str, method: str = "GET", value: Any = None) -> Any:
    body = None if value is None else json.dumps(value).encode()
    request = urllib.request.Request(url, method=method, data=body, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
        content = answer.read()
    return json.loads(content) if content else None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_stops_cleanly(app_dir: Path, number: signal.Signals) -> None:
    with running_host(app_dir) as (process, _):
        process.signal(number)
        assert process.wait() == 0
    assert "Traceback" not in process.output


def test_start_up_says_what_was_found(app_dir: Path) -> None:
    with running_host(app_dir) as (process, url):
        process.signal(signal.SIGTERM)
        process.wait()
    said = process.output
    assert "orchestrators  chain, kill, stuck" in said
    assert "activities     hang_for_ever, leave, note" in said
    assert f"http           hang: any method {url}/api/hang" in said
    assert "timer          yearly: 0 0 0 1 1 * (UTC)" in said
    assert f"state          sqlite:///{app_dir}/.durable/TestHubName.db" in said
    assert "not served here: from_queue (queueTrigger): needs the Functions host" in said
    ignored = "extendedSessionsEnabled, tracing.version, useGracefulShutdown"
    assert f"without effect in this release (host.json): {ignored}" in said


def test_a_store_in_memory_is_said_to_go_with_the_host(app_dir: Path) -> None:
    with running_host(app_dir, "--storage", "memory://") as (process, url):
        ask(f"{url}/api/durabletask/orchestrators/chain/one", "POST")
        ask(f"{url}/api/durabletask/instances/one/raiseEvent/go", "POST", "on")
        assert _wait(url, "one")["output"] == [0, 1, 2, "on"]
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    assert "state          memory:// (gone when the host stops)" in process.output
    assert not (app_dir / ".durable").exists()


def test_the_app_runs_in_its_own_directory_and_storage_paths_mean_where_the_command_was(tmp_path: Path) -> None:
    app = write_app(tmp_path / "app", "import os\nprint('in', os.getcwd(), flush=True)")
    with durable("run", "--app", "app", "--port", "0", "--storage", "sqlite:///state.db", cwd=tmp_path) as process:
        assert process.until("in ").endswith(str(app))
        process.until("Ready:")
    assert (tmp_path / "state.db").exists()


def test_a_directory_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with durable("run", "--app", "none", cwd=tmp_path) as process:
        assert process.wait() == 1
    assert len(process.lines) == 1
    assert "there is no function_app.py in" in process.output


def test_kill_9_loses_nothing(app_dir: Path) -> None:
    with running_host(app_dir) as (process, url):
        instance = ask(f"{url}/api/durabletask/orchestrators/chain", "POST")["id"]
        process.signal(signal.SIGKILL)
        process.wait()
    with running_host(app_dir) as (process, url):
        ask(f"{url}/api/durabletask/instances/{instance}/raiseEvent/go", "POST", "gone on")
        ended = _wait(url, instance)
    assert ended["output"] == [0, 1, 2, "gone on"]


def test_an_activity_that_kills_its_host_fails_after_the_next_start_and_takes_nobody_along(app_dir: Path) -> None:
    with running_host(app_dir) as (process, url):
        ask(f"{url}/api/durabletask/orchestrators/chain/bystander", "POST")
        ask(f"{url}/api/durabletask/orchestrators/kill/killer", "POST")
        assert process.wait() == 7
    with running_host(app_dir) as (process, url):
        ask(f"{url}/api/durabletask/instances/bystander/raiseEvent/go", "POST", {})
        assert _wait(url, "bystander")["runtimeStatus"] == "Completed"
        ended = _wait(url, "killer")
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    assert ended["runtimeStatus"] == "Failed"
    assert "activity 'leave' killed its process twice: exit code 7" in ended["output"]


def connect(url: str) -> socket.socket:
    return socket.create_connection(("localhost", int(url.rpartition(":")[2])), timeout=DEADLINE)


def _wait(url: str, instance: str) -> Any:
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        status = ask(f"{url}/api/durabletask/instances/{instance}")
        if status["runtimeStatus"] not in ("Pending", "Running"):
            return status
    raise AssertionError(f"{instance} does not end: {status}")


def test_a_function_that_never_returns_does_not_keep_the_host_from_stopping(app_dir: Path) -> None:
    with running_host(app_dir) as (process, url):
        with connect(url) as connection:
            connection.sendall(b"GET /api/hang HTTP/1.1\r\nHost: localhost\r\n\r\n")
            process.until("hanging")
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    assert "leaving 1 function call(s) that did not return: hang (" in process.output
    assert f"{app_dir}/function_app.py:" in process.output


def test_any_number_of_calls_that_never_return_share_one_grace(app_dir: Path) -> None:
    calls = 20
    with running_host(app_dir, "--grace", "1", "--storage", "memory://") as (process, url):
        for number in range(calls):
            ask(f"{url}/api/durabletask/orchestrators/stuck", "POST", number)
        for _ in range(calls):
            process.until("hanging")
        process.signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait() == 0
        took = time.monotonic() - began
    assert took < calls / 2
    assert process.output.count("activity 'hang_for_ever' of ") >= calls


def test_a_second_signal_stops_at_once(app_dir: Path) -> None:
    with running_host(app_dir) as (process, url), connect(url) as connection:
        connection.sendall(b"GET /api/hang-async HTTP/1.1\r\nHost: localhost\r\n\r\n")
        process.until("hanging")
        process.signal(signal.SIGINT)
        process.until("stopping")
        process.signal(signal.SIGINT)
        assert process.wait() == 130


def test_a_broken_app_shows_its_own_traceback_and_exits_with_1(tmp_path: Path) -> None:
    app = write_app(tmp_path, "def broken():\n    return 1 / 0\nbroken()")
    with durable("run", "--port", "0", cwd=app) as process:
        assert process.wait() == 1
    assert process.lines[0] == "Traceback (most recent call last):"
    assert process.lines[-1] == "ZeroDivisionError: division by zero"
    assert process.output.count('File "') == 2


def test_a_port_in_use_is_one_line(app_dir: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        durable("run", "--port", str(taken.getsockname()[1]), cwd=app_dir) as process,
    ):
        assert process.wait() == 1
    assert len(process.lines) == 1
    assert "cannot listen on 127.0.0.1" in process.output


def test_a_second_host_on_one_file_is_one_line_that_names_the_first(app_dir: Path) -> None:
    with running_host(app_dir) as (first, _), durable("run", "--port", "0", cwd=app_dir) as second:
        assert second.wait() == 1
        assert f"process {first.child.pid}" in second.output
    assert len(second.lines) == 1


def test_wrong_usage_exits_with_2(app_dir: Path) -> None:
    with durable("run", "--port", "many", cwd=app_dir) as process:
        assert process.wait() == 2
