from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from durable_ext.client.status import DurableOrchestrationStatus, PurgeHistoryResult, json_or_text
from durable_ext.history import OrchestrationRuntimeStatus

WIRE = {
    "name": "Hello",
    "instanceId": "abc",
    "createdTime": "2018-02-28T05:18:49Z",
    "lastUpdatedTime": "2018-02-28T05:18:54.25Z",
    "input": {"a": 1},
    "output": ["x"],
    "runtimeStatus": "Completed",
    "customStatus": "half",
    "historyEvents": [{"EventType": "ExecutionStarted"}],
    "shoeSize": 43,
}


def test_a_payload_becomes_properties() -> None:
    status = DurableOrchestrationStatus.from_json(WIRE)
    assert status
    assert (status.name, status.instance_id, status.input_, status.output) == ("Hello", "abc", {"a": 1}, ["x"])
    assert status.created_time == datetime(2018, 2, 28, 5, 18, 49, tzinfo=UTC)
    assert status.last_updated_time == datetime(2018, 2, 28, 5, 18, 54, 250000, tzinfo=UTC)
    assert status.runtime_status is OrchestrationRuntimeStatus.Completed
    assert status.custom_status == "half"
    assert repr(status) == "<DurableOrchestrationStatus Hello abc: Completed>"


def test_history_is_found_under_both_its_names() -> None:
    status = DurableOrchestrationStatus.from_json(WIRE)
    assert status.history == status.historyEvents == [{"EventType": "ExecutionStarted"}]
    assert DurableOrchestrationStatus(history=[{"a": 1}]).historyEvents == [{"a": 1}]


def test_unknown_keys_become_attributes() -> None:
    assert DurableOrchestrationStatus.from_json(WIRE).shoeSize == 43  # type: ignore[attr-defined] # that is the point


def test_text_becomes_a_falsy_status_with_a_message() -> None:
    status = DurableOrchestrationStatus.from_json("gone")
    assert not status
    assert status.message == "gone"  # type: ignore[attr-defined] # set from the extra keys
    assert status.runtime_status is None


def test_an_unknown_status_is_an_error() -> None:
    with pytest.raises(ValueError, match="Dreaming"):
        DurableOrchestrationStatus(runtimeStatus="Dreaming")


def test_to_json_has_the_documented_order_and_microseconds() -> None:
    body = DurableOrchestrationStatus.from_json(WIRE).to_json()
    assert list(body) == [
        "name",
        "instanceId",
        "createdTime",
        "lastUpdatedTime",
        "output",
        "input",
        "runtimeStatus",
        "customStatus",
        "history",
    ]
    assert body["createdTime"] == "2018-02-28T05:18:49.000000Z"
    assert body["lastUpdatedTime"] == "2018-02-28T05:18:54.250000Z"
    assert json.loads(json.dumps(body)) == body


def test_to_json_of_a_missing_instance_has_no_times_and_no_status() -> None:
    assert list(DurableOrchestrationStatus().to_json()) == [
        "name",
        "instanceId",
        "output",
        "input",
        "customStatus",
        "history",
    ]


def test_times_are_utc_whatever_zone_they_came_in() -> None:
    east = datetime(2018, 2, 28, 7, tzinfo=timezone(timedelta(hours=2)))
    for given in (east, "2018-02-28T07:00:00+02:00", datetime(2018, 2, 28, 5), "2018-02-28T05:00:00"):
        created = DurableOrchestrationStatus(createdTime=given).created_time
        assert created is not None
        assert created.isoformat() == "2018-02-28T05:00:00+00:00"


@pytest.mark.parametrize(
    ("stored", "value"),
    [
        (None, None),
        ("", ""),
        ("  ", ""),
        ('"x"', "x"),
        ("[1]", [1]),
        ("null", None),
        ("It was time to be done.", "It was time to be done."),
    ],
)
def test_stored_payloads_show_as_json_or_as_their_text(stored: str | None, value: object) -> None:
    assert json_or_text(stored) == value


def test_a_purge_result_counts() -> None:
    result = PurgeHistoryResult.from_json({"instancesDeleted": 3, "isComplete": True})
    assert result.instances_deleted == 3
    assert result.isComplete is True  # type: ignore[attr-defined] # extra keys are kept
    assert repr(result) == "<PurgeHistoryResult: 3>"
