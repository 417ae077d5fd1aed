"""Instance ids at the edges of their rules, and the ids a replay must repeat."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime

import pytest

from durable_ext.errors import InvalidInstanceIdError
from durable_ext.ids import (
    check_instance_id,
    child_execution_id,
    child_instance_id,
    deterministic_guid,
    deterministic_uuid,
    new_execution_id,
    new_instance_id,
    next_execution_id,
)


@pytest.mark.parametrize("good", ["a", "x" * 256, "order@7", "a b", "ü", "漢字", "a:0", "%2F", ".", "a'\"b", "a\u00a0"])
def test_an_id_within_the_rules_is_returned_as_given(good: str) -> None:
    assert check_instance_id(good) == good


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        ("", "must not be empty"),
        (" ", "must not be blank"),
        ("\u00a0\u3000", "must not be blank"),
        ("x" * 257, "must not exceed 256 characters"),
        ("@counter@7", "leading '@'"),
        ("a/b", "'/'"),
        ("a\\b", "position 1"),
        ("a#b", "'#'"),
        ("ab?", "position 2"),
        ("a\x00", "control characters"),
        ("a\x1f", "control characters"),
        ("a\x7f", "control characters"),
        ("a\x9f", "control characters"),
        ("line\n", "control characters"),
        ("a\ud800", "surrogates"),
    ],
)
def test_an_id_that_breaks_a_rule_is_refused_with_the_rule(bad: str, rule: str) -> None:
    with pytest.raises(InvalidInstanceIdError, match=re.escape(rule)) as caught:
        check_instance_id(bad)
    assert caught.value.instance_id == bad


def test_an_id_that_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidInstanceIdError, match="must be a string, not int"):
        check_instance_id(7)  # type: ignore[arg-type]  # what the test is about


@pytest.mark.parametrize("make", [new_instance_id, new_execution_id])
def test_made_up_ids_are_32_hex_digits_and_new_each_time(make) -> None:
    ids = {make() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)


def test_ids_of_children_follow_from_the_call() -> None:
    assert child_instance_id("e1", 3) == "e1:3"
    assert child_execution_id("e1", 3) == child_execution_id("e1", 3)
    assert re.fullmatch("[0-9a-f]{32}", child_execution_id("not a uuid", 0))


def test_ids_of_executions_do_not_collide() -> None:
    made = [next_execution_id("e"), next_execution_id(next_execution_id("e"))]
    made += [child_execution_id(execution, n) for execution in ("e", "f") for n in range(12)]
    made += [next_execution_id("child 0 of e"), next_execution_id("f")]
    assert len(set(made)) == len(made)


def test_execution_ids_are_the_same_in_every_release() -> None:
    assert next_execution_id("e1") == "a270f17d03b855bfa73f0b7ca03e24ad"
    assert child_execution_id("e1", 3) == "e5a4b203e83d506abf17650d6667fbfa"


@pytest.mark.parametrize(
    ("now", "first", "second", "third"),
    [
        (
            datetime(2019, 12, 8, 23, 18, 41, 324092, UTC),
            "26e2cc5f-aed2-5994-a5aa-aacadda6a49c",
            "def590ed-71fa-5a9c-81bc-0c49ce37261c",
            "ed885e7f-8fe7-5062-8e89-fa7cf3cdc322",
        ),
        (
            datetime(2024, 1, 1, tzinfo=UTC),
            "8e1902b2-0496-5aa4-84b1-8a7a587d100a",
            "6b9b2c7e-0624-5aee-9a31-0b94f55af6f2",
            "0d96c55d-5c8a-5599-9875-ed32799a35c5",
        ),
    ],
)
def test_deterministic_ids_are_those_of_azure_functions_durable(
    now: datetime, first: str, second: str, third: str
) -> None:
    assert deterministic_uuid("abc123", now, 0) == first
    assert deterministic_uuid("abc123", now, 1) == second
    assert deterministic_guid("abc123", now, 2) == uuid.UUID(third)
