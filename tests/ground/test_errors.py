"""Errors as values: what is left of them in copies and pickles, and in what is stored of them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from durable_ext import errors
from durable_ext.errors import (
    ActivityFailedError,
    ActivityTimeout,
    CodecError,
    ConfigurationError,
    DurableError,
    FailureDetails,
    FunctionNotFoundError,
    InstanceAlreadyExistsError,
    InstanceNotFoundError,
    InstanceStateError,
    InvalidInstanceIdError,
    NonDeterminismError,
    OrchestratorCodeError,
    StoreError,
    StoreInUseError,
    StoreSchemaError,
    SubOrchestrationFailedError,
    TaskFailedError,
    VersionConflictError,
    describe,
    failure_text,
    shortened,
    storable,
)


def failed(kind: type[TaskFailedError]) -> TaskFailedError:
    failure = FailureDetails(error_type="ValueError", error_message="boom", stack_trace="trace")
    return kind(task_name="a", task_id=3, reason="failed", details="details", failure=failure, attempt=2)


ERRORS: list[Exception] = [
    DurableError("text"),
    errors.ClientError("text"),
    CodecError("text"),
    ConfigurationError("text"),
    FunctionNotFoundError("nobody", "activity", ["b", "a"]),
    InstanceAlreadyExistsError("i", "Running"),
    InstanceNotFoundError("i"),
    InstanceNotFoundError("i", "told otherwise"),
    InstanceStateError("i", "Failed"),
    InvalidInstanceIdError("a/b", "no slashes"),
    NonDeterminismError(step=1, recorded="a timer", requested="nothing", where="app.py:3"),
    OrchestratorCodeError("text"),
    StoreError("text"),
    StoreInUseError("/hub", "somebody"),
    StoreSchemaError("/hub", 1, [2, 3]),
    VersionConflictError("i"),
    failed(TaskFailedError),
    failed(ActivityFailedError),
    failed(ActivityTimeout),
    failed(SubOrchestrationFailedError),
]


def kinds(root: type[DurableError] = DurableError) -> set[type]:
    found = {root}
    for each in root.__subclasses__():
        if each.__module__ == errors.__name__:
            found |= kinds(each)
    return found


def test_every_error_is_tried_here() -> None:
    assert {type(each) for each in ERRORS} == kinds()


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_survives_copy_and_pickle(error: Exception, again: Callable[[Any], Any]) -> None:
    error.add_note("noted")
    same = again(error)
    assert type(same) is type(error)
    assert (str(same), same.args, vars(same)) == (str(error), error.args, vars(error))


class OwnError(ActivityFailedError):
    """As an app may derive one, with a constructor of its own."""

    def __init__(self, code: int) -> None:
        failure = FailureDetails(error_type="OwnError", error_message=str(code))
        super().__init__(task_name="a", task_id=0, reason=f"code {code}", details=None, failure=failure)
        self.code = code


def test_an_error_that_an_app_derives_survives_too() -> None:
    same = pickle.loads(pickle.dumps(OwnError(7)))
    assert (str(same), same.code, same.type) == ("code 7", 7, "OwnError")


def test_a_deep_copy_of_an_error_shares_nothing_that_changes() -> None:
    error = FunctionNotFoundError("nobody", "activity", ["a"])
    copy.deepcopy(error).known.append("b")
    assert error.known == ["a"]


# --- what is stored of them --------------------------------------------------------------------------


def test_what_is_shortened_says_by_how_much_and_is_not_shortened_again() -> None:
    once = shortened("a" * 5_000 + "z" * 5_000, 1_000)
    assert once == "a" * 750 + " ... (9,000 characters left out) ... " + "z" * 250
    assert shortened(f"told: {once}", 1_000) == f"told: {once}"
    assert shortened("short", 1_000) == "short"


@pytest.mark.parametrize("text", ["", "plain", "ümläut", "\U0001f600"])
def test_valid_text_is_stored_as_it_is(text: str) -> None:
    assert storable(text) == text


def test_lone_surrogates_are_escaped_and_that_is_said() -> None:
    assert storable("a\ud800b") == "a\\ud800b (escaped: lone surrogates cannot be stored)"


def test_a_description_can_be_stored_whatever_the_error() -> None:
    class HugeError(Exception):
        def __str__(self) -> str:
            return "\udcff" * 1_000_000

    class SilentError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    huge, silent = HugeError(), SilentError()
    huge.__cause__ = silent
    described = describe(huge, "\udcff" * 1_000_000)
    assert len(msgspec.json.encode(described)) < 300_000
    assert described.is_caused_by("SilentError")
    assert len(failure_text(huge)) < 60_000


def test_more_causes_than_anybody_reads_are_left_out_between_the_nearest_and_the_first() -> None:
    failure: FailureDetails | None = None
    for number in range(200):
        failure = FailureDetails(error_type=f"Error{number}", error_message="text", inner_failure=failure)
    assert failure is not None
    error = ActivityFailedError(task_name="a", task_id=0, reason="failed", details=None, failure=failure)
    described = describe(error)
    levels = []
    each: FailureDetails | None = described
    while each is not None:
        levels.append(each)
        each = each.inner_failure
    assert [levels[1].error_type, levels[-1].error_type] == ["Error199", "Error0"]
    assert levels[-2].error_message == f"text ... ({201 - len(levels)} causes left out before the first)"
