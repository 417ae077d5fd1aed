"""The commands about instances, against a store and against a running host: both must answer alike."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from hosting import DEADLINE, running_host, write_app
from rich.console import Console

from durable_ext.cli import main, printing

APP = """
@app.orchestration_trigger(context_name="context")
def echo(context: df.DurableOrchestrationContext):
    return (yield context.call_activity("same", context.get_input()))

@app.orchestration_trigger(context_name="context")
def wait(context: df.DurableOrchestrationContext):
    context.set_custom_status("waiting")
    return (yield context.wait_for_external_event("go"))

@app.orchestration_trigger(context_name="context")
def fail(context: df.DurableOrchestrationContext):
    raise ValueError("no luck")

@app.activity_trigger(input_name="value")
def same(value: object) -> object:
    return value
"""

EVENTS = 8


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


Run = Callable[..., Ended]


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> Ended:
    """A command line, in this process."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    output = capsys.readouterr()
    return Ended(int(ended.value.code or 0), output.out, output.err)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    app = write_app(tmp_path_factory.mktemp("app"), APP)
    with running_host(app) as (_, url):
        yield app, url


@pytest.fixture(params=["over http", "in the store"])
def durable(
    request: pytest.FixtureRequest,
    host: tuple[Path, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs a command on the host's hub, and checks its exit code."""
    app, url = host
    monkeypatch.chdir(app)
    where = ["--url", url] if request.param == "over http" else ["--storage", "sqlite:///.durable/TestHubName.db"]

    def run(*arguments: str, code: int = 0) -> Ended:
        found = call(capsys, *arguments, *where)
        assert found.code == code, found
        return found

    return run


def start(durable: Run, name: str, *arguments: str) -> str:
    found: str = json.loads(durable("start", name, "--json", *arguments).stdout)["id"]
    return found


def test_start_and_wait_prints_the_outcome(durable: Run) -> None:
    status = json.loads(durable("start", "echo", "--input", '{"a": [1]}', "--wait", "--json").stdout)
    assert status["runtimeStatus"] == "Completed"
    assert status["output"] == {"a": [1]}


def test_an_input_may_be_in_a_file(durable: Run, tmp_path: Path) -> None:
    (tmp_path / "order.json").write_text('{"text": "grüezi"}', encoding="utf-8")
    given = f"@{tmp_path / 'order.json'}"
    status = json.loads(durable("start", "echo", "--input", given, "--wait", "--json").stdout)
    assert status["output"] == {"text": "grüezi"}
    instance = start(durable, "wait")
    durable("raise", instance, "go", "--data", given)
    assert json.loads(durable("status", instance, "--follow", "--json").stdout)["output"] == {"text": "grüezi"}


def test_following_an_instance_ends_with_it(durable: Run) -> None:
    instance = start(durable, "echo", "--input", "1")
    status = json.loads(durable("status", instance, "--follow", "--json").stdout)
    assert (status["runtimeStatus"], status["output"]) == ("Completed", 1)
    assert "no luck" in durable("status", start(durable, "fail"), "-f").stdout


def test_data_is_printed_as_it_is(durable: Run) -> None:
    value = ["[bold]x[/bold]", ":key:", "grüezi", "a" * 500]
    started = durable("start", "echo", "--input", json.dumps(value), "--wait", "--json")
    status = json.loads(started.stdout)
    assert status["output"] == value
    shown = durable("status", status["instanceId"]).stdout
    assert "[bold]x[/bold]" in shown
    assert ":key:" in shown


def test_what_a_terminal_would_obey_is_shown_instead(durable: Run) -> None:
    value = "\x1b[2J\x1b]0;title\x07 \x9b31m \u202e \x7f"
    started = durable("start", "echo", "--input", json.dumps(value), "--wait", "--json")
    instance = json.loads(started.stdout)["instanceId"]
    waiting = start(durable, "wait")
    raised = durable("raise", waiting, "go\x1b[31m\nforged", "--data", json.dumps(value))
    shown = [
        started.stdout,
        durable("status", instance).stdout,
        durable("history", instance).stdout,
        raised.stdout,
        durable("list").stdout,
        durable("status", "none\x1b[31m", code=1).stderr,
    ]
    for each in shown:
        assert each.replace("\n", "").isprintable()
    assert "\\x1b[2J" in shown[1]
    assert "go\\x1b[31m\\nforged" in shown[3]
    assert json.loads(shown[0])["output"] == value


def test_waiting_for_an_instance_that_fails_fails(durable: Run) -> None:
    found = durable("start", "fail", "--wait", code=1)
    assert "no luck" in found.stdout
    assert "is Failed" in found.stderr


def test_waiting_ends_with_the_timeout(durable: Run) -> None:
    found = durable("start", "wait", "--wait", "--timeout", "0", code=1)
    assert "after 0 s" in found.stderr


def test_history_has_a_row_for_each_event(durable: Run) -> None:
    instance = json.loads(durable("start", "echo", "--input", '"x"', "--wait", "--json").stdout)["instanceId"]

    table = durable("history", instance).stdout
    assert [title.strip() for title in table.splitlines()[2].strip("┃").split("┃")] == [
        "EventType",
        "Timestamp",
        "Input",
        "Name",
        "Result",
        "Status",
    ]
    rows = [line.split("│")[1].strip() for line in table.splitlines() if line.startswith("│")]
    events = json.loads(durable("history", instance, "--json").stdout)

    assert rows == [each["EventType"] for each in events]
    assert len(rows) == EVENTS
    assert rows[:2] == ["OrchestratorStarted", "ExecutionStarted"]
    assert rows[-2:] == ["ExecutionCompleted", "OrchestratorCompleted"]


def test_an_instance_from_suspend_to_purge(durable: Run) -> None:
    instance = start(durable, "wait")
    durable("suspend", instance, "--reason", "lunch")
    durable("resume", instance)
    durable("raise", instance, "go", "--data", '"on"')
    wait_until_ended(durable, instance)
    assert '"on"' not in durable("status", instance).stdout
    assert "Completed" in durable("status", instance).stdout
    again = json.loads(durable("restart", instance, "--json").stdout)["id"]
    assert again != instance
    durable("terminate", again, "--reason", "enough")
    assert wait_until_ended(durable, again)["output"] == "enough"
    assert json.loads(durable("purge", instance, "--json").stdout) == {"instancesDeleted": 1}
    assert "No instance with ID" in durable("status", instance, code=1).stderr


def wait_until_ended(durable: Run, instance: str) -> Any:
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        status = json.loads(durable("status", instance, "--json").stdout)
        if status["runtimeStatus"] in ("Completed", "Failed", "Terminated"):
            return status
    raise AssertionError(f"{instance} does not end: {status}")


def test_list_selects(durable: Run) -> None:
    prefix = start(durable, "wait")
    for number in range(3):
        start(durable, "wait", "--id", f"{prefix}-{number}")
    durable("start", "echo", "--id", f"{prefix}-echo", "--wait")

    def ids(*arguments: str) -> list[str]:
        return [
            each["instanceId"]
            for each in json.loads(durable("list", "--prefix", f"{prefix}-", "--json", *arguments).stdout)
        ]

    assert sorted(ids()) == [f"{prefix}-0", f"{prefix}-1", f"{prefix}-2", f"{prefix}-echo"]
    assert ids("--sort", "id") == [f"{prefix}-0", f"{prefix}-1", f"{prefix}-2", f"{prefix}-echo"]
    assert ids("--name", "echo") == [f"{prefix}-echo"]
    assert ids("--status", "completed") == [f"{prefix}-echo"]
    assert ids("--created-to", "2001-01-01") == []
    limited = durable("list", "--prefix", f"{prefix}-", "--limit", "2", "--sort", "id")
    assert f"{prefix}-1" in limited.stdout
    assert f"{prefix}-2" not in limited.stdout
    assert "only the first 2 are shown" in limited.stderr


def test_list_has_the_newest_first_however_many_there_are(durable: Run) -> None:
    prefix = start(durable, "wait")
    ids = [f"{prefix}-{name}" for name in ("b", "c", "a")]
    for instance in ids:
        start(durable, "wait", "--id", instance)
        time.sleep(1.1)  # statuses say the second only
    durable("raise", ids[1], "go")
    wait_until_ended(durable, ids[1])

    def listed(*arguments: str) -> list[str]:
        found = json.loads(durable("list", "--prefix", f"{prefix}-", "--json", *arguments).stdout)
        return [each["instanceId"] for each in found]

    assert listed() == [*reversed(ids)]
    assert listed("--limit", "2") == [ids[2], ids[1]]
    assert listed("--sort", "updated")[0] == ids[1]


@pytest.mark.parametrize("columns", [80, 200])
def test_list_shows_whole_ids_and_times_in_any_window(
    durable: Run, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    instance = start(durable, "wait", "--id", uuid4().hex)
    created = json.loads(durable("status", instance, "--json").stdout)["createdTime"]
    monkeypatch.setattr(printing, "out", lambda: Console(width=columns, highlight=False))
    shown = durable("list", "--prefix", instance).stdout
    assert max(len(line) for line in shown.splitlines()) <= columns
    row = next(line.split() for line in shown.splitlines() if instance in line)
    assert row[:4] == [instance, "wait", row[2], created]
    assert ("Updated" in shown, "Custom status" in shown) == (columns == 200, columns == 200)


def test_purge_of_many_leaves_the_others(durable: Run) -> None:
    waiting = start(durable, "wait")
    durable("start", "fail", "--wait", code=1)
    assert json.loads(durable("purge", "--status", "Failed", "--json").stdout)["instancesDeleted"] >= 1
    assert json.loads(durable("list", "--status", "Failed", "--json").stdout) == []
    durable("status", waiting)


def test_nothing_to_purge_is_no_error(durable: Run) -> None:
    found = durable("purge", "--created-to", "2001-01-01", "--json")
    assert json.loads(found.stdout) == {"instancesDeleted": 0}


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "none-such"),
        ("history", "none-such"),
        ("raise", "none-such", "go"),
        ("terminate", "none-such"),
        ("suspend", "none-such"),
        ("resume", "none-such"),
        ("rewind", "none-such"),
        ("purge", "none-such"),
        ("restart", "none-such"),
        ("start", "echo", "--id", "a/b"),
    ],
    ids=" ".join,
)
def test_a_refusal_is_one_line_and_exits_with_1(durable: Run, arguments: tuple[str, ...]) -> None:
    found = durable(*arguments, code=1)
    assert found.stdout == ""
    assert found.stderr.startswith("durable: ")
    assert len(found.stderr.splitlines()) == 1


