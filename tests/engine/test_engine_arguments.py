"""Arguments in the wrong place: a TypeError at the call, which says what was meant."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from engine_hub import play

from durable_ext.retry import RetryPolicy

RETRY = RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=3)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda context: context.call_activity("echo", "A", "B"), "expected_type is 'B', but must be a type"),
        (lambda context: context.call_activity("echo", "A", ["B"]), "pass several values as one list"),
        (lambda context: context.call_activity("echo", "A", RETRY), "everything behind the input by name"),
        (lambda context: context.call_activity_with_retry("echo", "A", RETRY), "the retry policy is 'A'"),
        (lambda context: context.call_activity("echo", "A", retry_policy=3), "must be a RetryPolicy"),
        (lambda context: context.call_sub_orchestrator("echo", "A", expected_type=3), "expected_type is 3"),
        (lambda context: context.call_sub_orchestrator_with_retry("echo", "A", RETRY), "the retry policy is 'A'"),
    ],
)
def test_an_argument_in_the_wrong_place_raises_at_the_call(call: Callable[[Any], Any], complaint: str) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            yield call(context)
        except TypeError as error:
            return str(error)

    assert complaint in play(orchestrator).output


@pytest.mark.parametrize("expected_type", [int, list[int], int | None, dict[str, int], Any])
def test_every_kind_of_type_may_be_expected(expected_type: Any) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_activity("echo", None, expected_type)
        return "called"

    assert play(orchestrator).work
