"""Every verb on an instance in each of the eight statuses, and on one that does not exist."""

from __future__ import annotations

from typing import Any

import pytest

from durable_ext.client import OrchestrationClient
from durable_ext.errors import ClientError, CodecError, InstanceAlreadyExistsError, InstanceNotFoundError
from durable_ext.history import (
    EventRaised,
    ExecutionResumed,
    ExecutionRewound,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
    HistoryEvent,
    OrchestrationRuntimeStatus,
)
from durable_ext.settings import Settings
from durable_ext.storage.contract import Store
from durable_ext.storage.opening import open_store
from durable_ext.taskhub import TaskHub

Status = OrchestrationRuntimeStatus


async def news(stage: Any, instance_id: str) -> list[HistoryEvent]:
    """What was sent besides the start."""
    return [event for event in await stage.sent_to(instance_id) if not isinstance(event, ExecutionStarted)]


async def test_terminate_reaches_live_instances_and_leaves_ended_ones_silently_alone(
    client: OrchestrationClient, stage: Any, status: Status, ended: bool
) -> None:
    await stage.put("one", status)
    await client.terminate("one", "It was time to be done.")
    sent = await news(stage, "one")
    assert [type(event) for event in sent] == ([] if ended else [ExecutionTerminated])
    for event in sent:
        assert isinstance(event, ExecutionTerminated)
        assert (event.reason, event.recurse) == ("It was time to be done.", False)


async def test_terminate_can_take_the_children_along(client: OrchestrationClient, stage: Any) -> None:
    await stage.put("one")
    await client.terminate("one", "all", recursive=True)
    (event,) = await news(stage, "one")
    assert isinstance(event, ExecutionTerminated)
    assert event.recurse


async def test_suspend_and_resume_reach_every_live_instance_whether_or_not_they_have_an_effect(
    client: OrchestrationClient, stage: Any, status: Status, ended: bool
) -> None:
    await stage.put("one", status)
    await client.suspend("one", "lunch")
    await client.resume("one", "back")
    sent = await news(stage, "one")
    assert [type(event) for event in sent] == ([] if ended else [ExecutionSuspended, ExecutionResumed])
    assert [getattr(event, "reason", None) for event in sent] == ([] if ended else ["lunch", "back"])


async def test_events_reach_live_instances_and_are_refused_by_ended_ones(
    client: OrchestrationClient, stage: Any, status: Status, ended: bool
) -> None:
    await stage.put("one", status)
    if ended:
        with pytest.raises(ClientError) as caught:
            await client.raise_event("one", "MyEvent", [1, 2, 3])
        assert str(caught.value) == "Instance with ID one is gone: either completed or failed"
        assert await news(stage, "one") == []
        return
    await client.raise_event("one", "MyEvent", [1, 2, 3])
    (event,) = await news(stage, "one")
    assert isinstance(event, EventRaised)
    assert (event.name, event.input) == ("MyEvent", "[1,2,3]")


async def test_rewind_reaches_failed_instances_only(client: OrchestrationClient, stage: Any, status: Status) -> None:
    await stage.put("one", status)
    if status is Status.Failed:
        await client.rewind("one", "fixed")
        (event,) = await news(stage, "one")
        assert isinstance(event, ExecutionRewound)
        assert event.reason == "fixed"
        return
    with pytest.raises(ClientError) as caught:
        await client.rewind("one", "fixed")
    assert str(caught.value) == "The rewind operation is only supported on failed orchestration instances."
    assert await news(stage, "one") == []


async def test_restart_with_a_new_id_copies_name_and_input_whatever_the_status(
    client: OrchestrationClient, stage: Any, status: Status
) -> None:
    await stage.put("one", status, name="Nightly", input_json='{"a":1}')
    new_id = await client.restart("one")
    assert new_id != "one"
    (start,) = await stage.sent_to(new_id)
    assert isinstance(start, ExecutionStarted)
    assert (start.name, start.input) == ("Nightly", '{"a":1}')
    assert (await client.get_status("one")).runtime_status is status


@pytest.mark.parametrize(("asked", "version"), [(None, "8"), ("7", "7"), ("", None)])
async def test_a_restart_has_the_default_version_unless_told_otherwise(
    store: Store, stage: Any, asked: str | None, version: str | None
) -> None:
    client = TaskHub(store, settings=Settings(default_version="8")).client
    await stage.put("one", Status.Completed, version="6")
    for with_new_id in (True, False):
        again = await client.restart("one", with_new_id, version=asked)
        (start,) = await stage.sent_to(again)
        assert start.version == version


