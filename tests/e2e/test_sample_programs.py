"""The programs of the Durable Functions docs, over HTTP: HelloSequence and the management of instances."""

from __future__ import annotations

import json

import pytest
from e2e_hub import Hub

# --- hello_sequence -------------------------------------------------------------------------------------


def test_hello_sequence_greets_three_cities(hub: Hub) -> None:
    started = hub.ask("POST", "api/orchestrators/E1_HelloSequence")
    assert started.status == 202
    assert started.headers["Location"] == started.json()["statusQueryGetUri"]
    status = hub.end_of(started.json()["id"])
    assert (status["name"], status["runtimeStatus"]) == ("E1_HelloSequence", "Completed")
    assert status["output"] == ["Hello Tokyo!", "Hello Seattle!", "Hello London!"]


def test_http_start_passes_its_body_on_as_the_input(hub: Hub) -> None:
    started = hub.ask("POST", "api/orchestrators/HelloWorld", '"Ada"')
    assert hub.end_of(started.json()["id"])["output"] == "Hello Ada!"


def test_http_start_of_an_unknown_orchestrator_is_404_and_names_the_known(hub: Hub) -> None:
    answer = hub.ask("POST", "api/orchestrators/E1_HelloSeqence")
    assert answer.status == 404
    assert "'E1_HelloSequence'" in answer.text


def test_http_start_refuses_a_body_that_is_not_json(hub: Hub) -> None:
    answer = hub.ask("POST", "api/orchestrators/E1_HelloSequence", "{no json")
    assert answer.status == 400


# --- hello_world_manual_start ---------------------------------------------------------------------------


def test_manual_start_through_the_output_binding_runs_under_the_id_it_names(hub: Hub) -> None:
    answer = hub.ask("POST", "api/HelloWorldManualStart", "Ada", content_type="text/plain")
    assert answer.status == 202
    status = hub.end_of(answer.json()["id"])
    assert (status["name"], status["input"], status["output"]) == ("HelloWorld", "Ada", "Hello Ada!")


def test_manual_start_without_a_body_greets_the_world(hub: Hub) -> None:
    answer = hub.ask("POST", "api/HelloWorldManualStart")
    assert hub.end_of(answer.json()["id"])["output"] == "Hello world!"


def test_manual_start_with_the_client_takes_the_callers_id(hub: Hub, unique: str) -> None:
    answer = hub.ask("POST", f"api/HelloWorldManualStart/client/{unique}", "Ada")
    assert (answer.status, answer.json()["id"]) == (202, unique)
    assert hub.end_of(unique)["output"] == "Hello Ada!"


def test_manual_start_with_the_client_makes_an_id_if_there_is_none(hub: Hub) -> None:
    answer = hub.ask("POST", "api/HelloWorldManualStart/client", "Ada")
    assert len(answer.json()["id"]) == 32


def test_manual_start_refuses_an_id_that_breaks_the_rules(hub: Hub) -> None:
    answer = hub.ask("POST", "api/HelloWorldManualStart/client/%40entity", "Ada")
    assert answer.status == 400
    assert "'@'" in answer.text


# --- get_status -----------------------------------------------------------------------------------------


def test_get_status_of_a_finished_instance_has_every_property(hub: Hub, unique: str) -> None:
    hub.run("Countdown", {"start": 2, "seconds": 0.01}, unique)
    answer = hub.ask("GET", f"api/GetStatus/{unique}")
    assert answer.status == 200
    status = answer.json()
    assert (status["name"], status["instanceId"]) == ("Countdown", unique)
    assert status["createdTime"] <= status["lastUpdatedTime"]
    assert status["input"] == {"start": 2, "seconds": 0.01}
    assert status["output"] == "lift-off"
    assert (status["runtimeStatus"], status["customStatus"]) == ("Completed", {"left": 0})


