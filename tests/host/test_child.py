"""The process that has loaded an app besides its host, for what may kill it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from durable_ext.clock import SystemClock
from durable_ext.messages import WorkItem
from durable_ext.runtime.children import ChildDiedError, Children, ChildUnavailableError
from durable_ext.runtime.quarantined import CallOutcome, CallRequest, decode_answer, encode

APP = """
import os
from pathlib import Path
import durable_ext as df
from beside import GREETING

app = df.DFApp()
print("loading")

@app.activity_trigger(input_name="name")
def greet(name: str) -> str:
    return f"{GREETING} {name}, {os.environ['MOOD']} in {Path.cwd().name}"

@app.activity_trigger(input_name="code")
def leave(code: int) -> None:
    os._exit(code)
"""


@pytest.fixture
def app_dir(tmp_path: Path) -> Path:
    path = tmp_path / "my app"
    path.mkdir()
    (path / "function_app.py").write_text(APP)
    (path / "beside.py").write_text("GREETING = 'Hello'\n")
    (path / "local.settings.json").write_text('{"Values": {"MOOD": "cheerful"}}')
    return path


@pytest.fixture
async def children(app_dir: Path) -> AsyncIterator[Children]:
    found = Children([sys.executable, "-m", "durable_ext.host.child", str(app_dir)], SystemClock())
    yield found
    await found.close()


def request(name: str, value: str) -> bytes:
    item = WorkItem(instance_id="one", execution_id="e", task_id=1, name=name, orchestrator="o", input=value)
    return encode(CallRequest(item))


async def test_it_loads_the_app_as_the_host_does(children: Children, capfd: pytest.CaptureFixture[str]) -> None:
    answer = decode_answer(await children.ask(request("greet", '"Ann"')))
    assert isinstance(answer, CallOutcome)
    assert answer.event.result == '"Hello Ann, cheerful in my app"'  # type: ignore[union-attr]
    assert capfd.readouterr().err == "loading\n"


async def test_its_death_tells_the_exit_code(children: Children) -> None:
    with pytest.raises(ChildDiedError, match="exit code 3"):
        await children.ask(request("leave", "3"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [("import nothing_of_that_name", "nothing_of_that_name"), ("", "Could not find top level function app")],
)
async def test_an_app_that_cannot_be_loaded_is_no_death_of_a_call(
    children: Children, app_dir: Path, content: str, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (app_dir / "function_app.py").write_text(content)
    with pytest.raises(ChildUnavailableError, match="exit code 1"):
        await children.ask(request("greet", '"Ann"'))
    shown = capfd.readouterr().err
    assert shown.count("the app cannot be loaded in a process of its own") == 2, "it is tried once more"
    assert reason in shown


async def test_settings_that_are_wrong_are_said_and_no_death_of_a_call(
    children: Children, app_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (app_dir / "host.json").write_text('{"extensions": {"durableTask": {"nonsense": 1}}}')
    with pytest.raises(ChildUnavailableError):
        await children.ask(request("greet", '"Ann"'))
    assert "nonsense" in capfd.readouterr().err
