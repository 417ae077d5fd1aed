"""The retry decision: when, how long, and when no more."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable_ext.errors import ActivityFailedError, FailureDetails
from durable_ext.retry import RetryOptions, RetryPolicy

START = datetime(2024, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def policy(**changes: Any) -> RetryPolicy:
    return RetryPolicy(**{"first_retry_interval": SECOND, "max_number_of_attempts": 5, **changes})


def delay(of: RetryPolicy, attempt: int = 1, *, after: timedelta = SECOND, error: BaseException | None = None) -> Any:
    return of.next_delay(attempt, START, START + after, error or ValueError("boom"))


def failed(*, final: bool) -> ActivityFailedError:
    details = FailureDetails(error_type="ValueError", error_message="boom", is_non_retriable=final)
    return ActivityFailedError(task_name="a", task_id=0, reason="boom", details=None, failure=details)


def test_waits_grow_by_the_coefficient_up_to_the_longest() -> None:
    growing = policy(backoff_coefficient=2, max_retry_interval=5 * SECOND)
    assert [delay(growing, k) for k in (1, 2, 3, 4)] == [SECOND, 2 * SECOND, 4 * SECOND, 5 * SECOND]


def test_waits_are_alike_by_default() -> None:
    assert [delay(policy(), k) for k in (1, 2, 3, 4)] == [SECOND] * 4


def test_the_last_attempt_is_the_last() -> None:
    assert delay(policy(max_number_of_attempts=3), 2) == SECOND
    assert delay(policy(max_number_of_attempts=3), 3) is None
    assert delay(policy(max_number_of_attempts=1), 1) is None


def test_the_timeout_is_looked_at_before_the_wait_and_may_be_overrun_by_it() -> None:
    bounded = policy(first_retry_interval=60 * SECOND, retry_timeout=10 * SECOND)
    assert delay(bounded, after=9 * SECOND) == 60 * SECOND
    assert delay(bounded, after=10 * SECOND) is None


def test_an_error_that_declares_itself_final_is_not_retried_and_the_handle_not_asked() -> None:
    asked: list[BaseException] = []
    asking = policy(handle=lambda error: asked.append(error) or True)
    assert delay(asking, error=failed(final=True)) is None
    assert asked == []
    assert delay(asking, error=failed(final=False)) == SECOND
    assert len(asked) == 1


def test_an_error_whose_details_are_something_else_is_retried() -> None:
    error = ValueError("boom")
    error.details = "text"  # type: ignore[attr-defined]  # any user exception may have such an attribute
    assert delay(policy(), error=error) == SECOND


def test_the_handle_decides_by_the_error() -> None:
    choosy = policy(handle=lambda error: isinstance(error, KeyError))
    assert delay(choosy, error=KeyError("k")) == SECOND
    assert delay(choosy, error=ValueError("v")) is None


def test_a_handle_that_raises_leaves_the_original_error_and_a_note_on_it() -> None:
    error = ValueError("boom")
    assert delay(policy(handle=lambda error: error.no_such_thing), error=error) is None
    assert "no_such_thing" in error.__notes__[0]


def test_a_wait_beyond_all_time_is_capped_or_not_retried() -> None:
    steep = {"backoff_coefficient": 10.0, "max_number_of_attempts": 1000}
    assert delay(policy(**steep, max_retry_interval=7 * SECOND), 999) == 7 * SECOND
    error = ValueError("boom")
    assert delay(policy(**steep), 999, error=error) is None
    assert "OverflowError" in error.__notes__[0]
    assert delay(policy(**steep), 13) is None, "a wait that ends after the year 9999"


def test_options_in_milliseconds_are_a_policy() -> None:
    options = RetryOptions(
        5000,
        3,
        backoff_coefficient=2.0,
        max_retry_interval_in_milliseconds=60_000,
        retry_timeout_in_milliseconds=3_600_000,
    )
    assert isinstance(options, RetryPolicy)
    assert options.first_retry_interval == 5 * SECOND
    assert (options.first_retry_interval_in_milliseconds, options.max_number_of_attempts) == (5000, 3)
    assert options.max_retry_interval_in_milliseconds == 60_000
    assert options.retry_timeout_in_milliseconds == 3_600_000
    assert options.to_json() == {
        "firstRetryIntervalInMilliseconds": 5000,
        "maxNumberOfAttempts": 3,
        "backoffCoefficient": 2.0,
        "maxRetryIntervalInMilliseconds": 60_000,
        "retryTimeoutInMilliseconds": 3_600_000,
    }


def test_plain_options_show_what_azure_functions_durable_shows() -> None:
    options = RetryOptions(5000, 3)
    assert options.to_json() == {"firstRetryIntervalInMilliseconds": 5000, "maxNumberOfAttempts": 3}
    assert options.max_retry_interval_in_milliseconds is None
    assert options.retry_timeout_in_milliseconds is None
    assert options == RetryOptions(5000, 3)


@pytest.mark.parametrize("seconds", [0.001, 0.29, 1.001, 1.1, 33.333, 86_400.007, 1e9])
def test_milliseconds_computed_from_seconds_are_whole(seconds: float) -> None:
    interval = timedelta(seconds=seconds)
    options = RetryOptions(
        interval.total_seconds() * 1000,
        2,
        max_retry_interval_in_milliseconds=interval.total_seconds() * 1000,
        retry_timeout_in_milliseconds=interval.total_seconds() * 1000,
    )
    assert options.first_retry_interval == options.max_retry_interval == options.retry_timeout == interval
    assert isinstance(options.first_retry_interval_in_milliseconds, int)


def test_whole_floats_are_whole_numbers() -> None:
    assert RetryOptions(10.0, 2.0) == RetryOptions(10, 2)  # type: ignore[arg-type]  # as JSON may give it
    assert policy(max_number_of_attempts=3.0) == policy(max_number_of_attempts=3)
    assert isinstance(policy(max_number_of_attempts=3.0).max_number_of_attempts, int)
    assert RetryOptions(10.0, 2).to_json() == RetryOptions(10, 2).to_json()


def test_options_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        RetryOptions(5000, 3).max_number_of_attempts = 4  # type: ignore[misc]  # what the test is about
    with pytest.raises(AttributeError):
        RetryOptions(5000, 3).first_retry_interval_in_milliseconds = 4  # type: ignore[misc]  # likewise


@pytest.mark.parametrize(
    ("args", "named", "message"),
    [
        ((0, 3), {}, "first_retry_interval_in_milliseconds must be greater than 0"),
        ((-1, 3), {}, "first_retry_interval_in_milliseconds must be greater than 0"),
        ((5000, 0), {}, "max_number_of_attempts must be at least 1"),
        ((5000, 3), {"backoff_coefficient": 0}, "backoff_coefficient must be a finite number"),
        ((5000, 3), {"backoff_coefficient": float("nan")}, "backoff_coefficient must be a finite number"),
        ((5000, 3), {"max_retry_interval_in_milliseconds": 0}, "max_retry_interval_in_milliseconds"),
        ((5000, 3), {"retry_timeout_in_milliseconds": -5}, "retry_timeout_in_milliseconds"),
        ((10**30, 3), {}, "more than a million years"),
        ((1e30, 3), {}, "more than a million years"),
        ((0.0001, 3), {}, "first_retry_interval_in_milliseconds must be greater than 0"),
        ((-10.0, 3), {}, "first_retry_interval_in_milliseconds must be greater than 0"),
    ],
)
def test_values_out_of_range_are_refused(args: tuple[float, int], named: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RetryOptions(*args, **named)


async def an_async_handle(error: Exception) -> bool:
    return True


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RetryOptions("5000", 3), "first_retry_interval_in_milliseconds must be a whole number"),
        (lambda: RetryOptions(None, 3), "not None"),
        (lambda: RetryOptions(10.5, 3), "first_retry_interval_in_milliseconds must be a whole number"),
        (lambda: RetryOptions(float("nan"), 3), "must be a whole number of milliseconds, not nan"),
        (lambda: RetryOptions(float("inf"), 3), "must be a whole number of milliseconds, not inf"),
        (lambda: policy(max_number_of_attempts=float("inf")), "max_number_of_attempts must be a whole number"),
        (lambda: RetryOptions(SECOND, 3), "whole number of milliseconds"),
        (lambda: RetryOptions(5000, 2.5), "max_number_of_attempts must be a whole number"),
        (lambda: RetryOptions(5000, True), "max_number_of_attempts must be a whole number"),
        (lambda: policy(first_retry_interval=5000), "must be a timedelta, not 5000; RetryOptions"),
        (lambda: policy(backoff_coefficient="2"), "backoff_coefficient must be a number"),
        (lambda: policy(handle="ValueError"), "handle must be a function"),
        (lambda: policy(handle=an_async_handle), "would always be true"),
    ],
)
def test_values_of_the_wrong_type_are_refused(make: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make()


@pytest.mark.parametrize("name", ["first_retry_interval", "max_retry_interval", "retry_timeout"])
def test_intervals_must_be_positive(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be greater than 0"):
        policy(**{name: timedelta()})
