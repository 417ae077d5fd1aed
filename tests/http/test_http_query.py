from __future__ import annotations

from datetime import UTC, datetime

import pytest

from durable_ext.history import OrchestrationRuntimeStatus as Status
from durable_ext.http import query
from durable_ext.http.messages import Request


def asked(**parameters: str | list[str]) -> Request:
    values = {name: [value] if isinstance(value, str) else value for name, value in parameters.items()}
    return Request(method="GET", path="/instances", base_url="http://localhost", query=values)


def test_names_compare_without_case_and_the_first_value_counts() -> None:
    request = asked(TaskHub=["", "a"], taskhub="b")
    assert query.text(request, "taskHub") == "a"
    assert request.values("TASKHUB") == ["", "a", "b"]
    assert query.text(request, "code") is None
    assert query.text(asked(code=" "), "code") is None


@pytest.mark.parametrize(("text", "value"), [("true", True), ("TRUE", True), ("False", False), ("1", None), ("", None)])
def test_flags_are_true_or_false_or_not_there(text: str, value: bool | None) -> None:
    for default in (True, False):
        assert query.flag(asked(x=text), "x", default) is (default if value is None else value)


@pytest.mark.parametrize(
    ("text", "value"), [("2", 2), (" 2 ", 2), ("0", 9), ("-1", 9), ("x", 9), ("", 9), ("9" * 30, 9)]
)
def test_page_sizes_are_positive_or_not_there(text: str, value: int) -> None:
    assert query.positive_int(asked(top=text), "top", 9) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("2", 2.0), ("0.5", 0.5), ("0", 0.0), ("-1", None), ("nan", None), ("inf", None), ("x", None), ("", None)],
)
def test_lengths_of_time_are_finite_or_not_there(text: str, value: float | None) -> None:
    assert query.seconds(asked(timeout=text), "timeout") == value


NOON = datetime(2018, 6, 4, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2018-06-04T12:00:00Z", NOON),
        ("2018-06-04T12:00:00.0000000Z", NOON),
        ("2018-06-04T14:00:00+02:00", NOON),
        ("2018-06-04T14:00:00 02:00", NOON),  # a plus sign that nobody encoded
        ("2018-06-04T12:00", NOON),
        ("2018-06-04 12:00", NOON),
        ("20180604T120000Z", NOON),
        ("2018-06-04", NOON.replace(hour=0)),
        ("0001-01-01T00:00:00+14:00", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_moments_are_iso_8601_or_not_there(text: str, value: datetime | None) -> None:
    assert query.moment(asked(createdTimeFrom=text), "createdTimeFrom") == value


@pytest.mark.parametrize(
    ("values", "statuses"),
    [
        (["Running,Pending"], {Status.Running, Status.Pending}),
        (["Running", "Pending"], {Status.Running, Status.Pending}),
        (["running, FAILED"], {Status.Running, Status.Failed}),
        (["0,7"], {Status.Running, Status.Suspended}),
        (["Running,Dreaming,99"], {Status.Running}),
        (["Dreaming"], set()),
        (["99"], None),
        (["Dreaming,8"], None),
        ([""], set()),
        ([], set()),
    ],
)
def test_statuses_are_names_or_numbers_and_unknown_ones_are_dropped(
    values: list[str], statuses: set[Status] | None
) -> None:
    assert query.statuses(asked(runtimeStatus=values)) == statuses


def test_status_numbers_are_the_documented_ones() -> None:
    assert [query.STATUS_NUMBERS[number].name for number in range(8)] == [
        "Running",
        "Completed",
        "ContinuedAsNew",
        "Failed",
        "Canceled",
        "Terminated",
        "Pending",
        "Suspended",
    ]
