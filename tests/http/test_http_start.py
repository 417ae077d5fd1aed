from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from durable_ext.history import ExecutionStarted, OrchestrationRuntimeStatus
from durable_ext.http.api import ManagementApi

Status = OrchestrationRuntimeStatus
BASE = "http://localhost:7071/runtime/webhooks/durabletask"
SUFFIX = "taskHub=TestHub&connection=Storage"


async def test_a_start_is_202_with_the_management_payload(call: Any, client: Any) -> None:
    response = await call("POST", "/orchestrators/RestartVMs/nightly-07", content={"resourceGroup": "myRG"})
    assert response.status == 202
    status_url = f"{BASE}/instances/nightly-07?{SUFFIX}"
    assert response.headers == {
        "Content-Type": "application/json; charset=utf-8",
        "Location": status_url,
        "Retry-After": "10",
    }
    assert list(response.json().items())[:2] == [("id", "nightly-07"), ("statusQueryGetUri", status_url)]
    assert list(response.json()) == [
        "id",
        "statusQueryGetUri",
        "sendEventPostUri",
        "terminatePostUri",
        "rewindPostUri",
        "purgeHistoryDeleteUri",
        "restartPostUri",
        "suspendPostUri",
        "resumePostUri",
    ]
    status = await client.get_status("nightly-07")
    assert (status.name, status.input_) == ("RestartVMs", {"resourceGroup": "myRG"})


async def test_the_links_handed_out_work(call: Any, stage: Any) -> None:
    links = (await call("POST", "/orchestrators/Hello")).json()
    assert re.fullmatch(r"[0-9a-f]{32}", links["id"])
    assert (await call("GET", links["statusQueryGetUri"])).status == 202
    await stage.progress(links["id"], Status.Running)
    assert (await call("POST", links["sendEventPostUri"].format(eventName="Go"), content=1)).status == 202
    assert (await call("POST", links["suspendPostUri"].format(text="lunch%20time"))).status == 202
    assert (await call("POST", links["resumePostUri"].format(text="back"))).status == 202
    assert (await call("POST", links["terminatePostUri"].format(text="enough"))).status == 202
    sent = await stage.sent_to(links["id"])
    assert [type(event).__name__ for event in sent] == [
        "EventRaised",
        "ExecutionSuspended",
        "ExecutionResumed",
        "ExecutionTerminated",
    ]
    assert sent[1].reason == "lunch time"
    await stage.progress(links["id"], Status.Failed, output="no")
    assert (await call("POST", links["rewindPostUri"].format(text="fixed"))).status == 202
    assert (await call("POST", links["restartPostUri"])).status == 202
    assert (await call("DELETE", links["purgeHistoryDeleteUri"])).json() == {"instancesDeleted": 1}


@pytest.mark.parametrize("instance_id", ["a b", "a%b", "a&b=c", "名前", "a:b+c"])
async def test_any_id_survives_the_round_trip_through_urls(call: Any, client: Any, instance_id: str) -> None:
    await client.start_new("Hello", instance_id)
    links = (await call("POST", f"/instances/{_quoted(instance_id)}/restart?restartWithNewInstanceId=true")).json()
    assert links["id"] != instance_id
    status = await call("GET", f"/instances/{_quoted(instance_id)}")
    assert status.json()["instanceId"] == instance_id
    assert (await call("GET", status.headers["Location"])).json()["instanceId"] == instance_id


def _quoted(instance_id: str) -> str:
    return "".join(f"%{byte:02X}" for byte in instance_id.encode())


async def test_without_a_body_the_input_is_none_and_the_content_type_does_not_matter(call: Any, client: Any) -> None:
    await call("POST", "/orchestrators/Hello/none", headers={"Content-Type": "text/plain"})
    await call("POST", "/orchestrators/Hello/text", body='"ä"'.encode(), headers={"Content-Type": "text/plain"})
    assert (await client.get_status("none")).input_ is None
    assert (await client.get_status("text")).input_ == "ä"


async def test_a_version_can_be_chosen(call: Any, stage: Any) -> None:
    await call("POST", "/orchestrators/Hello/one?version=2.1")
    (start,) = await stage.sent_to("one")
    assert isinstance(start, ExecutionStarted)
    assert start.version == "2.1"


