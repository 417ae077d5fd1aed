from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from durable_ext.client import OrchestrationClient
from durable_ext.history import ExecutionCompleted, ExecutionStarted, OrchestrationRuntimeStatus, TaskScheduled
from durable_ext.storage.contract import Commit, DeadLetter, InstanceQuery, Store

Status = OrchestrationRuntimeStatus
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


async def test_a_missing_instance_is_a_falsy_status_and_not_none(client: OrchestrationClient) -> None:
    status = await client.get_status("gone", show_history=True)
    assert not status
    assert status.runtime_status is None
    assert status.message == "No instance with ID 'gone' found."  # type: ignore[attr-defined] # set from extra keys


async def test_a_status_shows_everything_that_is_known(client: OrchestrationClient, stage: Any, status: Status) -> None:
    pending = status is Status.Pending
    await stage.put("one", status, input_json='{"a":1}', output="[1]", custom_status='"half"', created=NOON)
    found = await client.get_status("one")
    assert found
    assert (found.name, found.instance_id, found.runtime_status) == ("Hello", "one", status)
    assert (found.input_, found.output, found.custom_status) == (
        {"a": 1},
        None if pending else [1],
        None if pending else "half",
    )
    assert found.created_time == NOON
    assert found.last_updated_time is not None
    assert found.last_updated_time >= NOON
    assert found.history is None


async def test_a_reason_that_is_no_json_is_shown_as_text(client: OrchestrationClient, stage: Any) -> None:
    await stage.put("one", Status.Terminated, output="It was time to be done.")
    assert (await client.get_status("one")).output == "It was time to be done."


async def test_the_input_is_left_out_only_on_request(client: OrchestrationClient, stage: Any) -> None:
    await stage.put("one", input_json="5", output="6")
    assert (await client.get_status("one")).input_ == 5
    without = await client.get_status("one", show_history=True, show_input=False)
    assert (without.input_, without.output) == (None, 6)
    assert not [item for item in without.history or [] if "Input" in item]


async def test_the_history_is_shown_on_request(client: OrchestrationClient, stage: Any) -> None:
    end = ExecutionCompleted(timestamp=NOON, event_id=0, orchestration_status=Status.Completed, result='"x"')
    await stage.put("one", Status.Completed, events=[end])
    found = await client.get_status("one", show_history=True)
    assert found.history is not None
    assert [item["EventType"] for item in found.history] == ["ExecutionStarted", "ExecutionCompleted"]
    assert "Result" not in found.history[1]
    full = await client.get_status("one", show_history=True, show_history_output=True)
    assert full.history is not None
    assert full.history[1]["Result"] == "x"


async def test_a_pending_instance_has_no_history(client: OrchestrationClient, stage: Any) -> None:
    await stage.put("one", Status.Pending)
    assert (await client.get_status("one", show_history=True)).history is None
    assert await client.get_history("one") == []


async def test_get_history_returns_the_events_themselves(client: OrchestrationClient, stage: Any) -> None:
    call = TaskScheduled(timestamp=NOON, event_id=0, name="Act")
    await stage.put("one", events=[call])
    history = await client.get_history("one")
    assert isinstance(history[1], ExecutionStarted)
    assert history[-1] == call


async def test_get_status_all_returns_every_page(client: OrchestrationClient, stage: Any) -> None:
    for number in range(230):
        await stage.put(f"i{number:03}", Status.Pending)
    found = await client.get_status_all()
    assert sorted(status.instance_id or "" for status in found) == [f"i{number:03}" for number in range(230)]


async def test_pages_carry_a_token_until_the_last(client: OrchestrationClient, stage: Any) -> None:
    for name in "abc":
        await stage.put(name, Status.Pending, input_json="1")
    first = await client.list_instances(InstanceQuery(page_size=2))
    assert [status.instance_id for status in first.instances] == ["a", "b"]
    assert first.continuation_token
    second = await client.list_instances(
        InstanceQuery(page_size=2, continuation_token=first.continuation_token, with_payloads=False)
    )
    assert [(status.instance_id, status.input_) for status in second.instances] == [("c", None)]
    assert second.continuation_token is None


