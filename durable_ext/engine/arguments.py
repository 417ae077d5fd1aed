"""Checks of what user code passes to durable calls: a mistake raises at the call, and says what was meant."""

from __future__ import annotations

from typing import Any

from durable_ext.retry import RetryPolicy

# What an annotation never is, and a second input often.
_VALUES = (str, bytes, bool, int, float, list, dict, tuple, set, RetryPolicy)


def result_type(given: Any, declared: Any) -> Any:
    """The type that a result is restored to: the one given for this call, else the declared one.

    Raises TypeError on a value that is no type.
    """
    if given is None:
        return declared
    if isinstance(given, _VALUES):
        raise TypeError(
            f"expected_type is {given!r}, but must be a type. A durable call has one input: pass several values as one "
            f"list or object, and everything behind the input by name."
        )
    return given


def retry_of(given: Any) -> RetryPolicy | None:
    """The retry policy of a call. Raises TypeError on anything else."""
    if given is None or isinstance(given, RetryPolicy):
        return given
    raise TypeError(
        f"the retry policy is {given!r}, but must be a RetryPolicy or RetryOptions. In calls with retry it comes "
        f"second: (name, retry_options, input_)."
    )