async def test_restart_with_the_same_id_replaces_ended_instances_and_refuses_live_ones(
    client: OrchestrationClient, stage: Any, status: Status, ended: bool
) -> None:
    await stage.put("one", status, name="Nightly", input_json="5", output='"done"')
    if not ended:
        with pytest.raises(InstanceAlreadyExistsError):
            await client.restart("one", restart_with_new_instance_id=False)
        assert (await client.get_status("one")).runtime_status is status
        return
    assert await client.restart("one", restart_with_new_instance_id=False) == "one"
    found = await client.get_status("one")
    assert (found.name, found.input_, found.output) == ("Nightly", 5, None)
    assert found.runtime_status is Status.Pending
    (start,) = await stage.sent_to("one")
    assert start.execution_id != "run of one"


@pytest.mark.parametrize(
    ("verb", "arguments", "text"),
    [
        ("terminate", ("reason",), "No instance with ID 'gone' found."),
        ("suspend", ("reason",), "No instance with ID 'gone' found."),
        ("resume", ("reason",), "No instance with ID 'gone' found."),
        ("restart", (), "No instance with ID 'gone' found."),
        ("restart", (False,), "No instance with ID 'gone' found."),
        ("get_history", (), "No instance with ID 'gone' found."),
        ("raise_event", ("MyEvent", 1), "No instance with ID gone found."),
        ("rewind", ("reason",), "No instance with ID gone found."),
    ],
)
async def test_an_instance_that_does_not_exist_is_named(
    client: OrchestrationClient, verb: str, arguments: tuple[object, ...], text: str
) -> None:
    with pytest.raises(InstanceNotFoundError) as caught:
        await getattr(client, verb)("gone", *arguments)
    assert str(caught.value) == text
    assert isinstance(caught.value, ClientError)


async def test_an_event_for_an_id_that_starts_later_is_not_kept(client: OrchestrationClient, stage: Any) -> None:
    with pytest.raises(InstanceNotFoundError):
        await client.raise_event("later", "MyEvent")
    await stage.put("later")
    assert await news(stage, "later") == []


@pytest.mark.parametrize(
    ("data", "stored"), [(None, "null"), (0, "0"), (False, "false"), ("x", '"x"'), ('"x"', '"\\"x\\""'), ({}, "{}")]
)
async def test_event_data_is_encoded_exactly_once(
    client: OrchestrationClient, stage: Any, data: object, stored: str | None
) -> None:
    await stage.put("one")
    await client.raise_event("one", "MyEvent", data)
    (event,) = await news(stage, "one")
    assert isinstance(event, EventRaised)
    assert event.input == stored


async def test_events_arrive_in_the_order_they_were_raised(client: OrchestrationClient, stage: Any) -> None:
    await stage.put("one")
    for number in range(5):
        await client.raise_event("one", "MyEvent", number)
    assert [getattr(event, "input", None) for event in await news(stage, "one")] == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("name", ["", None])
async def test_an_event_needs_a_name(client: OrchestrationClient, stage: Any, name: Any) -> None:
    await stage.put("one")
    with pytest.raises(ValueError, match=r"event_name must be a non-empty string\."):
        await client.raise_event("one", name)


async def test_event_data_that_is_not_serialisable_sends_nothing(client: OrchestrationClient, stage: Any) -> None:
    await stage.put("one")
    with pytest.raises(CodecError):
        await client.raise_event("one", "MyEvent", object())
    assert await news(stage, "one") == []


async def test_another_task_hub_is_refused_rather_than_confused_with_ours(
    client: OrchestrationClient, stage: Any
) -> None:
    await stage.put("one", Status.Failed)
    await stage.put("two")
    with pytest.raises(ClientError, match="'TestHub', not to 'OtherHub'"):
        await client.raise_event("two", "MyEvent", 1, task_hub_name="OtherHub")
    with pytest.raises(ClientError, match="OtherHub"):
        await client.rewind("one", "fixed", task_hub_name="OtherHub")
    assert await news(stage, "one") == await news(stage, "two") == []
    await client.raise_event("two", "MyEvent", 1, task_hub_name="testhub", connection_name="AzureWebJobsStorage")
    assert len(await news(stage, "two")) == 1


async def test_the_same_id_in_two_hubs_is_two_instances(client: OrchestrationClient, stage: Any) -> None:
    await stage.put("one", name="Here")
    other = open_store("sqlite:///:memory:")
    await other.open()
    try:
        there = TaskHub(other).client
        assert await there.start_new("There", "one") == "one"
        assert [(await each.get_status("one")).name for each in (client, there)] == ["Here", "There"]
    finally:
        await other.close()
