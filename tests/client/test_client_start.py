from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from clocks import FixedClock

from durable_ext.client import OrchestrationClient
from durable_ext.engine.turn import Callee
from durable_ext.errors import (
    ClientError,
    CodecError,
    FunctionNotFoundError,
    InstanceAlreadyExistsError,
    InvalidInstanceIdError,
)
from durable_ext.history import ExecutionStarted, OrchestrationRuntimeStatus
from durable_ext.registry import Orchestrator, Registry
from durable_ext.settings import Settings
from durable_ext.storage.contract import Store
from durable_ext.taskhub import TaskHub

Status = OrchestrationRuntimeStatus
NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)


def client_of(store: Store, registry: Registry | None = None, **settings: Any) -> OrchestrationClient:
    return TaskHub(store, registry, settings=Settings(**settings)).client


async def test_a_start_stores_a_pending_instance_and_its_start_message(store: Store, stage: Any) -> None:
    client = TaskHub(store, clock=FixedClock(NOW)).client
    assert await client.start_new("HelloWorld", "one", {"city": "Zürich"}) == "one"
    (start,) = await stage.sent_to("one")
    assert isinstance(start, ExecutionStarted)
    assert (start.name, start.input, start.version, start.timestamp) == ("HelloWorld", '{"city":"Zürich"}', None, NOW)
    assert start.execution_id == start.start_id
    assert re.fullmatch(r"[0-9a-f]{32}", start.execution_id)
    status = await client.get_status("one")
    assert (status.runtime_status, status.input_) == (Status.Pending, {"city": "Zürich"})
    assert status.created_time == status.last_updated_time == NOW


@pytest.mark.parametrize("nothing", [None, ""])
async def test_without_an_id_a_random_one_is_made(client: OrchestrationClient, nothing: str | None) -> None:
    ids = {await client.start_new("HelloWorld", nothing) for _ in range(3)}
    assert len(ids) == 3
    assert all(re.fullmatch(r"[0-9a-f]{32}", each) for each in ids)


@pytest.mark.parametrize("value", ["text", '{"not": "decoded"}', 0, False, [], {}, [1, [2]], "", 1.5])
async def test_an_input_is_encoded_exactly_once(client: OrchestrationClient, value: object) -> None:
    instance_id = await client.start_new("HelloWorld", client_input=value)
    assert (await client.get_status(instance_id)).input_ == value


async def test_no_input_is_stored_as_json_null(store: Store, client: OrchestrationClient) -> None:
    record = await store.get_instance(await client.start_new("HelloWorld"))
    assert record is not None
    assert record.input == "null"


async def test_an_input_that_is_not_serialisable_starts_nothing(store: Store, client: OrchestrationClient) -> None:
    with pytest.raises(CodecError):
        await client.start_new("HelloWorld", "one", object())
    assert await store.get_instance("one") is None


@pytest.mark.parametrize(
    ("asked", "default", "stored"), [(None, None, None), (None, "2", "2"), ("3", "2", "3"), ("", "2", None)]
)
async def test_a_version_is_the_callers_or_else_the_apps(
    store: Store, asked: str | None, default: str | None, stored: str | None
) -> None:
    client = client_of(store, default_version=default)
    record = await store.get_instance(await client.start_new("HelloWorld", version=asked))
    assert record is not None
    assert record.version == stored


@pytest.mark.parametrize(
    "instance_id",
    ["@x", "@", "a/b", "a\\b", "a#b", "a?b", "a\x00", "\x1fa", "a\x7f", "a\x9fb", "a\nb", "x" * 257],
)
async def test_an_id_that_breaks_a_rule_starts_nothing(
    store: Store, client: OrchestrationClient, instance_id: str
) -> None:
    with pytest.raises(InvalidInstanceIdError):
        await client.start_new("HelloWorld", instance_id)
    assert await store.get_instance(instance_id) is None


@pytest.mark.parametrize("instance_id", ["x", "x" * 256, "a@b", "a b", "a%b&c=d", "名前", "a:b", "~\xa0"])
async def test_any_other_id_is_fine(client: OrchestrationClient, instance_id: str) -> None:
    assert await client.start_new("HelloWorld", instance_id) == instance_id
    assert (await client.get_status(instance_id)).instance_id == instance_id


class TestKnownOrchestrators:
    @pytest.fixture
    def registry(self) -> Registry:
        registry = Registry()
        for name in ("Zebra", "apple"):
            registry.orchestrators.add(Orchestrator(name=name, function=lambda context: None))
        return registry

    async def test_an_unknown_name_is_refused_and_the_known_ones_are_listed(
        self, store: Store, registry: Registry
    ) -> None:
        client = client_of(store, registry)
        with pytest.raises(FunctionNotFoundError) as caught:
            await client.start_new("Appel", "one")
        assert str(caught.value) == (
            "The function 'Appel' doesn't exist, is disabled, or is not an orchestrator function. Additional info: "
            "The following are the known orchestrator functions: 'apple', 'Zebra'."
        )
        assert await store.get_instance("one") is None

    async def test_without_any_orchestrator_the_text_says_so(self, store: Store) -> None:
        client = client_of(store, Registry())
        with pytest.raises(FunctionNotFoundError, match="No orchestrator functions are currently registered!"):
            await client.start_new("Apple")

    async def test_names_compare_without_case(self, store: Store, registry: Registry) -> None:
        assert await client_of(store, registry).start_new("APPLE", "one") == "one"


async def test_an_orchestrator_can_be_named_as_the_app_resolves_it(store: Store, client: OrchestrationClient) -> None:
    def hello_world() -> None: ...

    resolving = TaskHub(store, resolve=lambda function, kind: Callee(name=function.__name__)).client
    await resolving.start_new(hello_world, "one")
    assert (await client.get_status("one")).name == "hello_world"
    with pytest.raises(ValueError, match="is called by its name"):
        await client.start_new(hello_world, "two")


async def test_an_empty_name_is_refused(client: OrchestrationClient) -> None:
    with pytest.raises(ValueError, match="function_name cannot be empty"):
        await client.start_new("")


async def test_an_existing_id_is_refused_while_live_and_replaced_once_ended(
    client: OrchestrationClient, stage: Any, status: Status, ended: bool
) -> None:
    await stage.put("one", status, name="Old", output='"old"')
    if ended:
        assert await client.start_new("New", "one") == "one"
        found = await client.get_status("one", show_history=True)
        assert (found.name, found.runtime_status, found.output) == ("New", Status.Pending, None)
        assert found.history is None
        return
    with pytest.raises(InstanceAlreadyExistsError) as caught:
        await client.start_new("New", "one")
    assert isinstance(caught.value, ClientError)
    assert str(caught.value) == f"An Orchestration instance with the status {status.name} already exists."
    assert (await client.get_status("one")).name == "Old"


async def test_a_hub_that_overrides_any_state_replaces_even_a_live_instance(
    store: Store, stage: Any, status: Status
) -> None:
    client = client_of(store, overridable_existing_instance_states="AnyState")
    await stage.put("one", status, name="Old")
    await client.start_new("New", "one")
    found = await client.get_status("one")
    assert (found.name, found.runtime_status) == ("New", Status.Pending)


async def test_of_concurrent_starts_with_one_id_exactly_one_succeeds(store: Store) -> None:
    clients = [client_of(store) for _ in range(20)]
    results = await asyncio.gather(
        *(each.start_new("HelloWorld", "singleton") for each in clients), return_exceptions=True
    )
    assert results.count("singleton") == 1
    refused = [result for result in results if result != "singleton"]
    assert all(isinstance(result, InstanceAlreadyExistsError) for result in refused)
