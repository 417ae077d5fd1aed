from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hosting import write_app

from durable_ext.errors import ConfigurationError, FunctionNotFoundError
from durable_ext.host.app import LocalHost
from durable_ext.host.loader import AppLoadError, app_module, find_app
from durable_ext.host.localsettings import read_local_settings

MEMORY = "sqlite:///:memory:"


def load(directory: Path) -> None:
    with app_module(directory) as module:
        find_app(module)


def test_a_directory_without_an_app_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(AppLoadError, match=r"there is no function_app.py in .*durable new"):
        load(tmp_path)


def test_a_module_without_an_app_object(tmp_path: Path) -> None:
    with pytest.raises(AppLoadError, match="Could not find top level function app instances"):
        load(write_app(tmp_path, "", header="x = 1\n"))


def test_two_names_for_an_app_object(tmp_path: Path) -> None:
    with pytest.raises(AppLoadError, match=r"More than one FunctionApp .* app, alias\. Keep one"):
        load(write_app(tmp_path, "alias = app"))


def test_an_error_while_importing_shows_the_users_frames_only(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("def broken():\n    return 1 / 0\n\nvalue = broken()\n")
    with pytest.raises(AppLoadError) as caught:
        load(write_app(tmp_path, "import other"))
    files = [line.split('"')[1] for line in caught.value.report.splitlines() if line.startswith('  File "')]
    assert files == [str(tmp_path / name) for name in ("function_app.py", "other.py", "other.py")]
    assert caught.value.report.endswith("ZeroDivisionError: division by zero")


def test_a_syntax_error_shows_the_line(tmp_path: Path) -> None:
    with pytest.raises(AppLoadError) as caught:
        load(write_app(tmp_path, "this is wrong"))
    assert "this is wrong" in caught.value.report
    assert "durable_ext" not in caught.value.report.replace("import durable_ext", "")


def test_a_wrong_decorator_shows_the_line_it_is_on(tmp_path: Path) -> None:
    body = """
    @app.activity_trigger(input_name="town")
    def greet(city): ...
    """
    with pytest.raises(AppLoadError) as caught:
        load(write_app(tmp_path, body))
    assert '@app.activity_trigger(input_name="town")' in caught.value.report
    assert "has no parameter 'town'" in caught.value.report
    assert "durable_ext/" not in caught.value.report


def test_two_apps_of_one_process_do_not_meet(tmp_path: Path) -> None:
    for name in ("one", "two"):
        directory = write_app(tmp_path / name, "import parts")
        (directory / "parts.py").write_text(f"NAME = {name!r}\n")
        with app_module(directory) as module:
            assert name == module.parts.NAME
    assert "parts" not in sys.modules
    assert not [entry for entry in sys.path if entry.startswith(str(tmp_path))]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "not valid JSON"),
        ("[]", "must be an object"),
        ('{"IsEncrypted": true}', "func settings decrypt"),
        ('{"Values": []}', "Values must be an object"),
        ('{"Values": {"A": {}}}', "Values.A must be a text"),
        ('{"Host": {"LocalHttpPort": "x"}}', "LocalHttpPort must be a port number"),
    ],
)
def test_wrong_local_settings_say_what_is_wrong(tmp_path: Path, content: str, complaint: str) -> None:
    (tmp_path / "local.settings.json").write_text(content)
    with pytest.raises(ConfigurationError, match=complaint):
        read_local_settings(tmp_path)


async def test_local_settings_reach_the_app_but_never_replace_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAKEN", "by the shell")
    body = """
    import os
    SEEN = {name: os.environ.get(name) for name in ("TAKEN", "GIVEN", "NUMBER", "AzureWebJobsScriptRoot")}
    assert SEEN["TAKEN"] == "by the shell", SEEN
    assert SEEN["GIVEN"] == "by the file", SEEN
    assert SEEN["NUMBER"] == "7", SEEN
    assert os.path.isdir(SEEN["AzureWebJobsScriptRoot"]), SEEN
    """
    settings = {"IsEncrypted": False, "Values": {"TAKEN": "x", "GIVEN": "by the file", "NUMBER": 7}}
    async with LocalHost(write_app(tmp_path, body, local__settings=settings), port=0, storage=MEMORY):
        pass
    assert "GIVEN" not in os.environ


async def test_what_cannot_be_served_is_listed_and_the_rest_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AzureWebJobs.off.Disabled", "true")
    body = """
    @app.queue_trigger(arg_name="msg", queue_name="orders", connection="AzureWebJobsStorage")
    def from_queue(msg: func.QueueMessage): ...

    @app.route(route="with-queue")
    @app.queue_output(arg_name="out", queue_name="orders", connection="AzureWebJobsStorage")
    def to_queue(req: func.HttpRequest, out: func.Out[str]): ...

    @app.route(route="runtime/mine")
    def reserved(req: func.HttpRequest): ...

    @app.route(route="{id:strange}")
    def strange(req: func.HttpRequest): ...

    @app.route(route="off")
    def off(req: func.HttpRequest): ...

    @app.route(route="fine")
    def fine(req: func.HttpRequest): ...
    """
    async with LocalHost(write_app(tmp_path, body), port=0, storage=MEMORY) as host:
        reasons = {each.name: each.reason for each in host.unserved}
    assert set(reasons) == {"from_queue", "to_queue", "reserved", "strange", "off"}
    assert "func start" in reasons["from_queue"]
    assert "its queue binding" in reasons["to_queue"]
    assert "reserves" in reasons["reserved"]
    assert "'strange' is not one of the constraints" in reasons["strange"]
    assert "AzureWebJobs.off.Disabled" in reasons["off"]


async def test_a_durable_function_can_be_switched_off_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = """
    @app.orchestration_trigger(context_name="context")
    def flow(context):
        return (yield context.call_activity("pay", 1))

    @app.orchestration_trigger(context_name="context", orchestration="Other")
    def old_flow(context): ...

    @app.activity_trigger(input_name="amount", activity="pay")
    def charge(amount: int) -> int:
        return amount
    """
    monkeypatch.setenv("AzureWebJobs.Old_Flow.Disabled", "1")
    monkeypatch.setenv("AzureWebJobs.charge.Disabled", "True")
    monkeypatch.setenv("AzureWebJobs.flow.Disabled", "false")
    async with LocalHost(write_app(tmp_path, body), port=0, storage=MEMORY) as host:
        assert {each.name for each in host.unserved} == {"Other", "pay"}
        instance_id = await host.client.start_new("flow")
        status = await host.client.wait_for_completion(instance_id, timeout=20)
        assert "The function 'pay' doesn't exist, is disabled" in str(status.output)
        with pytest.raises(FunctionNotFoundError, match="Other"):
            await host.client.start_new("Other")


async def test_a_wrong_setting_stops_the_host(tmp_path: Path) -> None:
    app = write_app(tmp_path, "", host={"extensions": {"durableTask": {"hubNam": "x"}}})
    with pytest.raises(ConfigurationError, match="hubName"):
        async with LocalHost(app, port=0, storage=MEMORY):
            pass