def test_a_live_id_is_refused(durable: Run) -> None:
    instance = start(durable, "wait")
    durable("raise", instance, "other")
    assert "already exists" in durable("start", "wait", "--id", instance, code=1).stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("start", "echo", "--input", "text"), "a text needs its quotes"),
        (("raise", "x", "go", "--data", "{"), "is not JSON"),
        (("start", "echo", "--input", "@nowhere.json"), "cannot read nowhere.json: No such file"),
        (("start", "echo", "--input", "@function_app.py"), "function_app.py does not hold JSON"),
        (("list", "--status", "Done"), "is not one of"),
        (("list", "--created-from", "yesterday"), "is not an ISO 8601 time"),
        (("purge",), "name one instance"),
        (("purge", "x", "--all"), "name one instance"),
        (("start",), "Missing argument"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
def test_wrong_usage_exits_with_2(durable: Run, arguments: tuple[str, ...], complaint: str) -> None:
    found = durable(*arguments, code=2)
    assert complaint in " ".join(found.stderr.replace("│", " ").split())


def test_an_unreachable_host_says_how_to_start_one(capsys: pytest.CaptureFixture[str]) -> None:
    found = call(capsys, "list", "--url", "http://localhost:1")
    assert found.code == 1
    assert "no host answers at http://localhost:1" in found.stderr
    assert "durable run" in found.stderr


def test_without_options_the_apps_own_store_is_used_when_no_host_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_app(tmp_path, APP, local__settings={"Host": {"LocalHttpPort": 1}})
    app = ("--app", str(tmp_path))

    missing = call(capsys, "list", *app)
    assert missing.code == 1
    assert f"there is no store at sqlite:///{tmp_path}/.durable/TestHubName.db" in missing.stderr
    assert not (tmp_path / ".durable").exists()

    with running_host(tmp_path):
        pass
    assert call(capsys, "start", "echo", "--id", "later", *app).code == 0
    assert json.loads(call(capsys, "list", "--json", *app).stdout)[0]["runtimeStatus"] == "Pending"


@pytest.mark.parametrize("storage", ["memory://", "sqlite:///:memory:"])
def test_a_store_that_lives_in_another_process_is_no_target(
    storage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = call(capsys, "list", "--app", str(tmp_path), "--storage", storage)
    assert found.code == 1
    assert f"the store at {storage} lives in the process of its host" in found.stderr
    assert "--url" in found.stderr


def test_wrong_usage_is_told_before_anything_is_reached(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (("start", "x", "--input", "{"), ("list", "--status", "Done"), ("purge",)):
        assert call(capsys, *arguments, "--url", "http://localhost:1").code == 2


def test_every_command_has_the_options_that_name_its_task_hub(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("start", "status", "history", "list", "raise", "terminate", "restart", "purge", "deadletters"):
        shown = call(capsys, command, "--help").stdout
        assert all(option in shown for option in ("--app", "--url", "--storage", "--json")), command


def test_url_and_storage_together_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    found = call(capsys, "list", "--url", "http://localhost:1", "--storage", "sqlite:///x.db")
    assert found.code == 1
    assert "not both" in found.stderr
