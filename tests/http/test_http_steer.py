from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable_ext.history import LIVE, TERMINAL, EventRaised, ExecutionStarted, OrchestrationRuntimeStatus

Status = OrchestrationRuntimeStatus
NOON = datetime(2018, 6, 4, 12, tzinfo=UTC)


async def news(stage: Any, instance_id: str) -> list[Any]:
    return [event for event in await stage.sent_to(instance_id) if not isinstance(event, ExecutionStarted)]


@pytest.mark.parametrize("verb", ["terminate", "suspend", "resume"])
async def test_steering_is_202_while_live_and_410_after(
    call: Any, stage: Any, status: Status, ended: bool, verb: str
) -> None:
    await stage.put("one", status)
    response = await call("POST", f"/instances/one/{verb}?reason=because%20of%20it")
    assert (response.status, response.body) == (410 if ended else 202, b"")
    assert [event.reason for event in await news(stage, "one")] == ([] if ended else ["because of it"])


@pytest.mark.parametrize(
    ("query", "reason"),
    [("", None), ("?reason=", ""), ("?reason=%20", " "), ("?reason=&reason=x", "x"), ("?reason=a%20b", "a b")],
)
async def test_a_reason_is_kept_as_it_was_sent(call: Any, stage: Any, query: str, reason: str | None) -> None:
    await stage.put("one")
    for verb in ("terminate", "suspend", "resume"):
        assert (await call("POST", f"/instances/one/{verb}{query}")).status == 202
    assert [event.reason for event in await news(stage, "one")] == [reason] * 3


@pytest.mark.parametrize("verb", ["terminate", "suspend", "resume", "rewind", "raiseEvent/Go"])
async def test_steering_what_does_not_exist_is_404(call: Any, verb: str) -> None:
    response = await call("POST", f"/instances/gone/{verb}", content=1)
    assert (response.status, response.body) == (404, b"")


async def test_a_reason_is_optional(call: Any, stage: Any) -> None:
    await stage.put("one")
    assert (await call("POST", "/instances/one/terminate")).status == 202
    (event,) = await news(stage, "one")
    assert event.reason is None


async def test_rewind_is_202_for_failed_410_for_ended_and_412_for_live_instances(
    call: Any, stage: Any, status: Status, ended: bool
) -> None:
    await stage.put("one", status)
    response = await call("POST", "/instances/one/rewind?reason=fixed")
    if status is Status.Failed:
        assert (response.status, response.body) == (202, b"")
        assert [event.reason for event in await news(stage, "one")] == ["fixed"]
    elif ended:
        assert (response.status, response.body) == (410, b"")
    else:
        assert response.status == 412
        assert response.json() == "The rewind operation is only supported on failed orchestration instances."


class TestRaiseEvent:
    async def test_events_are_202_while_live_and_410_after(
        self, call: Any, stage: Any, status: Status, ended: bool
    ) -> None:
        await stage.put("one", status)
        response = await call("POST", "/instances/one/raiseEvent/operation", content="incr")
        assert (response.status, response.body) == (410 if ended else 202, b"")
        sent = await news(stage, "one")
        assert [(event.name, event.input) for event in sent] == ([] if ended else [("operation", '"incr"')])

    async def test_names_and_data_arrive_as_they_were_sent(self, call: Any, stage: Any) -> None:
        await stage.put("one")
        await call("POST", "/instances/one/raiseEvent/a%2Fb%20%C3%A4", content={"n": [1, 2, 3]})
        await call(
            "POST",
            "/instances/one/raiseEvent/empty",
            body=b" null ",
            headers={"content-type": "Application/JSON; charset=utf-8"},
        )
        first, second = await news(stage, "one")
        assert isinstance(first, EventRaised)
        assert (first.name, first.input) == ("a/b ä", '{"n":[1,2,3]}')
        assert (second.name, second.input) == ("empty", "null")

    @pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/plain"}, {"Content-Type": "application/jsonp"}])
    async def test_another_media_type_is_400(self, call: Any, stage: Any, headers: dict[str, str]) -> None:
        await stage.put("one")
        response = await call("POST", "/instances/one/raiseEvent/Go", body=b"1", headers=headers)
        assert response.status == 400
        assert response.json() == {"Message": "Only application/json request content is supported"}
        assert await news(stage, "one") == []

    @pytest.mark.parametrize("body", [b"{", b"", b" \r\n"])
    async def test_bad_json_is_400_and_a_forgotten_body_is_no_null(self, call: Any, stage: Any, body: bytes) -> None:
        await stage.put("one")
        headers = {"Content-Type": "application/json"}
        response = await call("POST", "/instances/one/raiseEvent/Go", body=body, headers=headers)
        assert response.status == 400
        assert response.json()["Message"] == "Invalid JSON content"
        assert response.json()["ExceptionMessage"]
        assert await news(stage, "one") == []

    async def test_a_missing_or_ended_instance_goes_before_a_bad_body(self, call: Any, stage: Any) -> None:
        await stage.put("done", Status.Completed)
        assert (await call("POST", "/instances/gone/raiseEvent/Go", body=b"{")).status == 404
        assert (await call("POST", "/instances/done/raiseEvent/Go", body=b"{")).status == 410


