"""Both ways to write an orchestrator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from engine_hub import as_coroutine


@pytest.fixture(params=["generator", "coroutine"])
def form(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Turns a generator orchestrator into the form under test."""
    return as_coroutine if request.param == "coroutine" else lambda orchestrator: orchestrator
