from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from durable_ext.history import (
    ExecutionCompleted,
    ExecutionStarted,
    OrchestrationRuntimeStatus,
    ParentInstance,
    decode_events,
)
from durable_ext.storage.contract import Commit, DeadLetter, Store

Status = OrchestrationRuntimeStatus
NOON = datetime(2018, 2, 28, 12, 0, 0, 987654, tzinfo=UTC)


async def test_the_status_code_tells_running_from_ended(call: Any, stage: Any, status: Status, ended: bool) -> None:
    await stage.put("one", status, input_json="1", output='"x"', custom_status='{"at":2}', created=NOON)
    target = "/instances/one?taskHub=TestHub&connection=Storage"
    response = await call("GET", target)
    if ended:
        assert response.status == 200
        assert "Location" not in response.headers
        assert "Retry-After" not in response.headers
    else:
        assert response.status == 202
        assert response.headers["Location"] == f"http://localhost:7071/runtime/webhooks/durabletask{target}"
        assert response.headers["Retry-After"] == "5"
    body = response.json()
    assert list(body) == [
        "name",
        "instanceId",
        "runtimeStatus",
        "input",
        "customStatus",
        "output",
        "createdTime",
        "lastUpdatedTime",
    ]
    assert (body["name"], body["instanceId"], body["runtimeStatus"]) == ("Hello", "one", status.name)
    assert body["input"] == 1
    assert (body["customStatus"], body["output"]) == ((None, None) if status is Status.Pending else ({"at": 2}, "x"))
    assert body["createdTime"] == "2018-02-28T12:00:00Z"


async def test_version_and_parent_are_shown_of_those_that_have_them(call: Any, stage: Any, store: Store) -> None:
    boss = ParentInstance(name="Boss", instance_id="boss", execution_id="b1", task_id=0)
    start = ExecutionStarted(
        timestamp=NOON, name="Hello", instance_id="one", execution_id="e", start_id="e", version="2.0", parent=boss
    )
    await store.create_instance(start, overridable=frozenset())
    await stage.put("two")
    body = (await call("GET", "/instances/one")).json()
    assert list(body)[:5] == ["name", "version", "instanceId", "parentInstanceId", "runtimeStatus"]
    assert (body["version"], body["parentInstanceId"]) == ("2.0", "boss")
    listed = (await call("GET", "/instances")).json()
    assert listed[0] == body
    assert not {"version", "parentInstanceId"} & set(listed[1])


@pytest.mark.parametrize("asked", [True, False])
async def test_only_a_failure_is_500_and_only_if_asked_for(call: Any, stage: Any, status: Status, asked: bool) -> None:
    await stage.put("one", status, output="went wrong")
    response = await call("GET", f"/instances/one?returnInternalServerErrorOnFailure={asked}")
    assert (response.status == 500) == (asked and status is Status.Failed)
    assert response.json()["runtimeStatus"] == status.name


async def test_an_unknown_instance_is_404_without_a_body(call: Any) -> None:
    response = await call("GET", "/instances/gone?showHistory=true")
    assert (response.status, response.body) == (404, b"")


async def test_the_input_is_shown_unless_declined(call: Any, stage: Any) -> None:
    await stage.put("one", input_json="5")
    assert (await call("GET", "/instances/one")).json()["input"] == 5
    declined = (await call("GET", "/instances/one?showInput=false&showHistory=true")).json()
    assert declined["input"] is None
    assert "Input" not in declined["historyEvents"][0]


async def test_the_history_is_there_only_on_request_and_never_while_pending(
    call: Any, stage: Any, status: Status
) -> None:
    end = ExecutionCompleted(timestamp=NOON, event_id=0, orchestration_status=Status.Completed, result='["x"]')
    await stage.put("one", status, events=[end])
    assert "historyEvents" not in (await call("GET", "/instances/one")).json()
    body = (await call("GET", "/instances/one?showHistory=true")).json()
    if status is Status.Pending:
        assert "historyEvents" not in body
        return
    assert [event["EventType"] for event in body["historyEvents"]] == ["ExecutionStarted", "ExecutionCompleted"]
    assert "Result" not in body["historyEvents"][1]
    full = (await call("GET", "/instances/one?showHistory=true&showHistoryOutput=true")).json()
    assert full["historyEvents"][1]["Result"] == ["x"]


async def test_text_that_is_no_json_is_shown_as_a_string(call: Any, stage: Any) -> None:
    await stage.put("one", Status.Terminated, output="buggy")
    assert b'"output":"buggy"' in (await call("GET", "/instances/one")).body


async def test_text_with_a_lone_surrogate_still_makes_an_answer(call: Any, stage: Any) -> None:
    await stage.put("one", Status.Completed, output='"\\ud800 ä"')
    assert (await call("GET", "/instances/one")).json()["output"] == "\ud800 ä"


