"""Functions that kill their process are found and given up, and nobody else is."""

from __future__ import annotations

from typing import Any

import pytest
from fault_killers import INNOCENTS
from test_crashes import check_ends

from durable_ext.runtime.activities import MAX_DELIVERIES
from durable_ext.runtime.verdicts import MAX_DEATHS


def check_innocents(outcome: dict[str, Any]) -> None:
    for each in INNOCENTS:
        outcomes = outcome["instances"][each]["outcomes"]
        assert outcomes == [[0, "TaskCompleted", "3"], [1, "TaskCompleted", "6"], [2, "TaskCompleted", "7"]]


def test_an_activity_that_kills_its_process_fails_after_five_runs_and_alone(lab: Any) -> None:
    answer = lab.run("until_it_ends", name="an_activity_that_kills")
    outcome = answer["outcome"]
    check_ends("an_activity_that_kills", outcome)
    check_innocents(outcome)
    assert answer["lives"] == MAX_DELIVERIES + 1
    output = outcome["instances"]["killer"]["output"]
    assert "ActivityProcessLostError" in output
    assert "'kill_the_process' was started 5 times" in output
    ((kind, instance_id, name, reason),) = outcome["letters"]
    assert (kind, instance_id, name) == ("activity", "killer", "kill_the_process")
    assert "was started 5 times" in reason


@pytest.mark.parametrize("name", ["an_orchestrator_that_kills_at_once", "an_orchestrator_that_kills_later"])
def test_an_orchestrator_that_kills_its_process_is_given_up_alone(lab: Any, name: str) -> None:
    answer = lab.run("until_it_ends", name=name)
    outcome = answer["outcome"]
    check_ends(name, outcome)
    check_innocents(outcome)
    assert answer["lives"] == MAX_DEATHS + 1
    assert "times the process died over a turn of instance 'killer'" in outcome["instances"]["killer"]["output"]
    ((kind, instance_id, _, _),) = outcome["letters"]
    assert (kind, instance_id) == ("orchestrator", "killer")


def test_killers_of_both_kinds_are_given_up_and_nobody_else(lab: Any) -> None:
    answer = lab.run("until_it_ends", name="killers_of_both_kinds")
    outcome = answer["outcome"]
    check_ends("killers_of_both_kinds", outcome)
    check_innocents(outcome)
    assert [letter[:2] for letter in outcome["letters"]] == [
        ["activity", "killer-2"],
        ["orchestrator", "killer-1"],
    ]
