"""Steering instances over HTTP, against a real host: suspend, resume, restart, rewind, purge, list, wait."""

from __future__ import annotations

from typing import Any

import pytest
from e2e_hub import Answer, Hub


def test_a_suspended_instance_keeps_what_arrives_and_goes_on_when_resumed(hub: Hub, unique: str) -> None:
    hub.start("WaitForMyEvent", None, unique)
    assert hub.manage("POST", f"instances/{unique}/suspend", reason="lunch").status == 202
    suspended = hub.until(unique, lambda status: status["runtimeStatus"] == "Suspended")
    assert suspended["output"] == "lunch"
    assert hub.ask("POST", f"api/RaiseEvent/{unique}").status == 202
    assert hub.manage("POST", f"instances/{unique}/resume", reason="back").status == 202
    assert hub.end_of(unique)["output"] == {"received": [1, 2, 3], "sum": 6}


def test_a_restart_runs_the_same_input_again_under_a_new_id(hub: Hub, unique: str) -> None:
    hub.run("HelloWorld", "Ada", unique)
    answer = hub.manage("POST", f"instances/{unique}/restart")
    assert answer.status == 202
    assert answer.json()["id"] != unique
    assert hub.end_of(answer.json()["id"])["output"] == "Hello Ada!"


def test_a_restart_under_the_same_id_needs_an_instance_that_has_ended(hub: Hub, unique: str) -> None:
    hub.start("WaitForMyEvent", None, unique)
    again = ("POST", f"instances/{unique}/restart")
    assert hub.manage(*again, restartWithNewInstanceId="false").status == 409
    hub.terminate(unique)
    hub.end_of(unique)
    assert hub.manage(*again, restartWithNewInstanceId="false").json()["id"] == unique
    assert hub.ask("POST", f"api/RaiseEvent/{unique}").status == 202
    assert hub.end_of(unique)["output"]["sum"] == 6


def test_a_rewind_runs_what_failed_again(hub: Hub, unique: str) -> None:
    hub.run("GetCourseRecommendations", "no year", unique)
    assert types(hub, unique).count("TaskFailed") == 1
    assert hub.manage("POST", f"instances/{unique}/rewind", reason="once more").status == 202
    hub.until(unique, lambda status: types(hub, unique).count("TaskFailed") == 2)
    assert hub.end_of(unique)["runtimeStatus"] == "Failed"


def types(hub: Hub, instance_id: str) -> list[str]:
    return [each["EventType"] for each in hub.history(instance_id)]


def test_only_what_has_ended_can_be_purged(hub: Hub, unique: str) -> None:
    hub.start("Patience", None, unique)
    assert hub.manage("DELETE", f"instances/{unique}").status == 412
    hub.terminate(unique)
    hub.end_of(unique)
    purged = hub.manage("DELETE", f"instances/{unique}")
    assert (purged.status, purged.json()) == (200, {"instancesDeleted": 1})
    assert hub.manage("DELETE", f"instances/{unique}").status == 404
    assert hub.manage("GET", f"instances/{unique}").status == 404


@pytest.mark.parametrize("verb", ["terminate", "suspend", "resume", "rewind", "raiseEvent/x"])
def test_steering_an_unknown_instance_is_404(hub: Hub, unique: str, verb: str) -> None:
    assert hub.manage("POST", f"instances/{unique}/{verb}", "null").status == 404


@pytest.mark.parametrize("verb", ["terminate", "suspend", "resume", "rewind", "raiseEvent/x"])
def test_steering_an_instance_that_has_completed_is_410(hub: Hub, unique: str, verb: str) -> None:
    hub.run("HelloWorld", None, unique)
    assert hub.manage("POST", f"instances/{unique}/{verb}", "null").status == 410


def test_a_second_start_of_a_live_id_is_409(hub: Hub, unique: str) -> None:
    hub.start("Patience", None, unique)
    answer = hub.manage("POST", f"orchestrators/Patience/{unique}")
    assert answer.status == 409
    assert "already exists" in answer.json()["Message"]
    hub.terminate(unique)


@pytest.mark.parametrize(
    ("path", "body"),
    [("orchestrators/E1_HelloSequence", "{no json"), ("orchestrators/NoSuchOrchestrator", "null")],
)
def test_a_bad_start_is_400_and_starts_nothing(hub: Hub, path: str, body: str) -> None:
    assert hub.manage("POST", path, body).status == 400


def test_an_event_must_be_json(hub: Hub, unique: str) -> None:
    hub.start("WaitForMyEvent", None, unique)
    path = f"api/durabletask/instances/{unique}/raiseEvent/MyEvent"
    assert hub.ask("POST", path, "[1]", content_type="text/plain").status == 400
    assert hub.ask("POST", path, "[1", content_type="application/json").status == 400
    assert hub.ask("POST", path, "[1]", content_type="application/json").status == 202
    assert hub.end_of(unique)["output"]["sum"] == 1


def test_instances_are_listed_page_by_page(hub: Hub, unique: str) -> None:
    ids = [f"{unique}-{number}" for number in range(5)]
    for each in ids:
        hub.start("HelloWorld", None, each)
    found: list[Any] = []
    token = ""
    while True:
        page = page_of(hub, token, instanceIdPrefix=unique, top=2)
        assert len(page.json()) <= 2
        found += page.json()
        token = page.headers.get("x-ms-continuation-token") or ""
        if not token:
            break
    assert [each["instanceId"] for each in found] == ids


def page_of(hub: Hub, token: str, **query: Any) -> Answer:
    return hub.ask("GET", "api/durabletask/instances", headers={"x-ms-continuation-token": token}, **query)


def test_a_start_that_waits_answers_with_the_output_or_with_where_to_look(hub: Hub) -> None:
    quick = hub.manage("POST", "orchestrators/E1_HelloSequence", timeout=20, pollingInterval=1)
    assert (quick.status, quick.json()[0]) == (200, "Hello Tokyo!")
    slow = hub.manage("POST", "orchestrators/Patience", timeout=0.01, pollingInterval=0.01)
    assert slow.status == 202
    hub.terminate(slow.json()["id"])


def test_a_wait_that_is_shorter_than_its_interval_is_refused(hub: Hub) -> None:
    assert hub.manage("POST", "orchestrators/HelloWorld", timeout=1, pollingInterval=2).status == 400
