"""The composition root: what it puts together, its life, and its window of work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import pytest

from durable_ext.client import OrchestrationClient
from durable_ext.client.operations import InstanceOperations
from durable_ext.clock import SystemClock
from durable_ext.codec import JsonCodec
from durable_ext.engine.turn import Callee
from durable_ext.errors import FunctionNotFoundError, InstanceAlreadyExistsError, StoreError, StoreInUseError
from durable_ext.history import OrchestrationRuntimeStatus
from durable_ext.http.keys import HubKeys
from durable_ext.http.messages import Request
from durable_ext.messages import WorkItem
from durable_ext.registry import Activity, Orchestrator, Registry
from durable_ext.settings import HttpSettings, Settings
from durable_ext.storage.contract import Store
from durable_ext.storage.opening import open_store
from durable_ext.taskhub import TaskHub, make_program

Status = OrchestrationRuntimeStatus
ITEM = WorkItem(instance_id="one", execution_id="e", task_id=0, name="double", orchestrator="Chain", input="1")
TIMEOUT = 20.0


class App:
    """The functions of these tests. `doors` are what the activity `wait` waits for, by number."""

    def __init__(self) -> None:
        self.doors: dict[int, asyncio.Event] = {}
        self.registry = Registry()
        for function in (self.chain, self.fan_out, self.hold):
            self.registry.orchestrators.add(Orchestrator(name=function.__name__, function=function))
        for activity in (self.double, self.wait):
            self.registry.activities.add(Activity(name=activity.__name__, function=activity, input_name="value"))

    @staticmethod
    def chain(context: Any) -> Generator[Any, Any, int]:
        return (yield context.call_activity("double", context.get_input()))  # type: ignore[no-any-return]

    @staticmethod
    def fan_out(context: Any) -> Generator[Any, Any, int]:
        calls = [context.call_activity("double", each) for each in range(context.get_input())]
        return sum((yield context.task_all(calls)))

    @staticmethod
    def hold(context: Any) -> Generator[Any, Any, int]:
        return (yield context.call_activity("wait", context.get_input()))  # type: ignore[no-any-return]

    @staticmethod
    async def double(value: int) -> int:
        return 2 * value

    async def wait(self, value: int) -> int:
        await self.doors.setdefault(value, asyncio.Event()).wait()
        return value

    def open_door(self, number: int) -> None:
        self.doors.setdefault(number, asyncio.Event()).set()


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture(params=["memory://", "sqlite:///:memory:"])
def store(request: pytest.FixtureRequest) -> Store:
    return open_store(request.param)


async def output_of(hub: TaskHub, instance_id: str) -> Any:
    return (await hub.client.wait_for_completion(instance_id, TIMEOUT)).output


# --- life ------------------------------------------------------------------------------------------------


async def test_a_started_hub_runs_instances(store: Store, app: App) -> None:
    async with TaskHub(store, app.registry) as hub:
        assert await output_of(hub, await hub.client.start_new("chain", client_input=21)) == 42


async def test_an_open_hub_serves_clients_and_runs_nothing(store: Store, app: App) -> None:
    hub = TaskHub(store, app.registry)
    await hub.open()
    await hub.open()  # no matter
    await hub.client.start_new("chain", "one", 21)
    assert (await hub.client.get_status("one")).runtime_status is Status.Pending
    answer = await hub.api.handle(Request(method="GET", path="instances/one", base_url="http://here"))
    assert answer.json()["runtimeStatus"] == "Pending"
    await hub.start()
    assert await output_of(hub, "one") == 42
    await hub.stop()


async def test_a_client_of_a_hub_that_is_not_open_says_so(store: Store) -> None:
    hub = TaskHub(store)
    with pytest.raises(StoreError, match="open"):
        await hub.client.start_new("chain")


async def test_starting_twice_is_refused_and_changes_nothing(store: Store, app: App) -> None:
    async with TaskHub(store, app.registry) as hub:
        with pytest.raises(RuntimeError, match="'TestHubName' has started already"):
            await hub.start()
        assert await output_of(hub, await hub.client.start_new("chain", client_input=1)) == 2


async def test_opening_and_starting_at_once_happens_once(store: Store, app: App) -> None:
    hub = TaskHub(store, app.registry)
    outcomes = await asyncio.gather(hub.open(), hub.start(), hub.open(), hub.start(), return_exceptions=True)
    assert [type(each) for each in outcomes] == [type(None), type(None), type(None), RuntimeError]
    assert await output_of(hub, await hub.client.start_new("chain", client_input=1)) == 2
    await hub.stop()


async def test_a_stop_while_the_hub_starts_leaves_nothing_running(store: Store, app: App) -> None:
    hub = TaskHub(store, app.registry)
    before = asyncio.all_tasks()
    start = asyncio.create_task(hub.start())
    await asyncio.sleep(0)
    await hub.stop()
    await asyncio.wait([start])
    assert start.exception() is None or isinstance(start.exception(), RuntimeError)
    with pytest.raises(StoreError):
        await hub.client.get_status("one")
    assert asyncio.all_tasks() <= before


async def test_a_hub_without_functions_cannot_start_but_takes_any_name(store: Store) -> None:
    hub = TaskHub(store)
    with pytest.raises(RuntimeError, match="give it a registry"):
        await hub.start()
    await hub.open()
    assert await hub.client.start_new("anything", "one") == "one"
    await hub.stop()


async def test_stopping_twice_stops_once(store: Store, app: App) -> None:
    async with TaskHub(store, app.registry) as hub:
        await asyncio.gather(hub.stop(), hub.stop())
        await hub.stop()
    for again in (hub.open, hub.start):
        with pytest.raises(RuntimeError, match="'TestHubName' has stopped"):
            await again()


async def test_a_hub_that_was_never_opened_can_be_stopped(store: Store, app: App) -> None:
    await TaskHub(store, app.registry).stop()


async def test_a_stop_that_is_cancelled_goes_on(store: Store, app: App) -> None:
    hub = TaskHub(store, app.registry)
    await hub.start()
    await hub.client.start_new("hold", "one", 1)
    while 1 not in app.doors:
        await asyncio.sleep(0)
    stop = asyncio.create_task(hub.stop(TIMEOUT))
    await asyncio.sleep(0)
    stop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stop
    app.open_door(1)
    await hub.stop()
    with pytest.raises(StoreError):
        await hub.client.get_status("one")


async def test_a_worker_that_fails_to_stop_does_not_keep_the_store_open(
    store: Store, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = TaskHub(store, app.registry)
    await hub.open()

    async def fail(grace: float) -> None:
        raise OSError("no luck")

    await hub.start()
    worker = hub._worker
    assert worker is not None
    stop = worker.stop
    monkeypatch.setattr(worker, "stop", fail)
    with pytest.raises(OSError, match="no luck"):
        await hub.stop()
    with pytest.raises(StoreError):
        await hub.client.get_status("one")
    await stop(0)


async def test_a_body_that_raises_ends_the_hub_too(store: Store, app: App) -> None:
    with pytest.raises(KeyError):
        async with TaskHub(store, app.registry) as hub:
            raise KeyError
    with pytest.raises(RuntimeError, match="has stopped"):
        await hub.open()


async def test_a_hub_whose_store_has_a_host_does_not_start_and_lets_go_of_the_store(tmp_path: Any, app: App) -> None:
    url = f"sqlite:///{tmp_path}/hub.db"
    async with TaskHub(open_store(url), app.registry) as first:
        second = TaskHub(open_store(url), app.registry)
        with pytest.raises(StoreInUseError):
            async with second:
                pass
        with pytest.raises(StoreError):
            await second.client.get_status("one")
        assert await output_of(first, await first.client.start_new("chain", client_input=1)) == 2


async def test_a_hub_that_could_not_start_can_try_again(tmp_path: Any, app: App) -> None:
    url = f"sqlite:///{tmp_path}/hub.db"
    second = TaskHub(open_store(url), app.registry)
    async with TaskHub(open_store(url), app.registry):
        with pytest.raises(StoreInUseError):
            await second.start()
        await second.client.start_new("chain", "one", 1)  # it is open all the same
    await second.start()
    assert await output_of(second, "one") == 2
    await second.stop()


# --- the window of work ----------------------------------------------------------------------------------


WINDOW: list[Callable[[TaskHub], Awaitable[Any]]] = [
    lambda hub: asyncio.sleep(0, hub.resume()),
    lambda hub: hub.pause(),
    lambda hub: hub.until_idle(0, 0),
    lambda hub: hub.perform(ITEM),
]


@pytest.mark.parametrize("use", WINDOW, ids=["resume", "pause", "until_idle", "perform"])
async def test_the_window_is_refused_unless_the_hub_runs(
    store: Store, app: App, use: Callable[[TaskHub], Awaitable[Any]]
) -> None:
    hub = TaskHub(store, app.registry)
    await hub.open()
    with pytest.raises(RuntimeError, match=r"has not started, .* call start\(\) first"):
        await use(hub)
    await hub.start()
    await hub.stop()
    with pytest.raises(RuntimeError, match="has stopped"):
        await use(hub)


async def test_what_comes_due_in_a_pause_waits_for_the_resume(store: Store, app: App) -> None:
    async with TaskHub(store, app.registry) as hub:
        await hub.pause()
        await hub.client.start_new("chain", "one", 1)
        assert await hub.until_idle(0.01, TIMEOUT)
        assert (await hub.client.get_status("one")).runtime_status is Status.Pending
        hub.resume()
        assert await output_of(hub, "one") == 2


async def test_what_runs_goes_on_in_a_pause(store: Store, app: App) -> None:
    async with TaskHub(store, app.registry) as hub:
        await hub.client.start_new("hold", "one", 7)
        while 7 not in app.doors:
            await asyncio.sleep(0)
        await hub.pause()
        app.open_door(7)
        assert await output_of(hub, "one") == 7


async def test_pausing_and_resuming_twice_is_no_matter(store: Store, app: App) -> None:
    async with TaskHub(store, app.registry) as hub:
        await hub.pause()
        await hub.pause()
        hub.resume()
        hub.resume()
        assert await output_of(hub, await hub.client.start_new("chain", client_input=1)) == 2


async def test_a_hub_is_idle_once_nothing_runs_and_not_before_the_deadline_otherwise(store: Store, app: App) -> None:
    async with TaskHub(store, app.registry) as hub:
        await hub.client.start_new("hold", "one", 1)
        assert not await hub.until_idle(0.01, 0.05)
        app.open_door(1)
        assert await hub.until_idle(0.01, TIMEOUT)
        assert (await hub.client.get_status("one")).output == 1


async def test_calls_are_handed_in_where_none_are_fetched(store: Store, app: App) -> None:
    one_slot = Settings(max_concurrent_activity_functions=1)
    async with TaskHub(store, app.registry, settings=one_slot, fetch_work=False) as hub:
        await hub.client.start_new("fan_out", "one", 3)
        assert await hub.until_idle(0.01, TIMEOUT)
        assert (await hub.client.get_status("one")).runtime_status is Status.Running
        handed_in = 0
        while handed_in < 2:  # the third had the slot at once
            for item in await store.receive_work(2):
                await hub.perform(item)
                handed_in += 1
        assert await output_of(hub, "one") == 0 + 2 + 4


# --- what it puts together -------------------------------------------------------------------------------


def test_a_program_has_what_host_json_says_about_running() -> None:
    settings = Settings(default_version="7", store_inputs_in_orchestration_history=True, max_orchestration_actions=9)
    registry, codec = Registry(), JsonCodec()

    def resolve(function: Any, kind: str) -> Callee:
        return Callee(name=kind)

    program = make_program(registry, settings, codec=codec, resolve=resolve)
    assert (program.registry, program.codec) == (registry, codec)
    options = program.options
    assert (options.resolve, options.default_version, options.store_inputs, options.max_actions) == (
        resolve,
        "7",
        True,
        9,
    )


def test_what_is_not_given_has_its_default() -> None:
    hub = TaskHub(open_store("memory://"))
    assert (hub.name, hub.settings) == ("TestHubName", Settings())
    assert isinstance(hub.codec, JsonCodec)
    assert isinstance(hub.clock, SystemClock)
    assert type(hub.client) is OrchestrationClient
    assert isinstance(hub.operations, InstanceOperations)


async def test_the_settings_reach_the_client(app: App) -> None:
    settings = Settings(
        hub_name="Mine",
        default_version="7",
        overridable_existing_instance_states="AnyState",
        http_settings=HttpSettings(use_forwarded_host=True),
    )
    hub = TaskHub(open_store("memory://"), app.registry, settings=settings, base_url="http://here/durabletask")
    await hub.open()
    for _ in range(2):  # AnyState: a live instance gives way
        await hub.client.start_new("chain", "one")
    record = await hub.operations.require("one")
    assert record.version == "7"
    with pytest.raises(FunctionNotFoundError, match="'chain', 'fan_out', 'hold'"):
        await hub.client.start_new("nobody")

    class Forwarded:
        url = "http://here/api/start"
        headers = {"X-Forwarded-Host": "shop.example", "X-Forwarded-Proto": "https"}  # noqa: RUF012

    links = hub.client.get_client_response_links(Forwarded(), "one")
    assert links["terminatePostUri"].startswith("https://shop.example/durabletask/instances/one/terminate")
    assert "taskHub=Mine" in links["terminatePostUri"]
    await hub.stop()


async def test_without_settings_a_live_instance_does_not_give_way(store: Store) -> None:
    hub = TaskHub(store)
    await hub.open()
    await hub.client.start_new("chain", "one")
    with pytest.raises(InstanceAlreadyExistsError):
        await hub.client.start_new("chain", "one")
    await hub.stop()


async def test_an_edge_has_clients_of_its_own_kind(store: Store) -> None:
    class Facade(OrchestrationClient):
        pass

    def resolve(function: Any, kind: str) -> Callee:
        return Callee(name=f"{kind} {function.__name__}")

    hub = TaskHub(store, resolve=resolve)
    await hub.open()
    client = hub.client_as(Facade)
    assert type(client) is Facade
    await client.start_new(App.chain, "one")
    assert (await hub.client.get_status("one")).name == "orchestrator chain"
    await hub.stop()


async def test_keys_open_the_api_and_are_in_the_links(store: Store) -> None:
    keys = HubKeys("TestHubName", "a key that is long enough")
    hub = TaskHub(store, keys=keys, base_url="http://here")
    await hub.open()
    await hub.client.start_new("chain", "one")
    link = hub.client.create_http_management_payload("one")["statusQueryGetUri"]
    code = link.rpartition("code=")[2]
    for given, status in (({}, 401), ({"code": [code]}, 202)):
        request = Request(method="GET", path="instances/one", base_url="http://here", query=given)
        assert (await hub.api.handle(request)).status == status
    await hub.stop()


async def test_a_codec_of_ones_own_is_used_by_client_api_and_functions(app: App) -> None:
    class Upside(JsonCodec):
        """Writes a list around everything."""

        def encode(self, value: Any) -> str:
            return super().encode([value])

        def decode(self, text: str | None, expected_type: Any = None) -> Any:
            found = super().decode(text)
            return None if found is None else found[0]

    async with TaskHub(open_store("memory://"), app.registry, codec=Upside()) as hub:
        request = Request(method="POST", path="orchestrators/chain/one", base_url="http://here", body=b"21")
        assert (await hub.api.handle(request)).status == 202
        assert await output_of(hub, "one") == [42]
        assert (await hub.operations.require("one")).input == "[21]"
