"""The patterns of Durable Functions, over HTTP."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from e2e_hub import Hub

# --- chaining -------------------------------------------------------------------------------------------


def test_a_chain_passes_each_result_on(hub: Hub) -> None:
    status = hub.run("ProcessOrder", {"item": "book", "amount": 12})
    assert status["output"] == {"done": True, "shipment": "shipped: reservation of book, payment of 12"}


def test_a_chain_that_fails_for_good_is_undone(hub: Hub) -> None:
    status = hub.run("ProcessOrder", {"item": "yacht", "amount": 5000, "retry_after_seconds": 0.01})
    assert status["runtimeStatus"] == "Completed"
    assert status["output"] == {
        "done": False,
        "because": "5000 is more than the card's limit of 100",
        "attempts": 3,
        "undone": "reservation of yacht released",
    }


def test_an_order_without_an_amount_fails_before_anything_is_reserved(hub: Hub) -> None:
    status = hub.run("ProcessOrder", {"item": "book"})
    assert status["runtimeStatus"] == "Failed"
    assert "amount" in status["output"]
    assert "TaskScheduled" not in [each["EventType"] for each in hub.history(status["instanceId"])]


# --- fan_out_fan_in -------------------------------------------------------------------------------------


def test_fan_in_keeps_the_order_of_the_calls(hub: Hub) -> None:
    texts = ["word " * count for count in range(100)]
    status = hub.run("CountWords", texts)
    assert status["output"] == {"each": list(range(100)), "total": sum(range(100))}


def test_fan_out_over_nothing_is_done_at_once(hub: Hub) -> None:
    assert hub.run("CountWords", [])["output"] == {"each": [], "total": 0}


def test_one_failed_branch_fails_the_fan_in(hub: Hub) -> None:
    status = hub.run("CountWords", ["one", 2, "three"])
    assert status["runtimeStatus"] == "Failed"
    assert "only texts have words, and this is 2" in status["output"]


# --- async_http_api -------------------------------------------------------------------------------------


def test_a_long_request_is_answered_with_a_url_to_poll(hub: Hub) -> None:
    started = hub.ask("POST", "api/reports", '{"pages": 2, "seconds": 0.05}')
    assert (started.status, started.headers["Retry-After"]) == (202, "10")
    hub.end_of(started.json()["id"])
    polled = hub.ask("GET", started.headers["Location"])
    assert (polled.status, polled.json()["output"]) == (200, {"pages": ["page 1", "page 2"]})


def test_a_client_that_waits_gets_the_report_itself(hub: Hub) -> None:
    answer = hub.ask("POST", "api/reports?wait=20", '{"pages": 1, "seconds": 0}')
    assert (answer.status, answer.json()) == (200, {"pages": ["page 1"]})


def test_a_client_that_waits_too_short_gets_the_url(hub: Hub) -> None:
    answer = hub.ask("POST", "api/reports?wait=0.01", '{"pages": 1, "seconds": 3600}')
    assert answer.status == 202
    assert hub.ask("GET", answer.json()["statusQueryGetUri"]).status == 202
    assert hub.ask("POST", answer.json()["terminatePostUri"].replace("{text}", "enough")).status == 202
    assert hub.end_of(answer.json()["id"])["output"] == "enough"


@pytest.mark.parametrize("body", ["", "{", "{}", '{"pages": "many"}'])
def test_a_bad_report_request_is_refused_before_anything_starts(hub: Hub, body: str) -> None:
    assert hub.ask("POST", "api/reports", body).status == 400


# --- monitor --------------------------------------------------------------------------------------------


def test_the_monitor_sees_the_file_once_it_is_there(hub: Hub, tmp_path: Path, unique: str) -> None:
    path = tmp_path / "report.txt"
    hub.start("WaitForFile", {"path": str(path), "every_seconds": 0.05, "for_seconds": 60}, unique)
    hub.until(unique, lambda status: status["customStatus"] is not None)
    path.write_text("ready", encoding="utf-8")
    output = hub.end_of(unique)["output"]
    assert (output["found"], output["size"]) == (True, 5)
    assert output["looks"] >= 2


def test_the_monitor_gives_up_when_time_is_up(hub: Hub, tmp_path: Path) -> None:
    watch = {"path": str(tmp_path / "never"), "every_seconds": 0.02, "for_seconds": 0.05}
    output = hub.run("WaitForFile", watch)["output"]
    assert output["found"] is False
    assert output["looks"] >= 2


# --- human_interaction ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "outcome"), [(True, "approved"), (False, "rejected")])
def test_the_answer_decides(hub: Hub, unique: str, answer: bool, outcome: str) -> None:
    hub.start("ApprovalWorkflow", {"what": "two weeks in May"}, unique)
    hub.waits_for(unique)
    assert hub.status(unique)["customStatus"] == "asked: may we have two weeks in May?"
    hub.raise_event(unique, "approval", answer)  # names compare without case
    assert hub.end_of(unique)["output"] == outcome


def test_without_an_answer_it_is_escalated(hub: Hub) -> None:
    status = hub.run("ApprovalWorkflow", {"what": "a raise", "answer_within_seconds": 0.05})
    assert status["output"] == "no answer about a raise: asked the manager's manager"


def test_an_answer_before_the_question_counts(hub: Hub, unique: str) -> None:
    hub.start("ApprovalWorkflow", {"what": "a raise", "answer_within_seconds": 3600}, unique)
    hub.raise_event(unique, "Approval", True)
    assert hub.end_of(unique)["output"] == "approved"


def test_an_answer_that_comes_too_late_is_gone(hub: Hub, unique: str) -> None:
    hub.run("ApprovalWorkflow", {"what": "a raise", "answer_within_seconds": 0.01}, unique)
    assert hub.raise_event(unique, "Approval", True).status == 410


# --- eternal --------------------------------------------------------------------------------------------


def test_an_eternal_orchestration_goes_on_with_a_short_history_until_it_is_stopped(hub: Hub, unique: str) -> None:
    hub.start("PeriodicCleanup", {"every_seconds": 0.02}, unique)
    hub.until(unique, lambda status: status["input"].get("rounds", 0) >= 5)
    assert len(hub.history(unique)) < 20
    assert hub.raise_event(unique, "Stop", True).status == 202
    status = hub.end_of(unique)
    assert status["runtimeStatus"] == "Completed"
    assert status["output"] == status["customStatus"] == f"cleaned up for the {status['input']['rounds'] + 1}. time"


def test_an_eternal_orchestration_can_be_terminated(hub: Hub, unique: str) -> None:
    hub.start("PeriodicCleanup", {"every_seconds": 3600}, unique)
    hub.waits_for(unique)
    hub.terminate(unique, "enough")
    status = hub.end_of(unique)
    assert (status["runtimeStatus"], status["output"]) == ("Terminated", "enough")


# --- singleton ------------------------------------------------------------------------------------------


def test_of_many_starts_at_once_exactly_one_succeeds(hub: Hub, unique: str) -> None:
    everybody = threading.Barrier(8)

    def start(_: int) -> int:
        everybody.wait()
        return hub.ask("POST", f"api/backups/{unique}", '{"seconds": 3600}').status

    with ThreadPoolExecutor(8) as pool:
        answers = sorted(pool.map(start, range(8)))
    assert answers == [202] + [409] * 7
    hub.terminate(f"backup-{unique}")


def test_the_id_is_free_again_once_the_instance_has_ended(hub: Hub, unique: str) -> None:
    for _ in range(2):
        assert hub.ask("POST", f"api/backups/{unique}", '{"seconds": 0.01}').status == 202
        assert hub.end_of(f"backup-{unique}")["output"] == f"backup-{unique} is backed up"


def test_a_bad_plan_is_refused(hub: Hub, unique: str) -> None:
    assert hub.ask("POST", f"api/backups/{unique}", '{"seconds": "long"}').status == 400