async def test_entities_are_listed_only_to_who_asks_for_them(client: OrchestrationClient, stage: Any) -> None:
    await stage.put("plain", Status.Pending)
    await stage.put("@counter@a", Status.Pending)
    assert [status.instance_id for status in await client.get_status_all()] == ["plain"]
    assert [status.instance_id for status in await client.get_status_by(instance_id_prefix="@c")] == ["@counter@a"]


async def test_conditions_narrow_the_answer_and_add_up(client: OrchestrationClient, stage: Any) -> None:
    hour = timedelta(hours=1)
    await stage.put("job-1", Status.Completed, created=NOON)
    await stage.put("job-2", Status.Running, created=NOON + hour)
    await stage.put("job-3", Status.Failed, created=NOON + 2 * hour, name="Other")
    await stage.put("task-1", Status.Completed, created=NOON + 3 * hour)

    async def ids(**conditions: Any) -> list[str | None]:
        return [status.instance_id for status in await client.get_status_by(**conditions)]

    assert await ids() == ["job-1", "job-2", "job-3", "task-1"]
    assert await ids(created_time_from=NOON + hour) == ["job-2", "job-3", "task-1"]
    assert await ids(created_time_to=NOON + hour) == ["job-1", "job-2"]
    assert await ids(runtime_status=[Status.Completed, Status.Failed]) == ["job-1", "job-3", "task-1"]
    assert await ids(runtime_status=["Completed"]) == ["job-1", "task-1"]
    assert await ids(runtime_status="Completed") == ["job-1", "task-1"]
    assert await ids(runtime_status=Status.Running) == ["job-2"]
    assert await ids(created_time_from=NOON.date()) == ["job-1", "job-2", "job-3", "task-1"]
    assert await ids(created_time_to=NOON.date()) == []
    assert await ids(runtime_status=[]) == ["job-1", "job-2", "job-3", "task-1"]
    assert await ids(instance_id_prefix="job-") == ["job-1", "job-2", "job-3"]
    assert await ids(name="Other") == ["job-3"]
    assert await ids(instance_id_prefix="job-", runtime_status=[Status.Completed], created_time_to=NOON) == ["job-1"]
    assert await ids(created_time_from=NOON + 9 * hour) == []


async def test_times_in_other_zones_mean_the_same_moment_and_naive_ones_are_utc(
    client: OrchestrationClient, stage: Any
) -> None:
    await stage.put("one", Status.Pending, created=NOON)
    east = NOON.astimezone(timezone(timedelta(hours=5)))
    for moment in (NOON, east, NOON.replace(tzinfo=None)):
        assert len(await client.get_status_by(created_time_from=moment, created_time_to=moment)) == 1


async def test_an_unknown_status_name_is_an_error(client: OrchestrationClient) -> None:
    with pytest.raises(ValueError, match="Dreaming"):
        await client.get_status_by(runtime_status=["Dreaming"])
    with pytest.raises(ValueError, match="Dreaming"):
        await client.get_status_by(runtime_status="Dreaming")


async def test_dead_letters_are_listed_with_payload_and_reason(
    client: OrchestrationClient, store: Store, stage: Any
) -> None:
    await stage.put("one")
    opening = await store.begin("one", None, ())
    assert opening.snapshot is not None
    letter = DeadLetter(
        kind="message", instance_id="one", name="MyEvent", payload="1", reason="kills its worker", created_at=NOON
    )
    await store.commit(
        Commit(
            instance_id="one",
            execution_id="run of one",
            version=opening.snapshot.version,
            dead_letters=[letter],
        )
    )
    (found,) = await client.get_dead_letters()
    assert (found.name, found.payload, found.reason) == ("MyEvent", "1", "kills its worker")
