"""What the first documents of Durable Functions promise, one by one, as far as HTTP shows it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from e2e_hub import REPOSITORY, Answer, Hub
from hosting import Process, running_host, write_app

from durable_ext.ids import MAX_INSTANCE_ID

APP = '''
import asyncio, json, logging, pathlib
from datetime import timedelta

log = logging.getLogger("app")


@app.orchestration_trigger(context_name="context")
def echo(context):
    return context.get_input()


@app.orchestration_trigger(context_name="context")
def describe(context):
    return {"name": context.name, "id": context.instance_id, "input": context.get_input()}


@app.route(route="start-one", methods=["POST"])
@app.orchestration_client_output(arg_name="starter")
def start_one(req: func.HttpRequest, starter: func.Out[str]) -> str:
    starter.set(req.get_body().decode())
    return "put out"


@app.activity_trigger(input_name="line")
def write(line: list):
    path, text = line
    with open(path, "a", encoding="utf-8") as file:
        file.write(text + "\\n")
    return text


@app.activity_trigger(input_name="path")
async def until_exists(path: str):
    while not pathlib.Path(path).exists():
        await asyncio.sleep(0.02)
    return "there"


@app.orchestration_trigger(context_name="context")
def step_by_step(context):
    gate, path = context.get_input()
    yield context.call_activity("until_exists", gate)
    yield context.call_activity("write", [path, "after the gate"])


@app.orchestration_trigger(context_name="context")
def collect(context):
    """Logs, writes and waits, so that a process can come and go in between."""
    path = context.get_input()
    safe = context.create_replay_safe_logger(log)
    log.info("plain: begun")
    safe.info("safe: begun")
    collected = [(yield context.call_activity("write", [path, "first"]))]
    log.info("plain: first done")
    safe.info("safe: first done")
    collected.append((yield context.wait_for_external_event("go")))
    collected.append((yield context.call_activity("write", [path, "second"])))
    log.info("plain: all done")
    safe.info("safe: all done")
    return collected


@app.orchestration_trigger(context_name="context")
async def nap(context):
    await asyncio.sleep(context.get_input())
    return "woken"


@app.orchestration_trigger(context_name="context")
def clock(context):
    times = [context.current_utc_datetime]
    for _ in range(3):
        yield context.call_activity("upper", "x")
        times.append(context.current_utc_datetime)
    return [time.isoformat() for time in times]


@app.activity_trigger(input_name="text")
def upper(text: str) -> str:
    if not text:
        raise ValueError("there is nothing to shout")
    return text.upper()


@app.orchestration_trigger(context_name="context")
def shout(context):
    return (yield context.call_activity("upper", context.get_input()))


@app.orchestration_trigger(context_name="context")
def family(context):
    one = yield context.call_sub_orchestrator("shout", "one")
    rest = yield context.task_all([context.call_sub_orchestrator("shout", text) for text in ("two", "three")])
    return [one, *rest]


@app.orchestration_trigger(context_name="context")
def race(context):
    """Timers for a delay and for a timeout, against an event."""
    yield context.create_timer(timedelta(seconds=0.01))
    event = context.wait_for_external_event("hurry")
    deadline = context.create_timer(timedelta(seconds=context.get_input()))
    winner = yield context.task_any([event, deadline])
    if winner is deadline:
        return "too late"
    deadline.cancel()
    return event.result


@app.activity_trigger(input_name="plan")
def fail_until(plan: list):
    path, wanted = plan
    with open(path, "a", encoding="utf-8") as file:
        file.write("tried\\n")
    tries = len(open(path, encoding="utf-8").readlines())
    if tries < wanted:
        raise ConnectionError(f"try {tries} failed")
    return tries


@app.orchestration_trigger(context_name="context")
def failing_child(context):
    return (yield context.call_activity("fail_until", context.get_input()))


@app.orchestration_trigger(context_name="context")
def persistent(context):
    kind, plan, attempts = context.get_input()
    options = df.RetryOptions(20, attempts)
    try:
        if kind == "activity":
            tries = yield context.call_activity_with_retry("fail_until", options, plan)
        else:
            tries = yield context.call_sub_orchestrator_with_retry("failing_child", options, plan)
    except df.TaskFailedError as error:
        return f"caught: {error.message}"
    return tries


@app.orchestration_trigger(context_name="context")
def doomed(context):
    raise ZeroDivisionError("so it goes")
    yield


@app.activity_trigger(input_name="course")
def course(course: tuple[str, int]):
    major, year = course
    return {"major": major, "year": year}


@app.orchestration_trigger(context_name="context")
def courses(context):
    return (yield context.call_activity("course", ("ComputerScience", 2)))
'''


@pytest.fixture(scope="module")
def app_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_app(tmp_path_factory.mktemp("demands") / "app", APP)


@pytest.fixture(scope="module")
def running(app_dir: Path) -> Iterator[tuple[Process, Hub]]:
    with running_host(app_dir, "--storage", f"sqlite:///{app_dir}/shared.db") as (process, url):
        yield process, Hub(url)


@pytest.fixture
def hub(running: tuple[Process, Hub]) -> Hub:
    return running[1]


def start(hub: Hub, instance_id: str) -> Answer:
    """Start under this id, percent-encoded as a client would."""
    return hub.manage("POST", f"orchestrators/echo/{quote(instance_id, safe='')}")


# --- starting -------------------------------------------------------------------------------------------


def test_a_start_takes_a_name_an_input_and_an_id(hub: Hub, unique: str) -> None:
    assert hub.run("describe", {"n": 1}, unique)["output"] == {"name": "describe", "id": unique, "input": {"n": 1}}


def test_a_start_without_an_id_makes_one_and_without_an_input_has_none(hub: Hub) -> None:
    output = hub.run("describe")["output"]
    assert len(output["id"]) == 32
    assert output["input"] is None


@pytest.mark.parametrize("shape", ["object", "array", "several"])
def test_an_output_binding_starts_what_it_is_given(hub: Hub, unique: str, shape: str) -> None:
    one = {"FunctionName": "echo", "Input": {"shape": shape}, "InstanceId": unique}
    other = {**one, "InstanceId": f"{unique}-2"}
    given = {"object": one, "array": [one], "several": [one, other]}[shape]
    assert hub.ask("POST", "api/start-one", json.dumps(given)).status == 200
    assert hub.end_of(unique)["output"] == {"shape": shape}
    if shape == "several":
        assert hub.end_of(f"{unique}-2")["output"] == {"shape": shape}


@pytest.mark.parametrize(
    "given",
    ['{"Input": 1}', '{"FunctionName": "nobody"}', '{"FunctionName": "echo", "InstanceId": "@x"}', '[{"Fun": "echo"}]'],
)
def test_a_bad_output_fails_the_function_that_put_it_out(hub: Hub, given: str) -> None:
    assert hub.ask("POST", "api/start-one", given).status == 500


# --- identity -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, MAX_INSTANCE_ID])
def test_an_id_may_have_1_to_256_characters(hub: Hub, unique: str, length: int) -> None:
    # A single character has to be one no other test uses.
    instance_id = "~" if length == 1 else unique[-length:].rjust(length, "x")
    assert start(hub, instance_id).status == 202
    assert hub.end_of(instance_id)["instanceId"] == instance_id


def test_an_id_of_257_characters_is_refused(hub: Hub) -> None:
    answer = start(hub, "x" * (MAX_INSTANCE_ID + 1))
    assert answer.status == 400
    assert "256" in answer.text


def test_an_empty_id_means_a_generated_one(hub: Hub) -> None:
    answer = hub.manage("POST", "orchestrators/echo/")
    assert (answer.status, len(answer.json()["id"])) == (202, 32)


def test_an_id_may_hold_an_at_sign_but_not_begin_with_one(hub: Hub, unique: str) -> None:
    assert start(hub, f"{unique}@example.org").status == 202
    assert start(hub, f"@{unique}").status == 400


@pytest.mark.parametrize("character", ["/", "\\", "#", "?", "\x00", "\x1f", "\x7f", "\x9f"])
def test_an_id_may_not_hold_reserved_or_control_characters(hub: Hub, unique: str, character: str) -> None:
    answer = start(hub, f"{unique}{character}x")
    assert answer.status == 400
    assert "not allowed" in answer.json()["ExceptionMessage"]


@pytest.mark.parametrize("character", [" ", "~", "\xa0", "ü", "漢", "😀", "%", "&", "+"])
def test_an_id_may_hold_what_lies_next_to_them(hub: Hub, unique: str, character: str) -> None:
    instance_id = f"{unique}{character}x"
    assert start(hub, instance_id).status == 202
    assert hub.end_of(instance_id)["instanceId"] == instance_id


def test_the_same_id_in_two_hubs_is_two_instances(hub: Hub, app_dir: Path, unique: str) -> None:
    with running_host(app_dir, "--storage", "sqlite:///:memory:") as (_, url):
        other = Hub(url)
        assert hub.run("echo", "one", unique)["output"] == "one"
        assert other.run("echo", "two", unique)["output"] == "two"
        assert hub.status(unique)["output"] == "one"


# --- querying -------------------------------------------------------------------------------------------


def test_a_query_answers_with_the_documented_properties(hub: Hub, unique: str) -> None:
    hub.run("echo", {"deep": [1, None, True]}, unique)
    status = hub.status(unique)
    assert list(status) == [
        "name",
        "instanceId",
        "runtimeStatus",
        "input",
        "customStatus",
        "output",
        "createdTime",
        "lastUpdatedTime",
    ]
    assert (status["name"], status["instanceId"], status["runtimeStatus"]) == ("echo", unique, "Completed")
    assert status["input"] == status["output"] == {"deep": [1, None, True]}
    created, updated = (datetime.fromisoformat(status[key]) for key in ("createdTime", "lastUpdatedTime"))
    assert created <= updated


def test_a_query_of_an_unknown_id_finds_nothing(hub: Hub, unique: str) -> None:
    answer = hub.manage("GET", f"instances/{unique}")
    assert (answer.status, answer.body) == (404, b"")


# --- terminating ----------------------------------------------------------------------------------------


def test_terminate_ends_a_waiting_instance_at_once_and_its_next_step_never_runs(
    hub: Hub, unique: str, tmp_path: Path
) -> None:
    gate, path = tmp_path / "gate", tmp_path / "lines"
    hub.start("step_by_step", [str(gate), str(path)], unique)
    hub.waits_for(unique, "TaskScheduled")
    assert hub.terminate(unique, "It was time to be done.").status == 202
    status = hub.end_of(unique)
    assert (status["runtimeStatus"], status["output"]) == ("Terminated", "It was time to be done.")
    gate.touch()
    hub.run("step_by_step", [str(gate), str(tmp_path / "others")])  # whatever was under way is through after this
    assert not path.exists()


def test_terminate_puts_the_reason_into_the_log(running: tuple[Process, Hub], unique: str) -> None:
    process, hub = running
    hub.start("nap", 3600, unique)
    hub.waits_for(unique)
    hub.terminate(unique, "because of " + unique)
    assert unique in process.until("because of " + unique)


# --- events ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [[1, 2, 3], {"a": {"b": []}}, "text", "", 0, -1.5, True, False, None, "漢字 😀"])
def test_an_event_carries_any_json(hub: Hub, unique: str, data: Any) -> None:
    hub.start("race", 3600, unique)
    assert hub.raise_event(unique, "hurry", data).status == 202
    assert hub.end_of(unique)["output"] == data


def test_an_event_for_a_missing_instance_is_refused_and_not_kept(hub: Hub, unique: str) -> None:
    assert hub.raise_event(unique, "hurry", 1).status == 404
    assert hub.run("race", 0.05, unique)["output"] == "too late"


def test_an_event_nobody_waits_for_yet_is_kept_until_somebody_does(hub: Hub, unique: str, tmp_path: Path) -> None:
    hub.start("collect", str(tmp_path / "lines"), unique)
    hub.raise_event(unique, "go", "early")
    assert hub.end_of(unique)["output"] == ["first", "early", "second"]


# --- durability and replay ------------------------------------------------------------------------------


def test_an_instance_goes_on_in_the_next_process_with_its_local_variables(app_dir: Path, tmp_path: Path) -> None:
    lines, storage = tmp_path / "lines", f"sqlite:///{tmp_path}/hub.db"
    logged = []
    for number in range(3):
        with running_host(app_dir, "--storage", storage) as (process, url):
            hub = Hub(url)
            if number == 0:
                hub.start("collect", str(lines), "wanderer")
                hub.start("nap", 0.5, "sleeper")
                hub.until(
                    "wanderer",
                    lambda status: "TaskCompleted" in [each["EventType"] for each in status.get("historyEvents", ())],
                    showHistory="true",
                )
            if number == 2:
                hub.raise_event("wanderer", "go", "now")
                # Local variables are rebuilt, and the first activity is not run again.
                assert hub.end_of("wanderer")["output"] == ["first", "now", "second"]
                assert hub.end_of("sleeper")["output"] == "woken"
            process.signal(signal.SIGKILL if number == 0 else signal.SIGINT)
            process.wait()
            logged += process.lines
    assert lines.read_text(encoding="utf-8").split() == ["first", "second"]
    safe = [line.rpartition("safe: ")[2] for line in logged if "safe: " in line]
    assert safe == ["begun", "first done", "all done"]
    plain = [line.rpartition("plain: ")[2] for line in logged if "plain: " in line]
    assert plain.count("begun") > 1, "a plain logger repeats itself in a replay"
    assert any("wanderer" in line for line in logged), "logs are searched by instance id"


def test_the_orchestrators_clock_is_the_timestamp_of_its_turn(hub: Hub, unique: str) -> None:
    output = hub.run("clock", None, unique)["output"]
    began = [each["Timestamp"] for each in hub.history(unique) if each["EventType"] == "OrchestratorStarted"]
    assert [datetime.fromisoformat(each) for each in output] == [datetime.fromisoformat(each) for each in began]


def test_the_history_has_the_documented_types_of_event(hub: Hub, unique: str) -> None:
    hub.start("race", 3600, unique)
    hub.raise_event(unique, "hurry", {"n": 1})
    hub.end_of(unique)
    events = hub.history(unique)
    by_type = {event["EventType"]: event for event in events}
    assert {"TimerCreated", "TimerFired", "EventRaised"} < set(by_type)
    assert by_type["TimerFired"]["FireAt"] == next(e for e in events if e["EventType"] == "TimerCreated")["FireAt"]
    assert (by_type["EventRaised"]["Name"], by_type["EventRaised"]["Input"]) == ("hurry", '{"n":1}')


# --- children, timers, failures -------------------------------------------------------------------------


def test_children_run_in_sequence_and_in_parallel(hub: Hub) -> None:
    assert hub.run("family")["output"] == ["ONE", "TWO", "THREE"]


def test_a_timer_delays_and_another_one_ends_a_wait(hub: Hub) -> None:
    assert hub.run("race", 0.01)["output"] == "too late"


@pytest.mark.parametrize("kind", ["activity", "child"])
def test_a_retry_policy_tries_activities_and_children_again(hub: Hub, tmp_path: Path, kind: str) -> None:
    path = str(tmp_path / "tries")
    status = hub.run("persistent", [kind, [path, 3], 5])
    assert status["output"] == 3
    delays = [e for e in hub.history(status["instanceId"]) if e["EventType"] == "TimerFired"]
    assert len(delays) == 2


@pytest.mark.parametrize("kind", ["activity", "child"])
def test_after_the_last_attempt_the_last_error_is_raised_and_can_be_caught(hub: Hub, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "tries"
    output = hub.run("persistent", [kind, [str(path), 9], 2])["output"]
    assert output.startswith("caught: ")
    assert "try 2 failed" in output
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2


def test_an_unhandled_exception_fails_the_instance_for_good(hub: Hub, unique: str) -> None:
    status = hub.run("doomed", None, unique)
    assert status["runtimeStatus"] == "Failed"
    assert status["output"] == "Orchestrator function 'doomed' failed: so it goes"
    assert hub.raise_event(unique, "go").status == 410
    assert hub.terminate(unique).status == 410


def test_a_failed_activity_names_itself_in_the_output(hub: Hub) -> None:
    status = hub.run("shout", "")
    assert status["runtimeStatus"] == "Failed"
    assert "Activity function 'upper' failed: ValueError: there is nothing to shout" in " ".join(
        status["output"].split()
    )


def test_a_tuple_goes_through_an_activity_and_an_object_comes_back(hub: Hub) -> None:
    assert hub.run("courses")["output"] == {"major": "ComputerScience", "year": 2}


def test_the_documented_programs_are_shipped() -> None:
    shipped = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "samples").glob("*/blueprint.py"))
    programs = (
        "HelloWorldManualStart",
        "GetStatus",
        "TerminateInstance",
        "RaiseEvent",
        "E1_HelloSequence",
        "E1_SayHello",
        "GetCourseRecommendations",
        "CourseRecommendations",
    )
    assert [name for name in programs if f'"{name}"' not in shipped] == []