class TestPurge:
    async def test_one_ended_instance_is_removed_and_a_live_one_is_412(
        self, call: Any, stage: Any, status: Status, ended: bool
    ) -> None:
        await stage.put("one", status)
        response = await call("DELETE", "/instances/one")
        if ended:
            assert (response.status, response.json()) == (200, {"instancesDeleted": 1})
            assert (await call("GET", "/instances/one")).status == 404
            return
        assert response.status == 412
        assert f"it is in the {status.name} state" in response.json()
        assert (await call("GET", "/instances/one")).status == 202

    async def test_an_unknown_instance_is_404(self, call: Any) -> None:
        response = await call("DELETE", "/instances/gone")
        assert (response.status, response.body) == (404, b"")

    @pytest.mark.parametrize(
        "query", ["", "?createdTimeFrom=", "?createdTimeFrom=whenever", "?runtimeStatus=Completed"]
    )
    async def test_many_need_a_time_to_begin_at(self, call: Any, stage: Any, query: str) -> None:
        await stage.put("one", Status.Completed)
        response = await call("DELETE", f"/instances{query}")
        assert response.status == 400
        assert response.json() == "Please provide value for 'createdTimeFrom' parameter."

    async def test_many_never_touch_live_instances(self, call: Any, stage: Any) -> None:
        for status in Status:
            await stage.put(status.name, status, created=NOON)
        since = "createdTimeFrom=2018-06-01T00:00:00Z"
        for query in ("runtimeStatus=Running", "runtimeStatus=Pending,Suspended", "createdTimeTo=2018-06-02"):
            assert (await call("DELETE", f"/instances?{since}&{query}")).status == 404
        response = await call("DELETE", f"/instances?{since}&runtimeStatus=Completed,Running")
        assert (response.status, response.json()) == (200, {"instancesDeleted": 1})
        response = await call("DELETE", f"/instances?{since}")
        assert response.json() == {"instancesDeleted": len(TERMINAL) - 1}
        assert {each["instanceId"] for each in (await call("GET", "/instances")).json()} == {s.name for s in LIVE}

    async def test_many_keep_to_the_time_given(self, call: Any, stage: Any) -> None:
        await stage.put("in", Status.Completed, created=NOON)
        await stage.put("out", Status.Completed, created=NOON + timedelta(days=1))
        window = "createdTimeFrom=2018-06-04T12:00:00Z&createdTimeTo=2018-06-04T12:00:00Z"
        assert (await call("DELETE", f"/instances?{window}")).json() == {"instancesDeleted": 1}
        assert (await call("DELETE", f"/instances?{window}")).status == 404
        assert (await call("GET", "/instances/out")).status == 200

    @pytest.mark.parametrize(
        ("query", "named"),
        [
            ("runtimeStatus=Complete", "'Complete' is no status"),
            ("runtimeStatus=Completed,Faild", "'Faild' is no status"),
            ("runtimeStatus=Completed&runtimeStatus=99", "'99' is no status"),
            ("runtimeStatus=", "'' is no status"),
            ("createdTimeTo=yesterday", "createdTimeTo: 'yesterday'"),
            ("createdTimeTo=", "createdTimeTo: ''"),
            ("createdTimeTo=2018-06-02&createdTimeTo=2018-07-02", "createdTimeTo: '2018-06-02,2018-07-02'"),
            ("createdTimeFrom=2018-07-01", "createdTimeFrom: '2018-06-01,2018-07-01'"),
            ("instanceIdPrefix=", "instanceIdPrefix: ''"),
            ("instanceIdPrefix=a&instanceIdPrefix=b", "instanceIdPrefix: 'a,b'"),
        ],
    )
    async def test_many_delete_nothing_if_a_filter_is_not_understood(
        self, call: Any, stage: Any, query: str, named: str
    ) -> None:
        for status in TERMINAL:
            await stage.put(status.name, status, created=NOON)
        response = await call("DELETE", f"/instances?createdTimeFrom=2018-06-01&{query}")
        assert response.status == 400
        assert named in response.json()["Message"]
        assert "Nothing was deleted" in response.json()["Message"]
        assert len((await call("GET", "/instances")).json()) == len(TERMINAL)

    async def test_many_keep_to_the_prefix_given(self, call: Any, stage: Any) -> None:
        for name in ("job-1", "job-2", "Job-3", "task-1"):
            await stage.put(name, Status.Completed, created=NOON)
        response = await call("DELETE", "/instances?createdTimeFrom=2018-06-01&instanceIdPrefix=job-")
        assert response.json() == {"instancesDeleted": 2}
        assert [each["instanceId"] for each in (await call("GET", "/instances")).json()] == ["Job-3", "task-1"]
