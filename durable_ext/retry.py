"""When to try a failed call again: a pure decision."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from durable_ext.errors import FailureDetails

RetryHandler: TypeAlias = Callable[[Any], bool]
"""Answers whether the error it is given is worth another try. Replay asks again, so it must answer alike."""


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often, and how long apart, a failing activity or sub-orchestration is tried again.

    `max_number_of_attempts` counts every try, the first included: 1 means no retry. The wait after failure k
    (from 0) is `first_retry_interval * backoff_coefficient ** k`, at most `max_retry_interval`. `retry_timeout`
    bounds the time since the first attempt, on the orchestrator's clock; it is looked at before a wait begins, so
    the last wait may overrun it. `handle` is given the error and answers whether to try again; the default is
    always. Errors that declare themselves final are never retried. The error raised in the end is the last one.
    """

    first_retry_interval: timedelta
    max_number_of_attempts: int
    backoff_coefficient: float = 1.0
    max_retry_interval: timedelta | None = None
    retry_timeout: timedelta | None = None
    handle: RetryHandler | None = None

    def __post_init__(self) -> None:
        for name in ("first_retry_interval", "max_retry_interval", "retry_timeout"):
            _check_interval(name, getattr(self, name), optional=name != "first_retry_interval")
        object.__setattr__(self, "max_number_of_attempts", _attempts(self.max_number_of_attempts))
        _check_coefficient(self.backoff_coefficient)
        if self.handle is not None and not callable(self.handle):
            raise TypeError(f"handle must be a function of the error, not {self.handle!r}")
        if inspect.iscoroutinefunction(self.handle):
            raise TypeError(f"handle must be a plain function, and {self.handle!r} is async: it would always be true")

    def next_delay(
        self, attempt: int, first_attempt_at: datetime, now: datetime, error: BaseException
    ) -> timedelta | None:
        """How long to wait after the failure of attempt number `attempt` (from 1), or None: raise the error.

        What goes wrong while deciding must not hide why the call failed: then the answer is None, and the error
        gets a note about it.
        """
        details = getattr(error, "details", None)
        if isinstance(details, FailureDetails) and details.is_non_retriable:
            return None
        if attempt >= self.max_number_of_attempts:
            return None
        try:
            if self.handle is not None and not self.handle(error):
                return None
            if self.retry_timeout is not None and now - first_attempt_at >= self.retry_timeout:
                return None
            delay = self._wait_after(attempt)
            _ = now + delay  # a wait that ends after the last day there is raises here
        except Exception as problem:
            error.add_note(f"not retried after attempt {attempt}, because deciding about it raised {problem!r}")
            return None
        return delay

    def _wait_after(self, attempt: int) -> timedelta:
        try:
            wait = self.first_retry_interval * self.backoff_coefficient ** (attempt - 1)
        except OverflowError:
            if self.max_retry_interval is None:
                raise
            return self.max_retry_interval
        return wait if self.max_retry_interval is None else min(wait, self.max_retry_interval)


class RetryOptions(RetryPolicy):
    """A `RetryPolicy` in the milliseconds of azure-functions-durable: whole ones, as int or float."""

    def __init__(
        self,
        first_retry_interval_in_milliseconds: float,
        max_number_of_attempts: int,
        *,
        backoff_coefficient: float = 1.0,
        max_retry_interval_in_milliseconds: float | None = None,
        retry_timeout_in_milliseconds: float | None = None,
        handle: RetryHandler | None = None,
    ) -> None:
        given = {
            "first_retry_interval_in_milliseconds": first_retry_interval_in_milliseconds,
            "max_retry_interval_in_milliseconds": max_retry_interval_in_milliseconds,
            "retry_timeout_in_milliseconds": retry_timeout_in_milliseconds,
        }
        first, longest, timeout = (_from_milliseconds(name, value) for name, value in given.items())
        if first is None:
            raise TypeError("first_retry_interval_in_milliseconds must be a number of milliseconds, not None")
        super().__init__(
            first_retry_interval=first,
            max_number_of_attempts=max_number_of_attempts,
            backoff_coefficient=backoff_coefficient,
            max_retry_interval=longest,
            retry_timeout=timeout,
            handle=handle,
        )

    @property
    def first_retry_interval_in_milliseconds(self) -> int:
        """The wait after the first failure."""
        return _milliseconds(self.first_retry_interval)

    @property
    def max_retry_interval_in_milliseconds(self) -> int | None:
        """The longest wait, or None."""
        return None if self.max_retry_interval is None else _milliseconds(self.max_retry_interval)

    @property
    def retry_timeout_in_milliseconds(self) -> int | None:
        """The time after the first attempt from which on nothing is tried again, or None."""
        return None if self.retry_timeout is None else _milliseconds(self.retry_timeout)

    def to_json(self) -> dict[str, Any]:
        """The options under their Durable Functions names, those left at their default omitted. Not `handle`."""
        shown: dict[str, Any] = {
            "firstRetryIntervalInMilliseconds": self.first_retry_interval_in_milliseconds,
            "maxNumberOfAttempts": self.max_number_of_attempts,
        }
        if self.backoff_coefficient != 1:
            shown["backoffCoefficient"] = self.backoff_coefficient
        if self.max_retry_interval is not None:
            shown["maxRetryIntervalInMilliseconds"] = self.max_retry_interval_in_milliseconds
        if self.retry_timeout is not None:
            shown["retryTimeoutInMilliseconds"] = self.retry_timeout_in_milliseconds
        return shown


def _milliseconds(interval: timedelta) -> int:
    return interval // timedelta(milliseconds=1)


def _whole(value: Any) -> int | None:
    """The whole number that a person means by it, or None. `timedelta.total_seconds() * 1000` may be a hair beside."""
    if isinstance(value, float) and math.isfinite(value):
        nearest = round(value)
        return nearest if abs(value - nearest) < 0.0005 else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _from_milliseconds(name: str, value: float | None) -> timedelta | None:
    if value is None:
        return None
    whole = _whole(value)
    if whole is None:
        raise TypeError(f"{name} must be a whole number of milliseconds, not {value!r}")
    if whole <= 0:
        raise ValueError(f"{name} must be greater than 0, not {value}")
    try:
        return timedelta(milliseconds=whole)
    except OverflowError as err:
        raise ValueError(f"{name} is {value}: more than a million years") from err


def _check_interval(name: str, value: timedelta | None, *, optional: bool) -> None:
    if value is None and optional:
        return
    if not isinstance(value, timedelta):
        raise TypeError(f"{name} must be a timedelta, not {value!r}; RetryOptions takes milliseconds")
    if value <= timedelta():
        raise ValueError(f"{name} must be greater than 0, not {value}")


def _attempts(value: Any) -> int:
    whole = _whole(value)
    if whole is None:
        raise TypeError(f"max_number_of_attempts must be a whole number, not {value!r}")
    if whole < 1:
        raise ValueError(f"max_number_of_attempts must be at least 1, not {value}: it counts the first try too")
    return whole


def _check_coefficient(value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"backoff_coefficient must be a number, not {value!r}")
    if not 0 < value < float("inf"):
        raise ValueError(f"backoff_coefficient must be a finite number greater than 0, not {value}")
