"""Functions that kill their process are found and given up, and nobody else is."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from fault_killers import INNOCENTS, KILLERS_OF_A_KIND, ROUNDS, WAYS
from fault_scenarios import SCENARIOS
from test_crashes import check_ends

from durable_ext.runtime.children import MOST
from durable_ext.runtime.quarantine import MOST_ALONE, MOST_DEATHS

LIVES_ALONE = 1 + MOST_ALONE + 1
"""One that dies with others beside, those that die of it alone, and the one that gives it up."""


def check_innocents(outcome: dict[str, Any]) -> None:
    for each in INNOCENTS:
        outcomes = outcome["instances"][each]["outcomes"]
        assert outcomes == [[0, "TaskCompleted", "3"], [1, "TaskCompleted", "6"], [2, "TaskCompleted", "7"]]


# --- many of them, with children to run them in --------------------------------------------------------


@pytest.mark.parametrize("seed", range(1, ROUNDS + 1))
def test_twenty_killers_among_the_healthy_are_given_up_and_nobody_else(lab: Any, seed: int) -> None:
    name = f"killers_{seed}"
    answer = lab.run("until_it_ends", name=name)
    outcome = answer["outcome"]
    check_ends(name, outcome)
    killers = {each for each in SCENARIOS[name].ends if each.startswith("killer")}
    assert {each["status"] for key, each in outcome["instances"].items() if key not in killers} == {"Completed"}
    for each in killers:
        assert f"killed its process twice: {_how(each)}" in outcome["instances"][each]["output"]
    assert sorted(letter[1] for letter in outcome["letters"]) == sorted(killers)

    assert answer["lives"] - 1 < 2 * KILLERS_OF_A_KIND, "fewer hosts died than there are killers"
    by_function = Counter(each.split()[1] for each in answer["deaths"] if each.startswith("host"))
    assert max(by_function.values()) <= 2, by_function
    in_children = sum(each.startswith("child") for each in answer["deaths"])
    # A host that dies takes the children with it that are at something.
    assert in_children <= MOST_DEATHS * len(killers) + MOST * (answer["lives"] - 1)


def _how(killer: str) -> str:
    return WAYS[killer.rpartition("-")[2]][1]


# --- where no child can be had -------------------------------------------------------------------------


def test_an_activity_that_kills_whatever_runs_it_is_given_up_alone(lab: Any) -> None:
    answer = lab.run("until_it_ends", name="an_activity_that_kills")
    outcome = answer["outcome"]
    check_ends("an_activity_that_kills", outcome)
    check_innocents(outcome)
    assert answer["lives"] == LIVES_ALONE
    assert "activity 'activity_exit' killed its process 3 times" in outcome["instances"]["killer"]["output"]
    ((kind, instance_id, name, reason),) = outcome["letters"]
    assert (kind, instance_id, name) == ("activity", "killer", "activity_exit")
    assert "killed its process 3 times" in reason


@pytest.mark.parametrize("name", ["an_orchestrator_that_kills_at_once", "an_orchestrator_that_kills_later"])
def test_an_orchestrator_that_kills_whatever_runs_it_is_given_up_alone(lab: Any, name: str) -> None:
    answer = lab.run("until_it_ends", name=name)
    outcome = answer["outcome"]
    check_ends(name, outcome)
    check_innocents(outcome)
    assert answer["lives"] == LIVES_ALONE
    assert "the turn of instance 'killer' killed its process 3 times" in outcome["instances"]["killer"]["output"]
    ((kind, instance_id, _, _),) = outcome["letters"]
    assert (kind, instance_id) == ("orchestrator", "killer")


def test_killers_of_both_kinds_are_given_up_and_nobody_else(lab: Any) -> None:
    answer = lab.run("until_it_ends", name="killers_of_both_kinds")
    outcome = answer["outcome"]
    check_ends("killers_of_both_kinds", outcome)
    check_innocents(outcome)
    assert [letter[:2] for letter in outcome["letters"]] == [["activity", "killer-2"], ["orchestrator", "killer-1"]]
    assert answer["lives"] <= 2 * LIVES_ALONE


# --- killed from outside -------------------------------------------------------------------------------


def test_a_crash_loop_right_after_the_start_blames_nobody(lab: Any) -> None:
    answer = lab.run("until_it_ends", name="nobody_kills", kills=12)
    check_ends("nobody_kills", answer["outcome"])
    check_innocents(answer["outcome"])
    assert answer["outcome"]["letters"] == []
    assert answer["lives"] == 13
