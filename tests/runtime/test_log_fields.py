"""The fields that log records carry for format strings."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from durable_ext.runtime.logs import ActivityLogFilter


@pytest.mark.parametrize(
    ("extra", "shown"), [({}, ("", "")), ({"instance_id": "abc", "orchestrator": "Hello"}, ("abc", "Hello"))]
)
def test_outside_activities_the_filter_fills_only_what_is_missing(
    extra: dict[str, Any], shown: tuple[str, str]
) -> None:
    record = logging.getLogger("app").makeRecord("app", logging.INFO, __file__, 1, "said", (), None, extra=extra)
    assert ActivityLogFilter().filter(record)
    assert (record.instance_id, record.orchestrator) == shown
    assert (record.activity, record.task_id, record.attempt) == ("", "", "")
