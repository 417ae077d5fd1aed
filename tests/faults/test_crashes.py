"""The process dies before and after every store call of every scenario; the next one brings it to the same end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fault_scenarios import SCENARIOS
from faulty_store import BY_CLIENTS, BY_THE_WORKER

ALL = [name for name, each in SCENARIOS.items() if not each.kills]
METHODS = [*BY_THE_WORKER, *BY_CLIENTS]


def check_ends(name: str, outcome: dict[str, Any]) -> None:
    """The instances ended as the scenario says they do."""
    for instance_id, (status, output) in SCENARIOS[name].ends.items():
        account = outcome["instances"][instance_id]
        assert account["status"] == status
        if status == "Completed":
            assert json.loads(account["output"] or "null") == output


@pytest.mark.parametrize("name", ALL)
def test_a_crash_at_any_store_call_changes_nothing(lab: Any, name: str) -> None:
    answer = lab.run("every_moment", name=name, kind="die", methods=METHODS, sides=["before", "after"])
    check_ends(name, answer["baseline"])
    assert answer["baseline"]["letters"] == []
    calls = sum(answer["baseline"]["calls"].values())
    assert answer["cases"] >= 2 * calls, "every call was struck on both sides"


@pytest.mark.parametrize("name", ALL)
def test_crashes_again_and_again_change_nothing(lab: Any, name: str) -> None:
    lab.run("storms", name=name, seeds=[1, 2], methods=METHODS)
