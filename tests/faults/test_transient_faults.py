"""A store call fails once, having done nothing; the same process goes on to the same end."""

from __future__ import annotations

from typing import Any

import pytest
from fault_scenarios import SCENARIOS
from faulty_store import BY_CLIENTS, BY_THE_WORKER


@pytest.mark.parametrize("name", [name for name, each in SCENARIOS.items() if not each.kills])
def test_a_store_call_that_fails_once_is_made_up_for(lab: Any, name: str) -> None:
    answer = lab.run("every_moment", name=name, kind="fail", methods=[*BY_THE_WORKER, *BY_CLIENTS], sides=["before"])
    assert answer["cases"] >= sum(answer["baseline"]["calls"].values())