class TestList:
    async def test_no_instances_are_an_empty_array(self, call: Any) -> None:
        response = await call("GET", "/instances")
        assert (response.status, response.body) == (200, b"[]")
        assert "x-ms-continuation-token" not in response.headers

    async def test_instances_are_shown_as_one_by_one_without_history(self, call: Any, stage: Any) -> None:
        await stage.put("a", input_json="1")
        await stage.put("b", Status.Completed, output="2")
        body = (await call("GET", "/instances?showHistory=true")).json()
        assert body == [(await call("GET", f"/instances/{name}")).json() for name in "ab"]

    async def test_pages_follow_the_token_in_the_header(self, call: Any, stage: Any) -> None:
        names = ["1", "2", "3 ü", "4", "5"]
        for name in names:
            await stage.put(name, Status.Pending)
        seen: list[str] = []
        headers: dict[str, str] = {}
        for size in (2, 2, 1):
            response = await call("GET", "/instances?top=2", headers=headers)
            assert len(response.json()) == size
            seen += [each["instanceId"] for each in response.json()]
            token = response.headers.get("x-ms-continuation-token", "")
            token.encode("ascii")
            headers = {"X-MS-Continuation-Token": token}
        assert (seen, token) == (names, "")

    async def test_an_empty_token_means_the_first_page(self, call: Any, stage: Any) -> None:
        await stage.put("a")
        assert len((await call("GET", "/instances", headers={"x-ms-continuation-token": ""})).json()) == 1

    async def test_a_token_nobody_gave_out_is_400(self, call: Any) -> None:
        response = await call("GET", "/instances", headers={"x-ms-continuation-token": "???"})
        assert response.status == 400
        assert "continuation token" in response.json()["ExceptionMessage"]

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("runtimeStatus=Running,Pending", ["job-1", "job-2"]),
            ("runtimeStatus=Completed&runtimeStatus=6", ["job-2", "task-1"]),
            ("runtimeStatus=99", []),
            ("runtimeStatus=Dreaming", ["job-1", "job-2", "task-1"]),
            ("instanceIdPrefix=job-", ["job-1", "job-2"]),
            ("createdTimeFrom=2018-02-28T13:00:00Z", ["job-2", "task-1"]),
            ("createdTimeTo=2018-02-28T13:30:00Z", ["job-1", "job-2"]),
            ("createdTimeFrom=whenever&top=none&showInput=perhaps", ["job-1", "job-2", "task-1"]),
        ],
    )
    async def test_filters_narrow_and_nonsense_is_ignored(
        self, call: Any, stage: Any, query: str, found: list[str]
    ) -> None:
        await stage.put("job-1", Status.Running, created=NOON)
        await stage.put("job-2", Status.Pending, created=NOON + timedelta(hours=1))
        await stage.put("task-1", Status.Completed, created=NOON + timedelta(hours=2))
        response = await call("GET", f"/instances?{query}")
        assert [each["instanceId"] for each in response.json()] == found

    async def test_inputs_can_be_declined(self, call: Any, stage: Any) -> None:
        await stage.put("a", input_json="1")
        assert (await call("GET", "/instances?showInput=false")).json()[0]["input"] is None

    async def test_entities_are_hidden_unless_asked_for(self, call: Any, stage: Any) -> None:
        await stage.put("@counter@a", Status.Pending)
        assert (await call("GET", "/instances")).json() == []
        (entity,) = (await call("GET", "/instances?instanceIdPrefix=@counter")).json()
        assert entity["instanceId"] == "@counter@a"


async def test_the_stored_history_has_every_event(call: Any, stage: Any, store: Store) -> None:
    await stage.put("one/two", Status.Completed)
    response = await call("GET", "/instances/one%2Ftwo/history")
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("application/json")
    assert decode_events(response.body) == await store.read_history("one/two") != []


async def test_the_stored_history_of_what_has_not_begun_is_empty_and_of_nothing_404(call: Any, stage: Any) -> None:
    await stage.put("one", Status.Pending)
    assert (await call("GET", "/instances/one/history")).json() == []
    response = await call("GET", "/instances/gone/history")
    assert (response.status, response.body) == (404, b"")


async def test_dead_letters_are_listed_the_latest_first(call: Any, stage: Any, store: Store) -> None:
    assert (await call("GET", "/deadletters")).json() == []
    letters = [
        DeadLetter(
            kind="activity", instance_id="one", name="charge", payload=payload, reason="no luck", created_at=NOON
        )
        for payload in ("1", "2", None)
    ]
    loaded = await store.begin("one", None, [])
    assert loaded.snapshot is not None
    await store.commit(
        Commit(instance_id="one", execution_id="", version=loaded.snapshot.version, dead_letters=letters)
    )
    answered = (await call("GET", "/deadletters?top=2")).json()
    assert [each["payload"] for each in answered] == [None, "2"]
    stored = await store.list_dead_letters()
    assert msgspec.convert((await call("GET", "/DeadLetters")).json(), list[DeadLetter]) == stored
    assert len(stored) == 3
