"""The history of three activities in a row, as the Durable Functions docs print it: 16 rows, column by column."""

from __future__ import annotations

import json
from datetime import datetime
from itertools import pairwise
from typing import Any

from e2e_hub import REPOSITORY, Hub

from durable_ext.host.app import LocalHost

# EventType, Input, Name, Result, Status. PartitionKey and Timestamp are tested on their own.
ROWS = [
    ("OrchestratorStarted", None, None, None, None),
    ("ExecutionStarted", "null", "E1_HelloSequence", None, None),
    ("TaskScheduled", None, "E1_SayHello", None, None),
    ("OrchestratorCompleted", None, None, None, None),
    ("OrchestratorStarted", None, None, None, None),
    ("TaskCompleted", None, None, '"Hello Tokyo!"', None),
    ("TaskScheduled", None, "E1_SayHello", None, None),
    ("OrchestratorCompleted", None, None, None, None),
    ("OrchestratorStarted", None, None, None, None),
    ("TaskCompleted", None, None, '"Hello Seattle!"', None),
    ("TaskScheduled", None, "E1_SayHello", None, None),
    ("OrchestratorCompleted", None, None, None, None),
    ("OrchestratorStarted", None, None, None, None),
    ("TaskCompleted", None, None, '"Hello London!"', None),
    ("ExecutionCompleted", None, None, '["Hello Tokyo!","Hello Seattle!","Hello London!"]', "Completed"),
    ("OrchestratorCompleted", None, None, None, None),
]


def row(event: dict[str, Any]) -> tuple[str | None, ...]:
    columns = ("EventType", "Input", "Name", "Result", "OrchestrationStatus")
    return tuple(event.get(column) for column in columns)


def times(events: list[dict[str, Any]]) -> list[datetime]:
    return [datetime.fromisoformat(event["Timestamp"]) for event in events]


def test_the_sixteen_rows_have_their_columns(hub: Hub, unique: str) -> None:
    hub.run("E1_HelloSequence", None, unique)
    events = hub.history(unique)
    assert [row(event) for event in events] == ROWS
    assert events[1]["InstanceId"] == unique


def test_the_timestamps_are_in_the_documented_order(hub: Hub, unique: str) -> None:
    hub.run("E1_HelloSequence", None, unique)
    events = hub.history(unique)
    when = times(events)
    turns = [position for position, event in enumerate(events) if event["EventType"] == "OrchestratorStarted"]
    # The start, and every result, happened before the turn that took it begins.
    assert all(when[turn + 1] <= when[turn] for turn in turns)
    assert all(when[one] <= when[next_one] for one, next_one in pairwise(turns))
    assert all(moment.tzinfo is not None and not moment.utcoffset() for moment in when)


def test_calls_are_numbered_and_results_name_their_call(hub: Hub, unique: str) -> None:
    hub.run("E1_HelloSequence", None, unique)
    events = hub.history(unique)
    calls = [event.get("EventId", -1) for event in events if event["EventType"] == "TaskScheduled"]
    answers = [event["TaskScheduledId"] for event in events if event["EventType"] == "TaskCompleted"]
    assert calls == answers == [0, 1, 2]


def test_the_management_api_shows_one_row_for_each_thing_that_happened(hub: Hub, unique: str) -> None:
    hub.run("E1_HelloSequence", None, unique)
    shown = hub.status(unique, showHistory="true", showHistoryOutput="true")["historyEvents"]
    greetings = ["Hello Tokyo!", "Hello Seattle!", "Hello London!"]
    assert [(each["EventType"], each.get("FunctionName"), each.get("Result")) for each in shown] == [
        ("ExecutionStarted", "E1_HelloSequence", None),
        *(("TaskCompleted", "E1_SayHello", greeting) for greeting in greetings),
        ("ExecutionCompleted", None, greetings),
    ]
    assert all(each["ScheduledTime"] <= each["Timestamp"] for each in shown if each["EventType"] == "TaskCompleted")


async def test_the_client_reads_the_same_sixteen_rows() -> None:
    async with LocalHost(REPOSITORY / "samples/hello_sequence", port=0, storage="sqlite:///:memory:") as host:
        instance_id = await host.client.start_new("E1_HelloSequence")
        status = await host.client.wait_for_completion(instance_id, 20)
        assert json.dumps(status.output) == '["Hello Tokyo!", "Hello Seattle!", "Hello London!"]'
        history = await host.client.get_history(instance_id)
    assert [type(event).__name__ for event in history] == [row[0] for row in ROWS]