def test_get_status_shows_progress_while_the_instance_runs(hub: Hub, unique: str) -> None:
    hub.start("Countdown", {"start": 3, "seconds": 3600}, unique)
    hub.waits_for(unique)
    status = hub.ask("GET", f"api/GetStatus/{unique}").json()
    assert (status["runtimeStatus"], status["customStatus"], status["output"]) == ("Running", {"left": 3}, None)
    hub.terminate(unique)


def test_get_status_of_an_unknown_instance_is_null(hub: Hub, unique: str) -> None:
    answer = hub.ask("GET", f"api/GetStatus/{unique}")
    assert (answer.status, answer.json()) == (404, None)


def test_an_input_that_does_not_fit_fails_the_instance_and_says_why(hub: Hub) -> None:
    status = hub.run("Countdown", {"start": "ten"})
    assert status["runtimeStatus"] == "Failed"
    assert "Expected `int`, got `str` - at `$.start`" in status["output"]


# --- terminate_instance ---------------------------------------------------------------------------------


def test_terminate_instance_stops_a_waiting_instance_with_its_reason(hub: Hub, unique: str) -> None:
    hub.start("Patience", None, unique)
    assert hub.ask("POST", f"api/TerminateInstance/{unique}").status == 202
    status = hub.end_of(unique)
    assert (status["runtimeStatus"], status["output"]) == ("Terminated", "It was time to be done.")


def test_terminate_instance_of_an_unknown_instance_is_404(hub: Hub, unique: str) -> None:
    assert hub.ask("POST", f"api/TerminateInstance/{unique}").status == 404


def test_terminate_instance_leaves_an_ended_instance_as_it_is(hub: Hub, unique: str) -> None:
    hub.run("HelloWorld", "Ada", unique)
    assert hub.ask("POST", f"api/TerminateInstance/{unique}").status == 202
    assert hub.status(unique)["output"] == "Hello Ada!"


# --- raise_event ----------------------------------------------------------------------------------------


def test_raise_event_delivers_the_numbers(hub: Hub, unique: str) -> None:
    hub.start("WaitForMyEvent", None, unique)
    assert hub.ask("POST", f"api/RaiseEvent/{unique}").status == 202
    assert hub.end_of(unique)["output"] == {"received": [1, 2, 3], "sum": 6}


def test_raise_event_to_an_unknown_instance_is_404(hub: Hub, unique: str) -> None:
    assert hub.ask("POST", f"api/RaiseEvent/{unique}").status == 404


def test_raise_event_to_an_ended_instance_is_410(hub: Hub, unique: str) -> None:
    hub.run("HelloWorld", "Ada", unique)
    assert hub.ask("POST", f"api/RaiseEvent/{unique}").status == 410


def test_an_event_of_another_type_than_expected_fails_the_instance(hub: Hub, unique: str) -> None:
    hub.start("WaitForMyEvent", None, unique)
    hub.raise_event(unique, "MyEvent", "not numbers")
    status = hub.end_of(unique)
    assert status["runtimeStatus"] == "Failed"
    assert "does not fit" in status["output"]


# --- course_recommendations -----------------------------------------------------------------------------


def test_several_values_go_through_one_input(hub: Hub) -> None:
    answer = hub.manage("POST", "orchestrators/GetCourseRecommendations", "3", timeout=20, pollingInterval=1)
    assert answer.status == 200
    assert answer.json() == {
        "major": "ComputerScience",
        "universityYear": 3,
        "recommendedCourses": [
            "Introduction to .NET Programming",
            "Introduction to Linux",
            "Becoming an Entrepreneur",
        ],
    }


@pytest.mark.parametrize("year", [None, "third", 3.5])
def test_a_value_of_the_wrong_type_fails_the_activity(hub: Hub, year: object) -> None:
    answer = hub.manage(
        "POST",
        "orchestrators/GetCourseRecommendations",
        json.dumps(year),
        timeout=20,
        pollingInterval=1,
        returnInternalServerErrorOnFailure="true",
    )
    assert answer.status == 500
    assert "CourseRecommendations" in answer.json()["output"]
