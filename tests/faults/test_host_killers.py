"""The local host and functions that kill it: from the second time on they kill a process of their own."""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from hosting import DEADLINE, running_host, write_app

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes end otherwise there")

APP = """
import os, signal

@app.activity_trigger(input_name="code")
def leave(code: int) -> None:
    os._exit(code)

@app.orchestration_trigger(context_name="context")
def calls(context):
    return (yield context.call_activity(leave, context.get_input()))

@app.orchestration_trigger(context_name="context")
def kills(context):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def call(url: str, method: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{url}/api/durabletask/{path}", method=method, data=data, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
        return json.loads(answer.read() or "null")


def end(url: str, instance_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        status: dict[str, Any] = call(url, "GET", f"instances/{instance_id}")
        if status["runtimeStatus"] not in ("Pending", "Running"):
            return status
        time.sleep(0.02)
    raise AssertionError(f"{instance_id} does not end")


@pytest.mark.parametrize(
    ("name", "code", "failure"),
    [
        ("calls", 7, "activity 'leave' killed its process twice: exit code 7"),
        ("kills", -9, "the turn of instance 'first' killed its process twice: signal 9 (SIGKILL)"),
    ],
)
def test_a_function_that_kills_the_host_does_so_once(tmp_path: Path, name: str, code: int, failure: str) -> None:
    app_dir = write_app(tmp_path / "app", APP)
    with running_host(app_dir) as (process, url):
        call(url, "POST", f"orchestrators/{name}/first", 7)
        assert process.wait() == code
    with running_host(app_dir) as (process, url):
        status = end(url, "first")
        assert status["runtimeStatus"] == "Failed"
        assert failure in status["output"]
        call(url, "POST", f"orchestrators/{name}/second", 7)
        assert end(url, "second")["runtimeStatus"] == "Failed"
        assert process.child.poll() is None
        assert "kills its process" in process.output or process.until("kills its process")
    with running_host(app_dir) as (process, url):
        call(url, "POST", f"orchestrators/{name}/third", 7)
        assert end(url, "third")["runtimeStatus"] == "Failed", "it is known from its first call on"
        assert process.child.poll() is None