@pytest.mark.parametrize(
    ("query", "version"), [("", "2.0"), ("?version=", None), ("?version=%20", None), ("?version=1.0", "1.0")]
)
async def test_without_a_version_it_is_the_default_and_a_blank_one_is_none(
    calling: Any, stage: Any, query: str, version: str | None
) -> None:
    call = calling(default_version="2.0")
    await call("POST", f"/orchestrators/Hello/one{query}")
    (start,) = await stage.sent_to("one")
    assert start.version == version
    await stage.put("old", Status.Completed, version="0.1")
    restarted = (await call("POST", f"/instances/old/restart{query}")).json()["id"]
    (start,) = await stage.sent_to(restarted)
    assert start.version == version


@pytest.mark.parametrize("body", [b"{", b"\xff", b"NaN", b"[1,]", b"[" * 100_000, b"hello"])
async def test_a_body_that_is_no_json_is_400_and_starts_nothing(call: Any, body: bytes) -> None:
    response = await call("POST", "/orchestrators/Hello/one", body=body)
    assert response.status == 400
    assert response.json()["Message"] == "Invalid JSON content"
    assert set(response.json()) == {"Message", "ExceptionMessage", "ExceptionType", "StackTrace"}
    assert (await call("GET", "/instances/one")).status == 404


async def test_an_unknown_orchestrator_is_400_and_the_known_ones_are_named(call: Any) -> None:
    response = await call("POST", "/orchestrators/Helo")
    assert response.status == 400
    assert response.json()["Message"] == "One or more of the arguments submitted is incorrect"
    assert response.json()["ExceptionMessage"] == (
        "The function 'Helo' doesn't exist, is disabled, or is not an orchestrator function. Additional info: "
        "The following are the known orchestrator functions: 'Hello', 'RestartVMs'."
    )


@pytest.mark.parametrize(
    "segment", ["%20", "%20%20", "@one", "a%2Fb", "a%5Cb", "a%23b", "a%3Fb", "a%00b", "a%7Fb", "x" * 257]
)
async def test_an_id_that_breaks_a_rule_is_400(call: Any, segment: str) -> None:
    response = await call("POST", f"/orchestrators/Hello/{segment}")
    assert response.status == 400
    assert "is not allowed" in response.json()["ExceptionMessage"]


async def test_a_live_id_is_409_and_an_ended_one_is_replaced(
    call: Any, stage: Any, status: Status, ended: bool
) -> None:
    await stage.put("one", status)
    response = await call("POST", "/orchestrators/Hello/one")
    if ended:
        assert response.status == 202
        return
    assert response.status == 409
    assert response.json() == {"Message": f"An Orchestration instance with the status {status.name} already exists."}


class TestWaiting:
    async def finish(self, call: Any, stage: Any, query: str, status: Status, output: str) -> Any:
        waiting = asyncio.ensure_future(call("POST", f"/orchestrators/Hello/one?{query}"))
        while (await call("GET", "/instances/one")).status == 404:
            pass
        await stage.progress("one", Status.Running)
        await stage.progress("one", status, output=output)
        return await waiting

    async def test_a_completed_instance_answers_with_its_output_alone(self, call: Any, stage: Any) -> None:
        output = '["Hello Tokyo!","Hello Seattle!","Hello London!"]'
        response = await self.finish(call, stage, "timeout=30&pollingInterval=0.5", Status.Completed, output)
        assert (response.status, response.body.decode()) == (200, output)

    @pytest.mark.parametrize("status", [Status.Failed, Status.Terminated, Status.Canceled])
    async def test_another_end_answers_with_the_status(self, call: Any, stage: Any, status: Status) -> None:
        response = await self.finish(call, stage, "timeout=30&pollingInterval=1", status, "no luck")
        assert response.status == 200
        assert (response.json()["runtimeStatus"], response.json()["output"]) == (status.name, "no luck")

    async def test_a_failure_is_500_if_asked_for(self, call: Any, stage: Any) -> None:
        query = "timeout=30&pollingInterval=1&returnInternalServerErrorOnFailure=true"
        response = await self.finish(call, stage, query, Status.Failed, "no luck")
        assert response.status == 500
        assert response.json()["output"] == "no luck"

    async def test_the_status_of_a_failure_has_what_was_asked_for(self, call: Any, stage: Any) -> None:
        query = "timeout=30&pollingInterval=1&showHistory=true&showInput=false"
        response = await self.finish(call, stage, query, Status.Failed, "no luck")
        assert response.json() == (await call("GET", "/instances/one?showHistory=true&showInput=false")).json()
        assert response.json()["historyEvents"]

    async def test_a_timeout_answers_as_if_nobody_had_waited(self, call: Any) -> None:
        target = "/orchestrators/Hello/one?timeout=0&pollingInterval=0&returnInternalServerErrorOnFailure=true"
        response = await call("POST", target)
        assert response.status == 202
        assert response.headers["Location"] == f"{BASE}/instances/one?{SUFFIX}&returnInternalServerErrorOnFailure=true"

    @pytest.mark.parametrize("query", ["timeout=30", "pollingInterval=1", "timeout=x&pollingInterval=1"])
    async def test_it_takes_both_numbers_to_wait(self, call: Any, query: str) -> None:
        assert (await call("POST", f"/orchestrators/Hello/one?{query}")).status == 202

    async def test_an_interval_above_the_timeout_is_400_and_starts_nothing(self, call: Any) -> None:
        response = await call("POST", "/orchestrators/Hello/one?timeout=1&pollingInterval=2.5")
        assert response.status == 400
        assert response.json() == {"Message": "Total timeout 1 should be bigger than retry timeout 2.5"}
        assert (await call("GET", "/instances/one")).status == 404


