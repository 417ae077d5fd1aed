"""Another process changes the instance after a turn was begun and before it is committed."""

from __future__ import annotations

from typing import Any

import pytest
from fault_scenarios import SCENARIOS
from test_crashes import check_ends

ALONE = [
    "a_chain",
    "a_chain_in_a_coroutine",
    "a_fan_out",
    "any_of_timer_event_and_activity",
    "retries_with_timers",
    "asyncio_inside",
    "an_end_before_its_timers_and_activities",
    "late_outcomes_of_former_generations",
]


@pytest.mark.parametrize("name", ALONE)
def test_an_instance_replaced_during_any_turn_runs_anew_to_the_same_end(lab: Any, name: str) -> None:
    answer = lab.run("every_moment", name=name, kind="replace", methods=["commit"], sides=["before"])
    assert len(answer["outcomes"]) >= answer["baseline"]["calls"]["commit"]
    for outcome in answer["outcomes"]:
        check_ends(name, outcome)
        assert outcome["letters"] == []
        if not SCENARIOS[name].is_racy:
            assert outcome["instances"] == answer["baseline"]["instances"]


@pytest.mark.parametrize("name", ALONE)
def test_an_instance_terminated_during_any_turn_ends_one_way_or_the_other(lab: Any, name: str) -> None:
    answer = lab.run("every_moment", name=name, kind="terminate", methods=["commit"], sides=["before"])
    ends = []
    for outcome in answer["outcomes"]:
        ((instance_id, account),) = outcome["instances"].items()
        ends.append(account["status"])
        assert account["status"] in ("Completed", "Terminated")
        if account["status"] == "Completed":
            assert account["output"] == answer["baseline"]["instances"][instance_id]["output"]
        else:
            assert account["output"] == "by somebody else"
        assert outcome["letters"] == []
    if not SCENARIOS[name].is_racy:
        assert "Terminated" in ends


@pytest.mark.parametrize("name", ["an_end_before_its_timers_and_activities", "restart_and_purge"])
def test_an_instance_purged_and_started_anew_during_a_late_turn_runs_to_the_same_end(lab: Any, name: str) -> None:
    answer = lab.run("every_moment", name=name, kind="recreate", methods=["commit"], sides=["before"])
    for outcome in answer["outcomes"]:
        check_ends(name, outcome)
        assert outcome["letters"] == []