class TestRestart:
    async def test_by_default_a_new_id_is_made(self, call: Any, stage: Any, client: Any) -> None:
        await stage.put("one", Status.Completed, input_json="[5]")
        response = await call("POST", "/instances/one/restart")
        assert response.status == 202
        new_id = response.json()["id"]
        assert new_id != "one"
        assert response.headers["Location"] == f"{BASE}/instances/{new_id}?{SUFFIX}"
        assert (await client.get_status(new_id)).input_ == [5]

    async def test_the_same_id_can_be_kept_unless_it_is_live(
        self, call: Any, stage: Any, status: Status, ended: bool
    ) -> None:
        await stage.put("one", status)
        response = await call("POST", "/instances/one/restart?restartWithNewInstanceId=false")
        if ended:
            assert (response.status, response.json()["id"]) == (202, "one")
            return
        assert response.status == 409
        assert response.json() == {"Message": "A non-terminal instance with this instance ID already exists."}

    async def test_an_unknown_instance_is_400(self, call: Any) -> None:
        response = await call("POST", "/instances/gone/restart")
        assert response.status == 400
        assert response.json() == {"Message": "InstanceId does not match a valid orchestration instance."}

    async def test_an_interval_above_the_timeout_is_400_and_restarts_nothing(self, call: Any, stage: Any) -> None:
        await stage.put("one", Status.Completed)
        target = "/instances/one/restart?restartWithNewInstanceId=false&timeout=1&pollingInterval=2"
        response = await call("POST", target)
        assert response.status == 400
        assert response.json() == {"Message": "Total timeout 1 should be bigger than retry timeout 2"}
        assert (await call("GET", "/instances/one")).json()["runtimeStatus"] == "Completed"

    async def test_it_can_be_waited_for(self, call: Any, stage: Any) -> None:
        await stage.put("one", Status.Completed)
        response = await call("POST", "/instances/one/restart?timeout=0&pollingInterval=0")
        assert response.status == 202


async def test_the_api_says_which_hub_it_serves_when_asked_for_another(call: Any, stage: Any) -> None:
    await stage.put("one")
    response = await call("GET", "/instances/one?taskHub=Other")
    assert response.status == 400
    assert response.json() == {"Message": "This app serves the task hub 'TestHub', not 'Other'."}
    for query in ("taskHub=testhub", "taskHub=", "connection=AzureWebJobsStorage"):
        assert (await call("GET", f"/instances/one?{query}")).status == 202


async def test_what_goes_wrong_inside_is_500_and_logged(
    call: Any, store: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*args: object, **options: object) -> None:
        raise OSError("disk gone")

    monkeypatch.setattr(store, "get_instance", broken)
    assert isinstance(call.api, ManagementApi)
    response = await call("GET", "/instances/one")
    assert response.status == 500
    body = response.json()
    assert body["Message"] == "Something went wrong while processing your request"
    assert (body["ExceptionMessage"], body["ExceptionType"]) == ("disk gone", "builtins.OSError")
    assert "GET /instances/one failed" in caplog.text
    assert "in broken" in caplog.text


async def test_an_error_shows_no_traceback_and_no_path_of_ours(
    call: Any, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **options: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", "/secret/hub.db")

    monkeypatch.setattr(store, "get_instance", broken)
    for response in (
        await call("GET", "/instances/one"),
        await call("POST", "/orchestrators/Nobody"),
        await call("POST", "/orchestrators/Hello", body=b"{"),
    ):
        assert response.json()["StackTrace"] == ""
        assert response.json()["ExceptionMessage"]
        for part in (b"/secret", b".py", b"Traceback"):
            assert part not in response.body
