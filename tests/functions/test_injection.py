from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import typing
from typing import TYPE_CHECKING, Any

import azure.functions as func
import pytest
from functions_hub import Hub

from durable_ext.errors import ConfigurationError
from durable_ext.functions.app import DFApp
from durable_ext.functions.client import DurableOrchestrationClient, SyncDurableOrchestrationClient
from durable_ext.functions.lowering import LoweredApp, lower

if TYPE_CHECKING:
    from somewhere import OnlyForCheckers  # type: ignore[import-not-found]


@pytest.fixture
def app() -> DFApp:
    return DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


def lowered_with(app: DFApp, hub: Hub) -> LoweredApp:
    lowered = lower(app)
    lowered.clients.provider = hub
    return lowered


async def test_coroutine_function_gets_a_client_to_await(app: DFApp, hub: Hub) -> None:
    @app.route(route="start")
    @app.durable_client_input(client_name="client", task_hub="other", connection_name="conn")
    async def start(req: Any, client: DurableOrchestrationClient) -> str:
        assert isinstance(client, DurableOrchestrationClient)
        return await client.start_new("Hello", client_input=req)

    function = lowered_with(app, hub).functions[0].function
    assert inspect.iscoroutinefunction(function)
    instance_id = await function(req=[1])
    assert hub.started == [("Hello", [1])]
    assert instance_id in hub.store.rows
    assert hub.asked == [("other", "conn")]


async def test_plain_function_gets_a_client_that_blocks(app: DFApp, hub: Hub) -> None:
    @app.route(route="start")
    @app.orchestration_client_input(client_name="client")
    def start(req: Any, client: SyncDurableOrchestrationClient) -> str:
        assert isinstance(client, SyncDurableOrchestrationClient)
        return client.start_new("Hello", client_input=req)

    function = lowered_with(app, hub).functions[0].function
    assert not inspect.iscoroutinefunction(function)
    assert await asyncio.to_thread(function, req="x") in hub.store.rows
    assert hub.asked == [(None, None)]


async def test_client_starts_a_decorated_orchestrator(app: DFApp, hub: Hub) -> None:
    @app.orchestration_trigger("context", "Named")
    def hello(context: Any) -> Any:
        yield

    @app.route(route="start")
    @app.durable_client_input(client_name="client")
    async def start(req: Any, client: DurableOrchestrationClient) -> None:
        await client.start_new(hello)

    await lowered_with(app, hub).functions[0].function(req=None)
    assert hub.started == [("Named", None)]


@pytest.mark.parametrize("is_stopping", [True, False])
async def test_what_is_put_out_after_the_hosts_stop_has_cancelled_the_function_is_not_started(
    app: DFApp, hub: Hub, is_stopping: bool
) -> None:
    @app.timer_trigger(schedule="0 * * * * *", arg_name="timer")
    @app.orchestration_client_output(arg_name="starter")
    async def tick(timer: Any, starter: func.Out[Any]) -> None:
        starter.set({"FunctionName": "Hello"})
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    lowered = lowered_with(app, hub)
    task = asyncio.ensure_future(lowered.functions[0].function(timer=None))
    await asyncio.sleep(0)
    lowered.clients.is_stopping = is_stopping
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() is is_stopping
    assert bool(hub.started) is not is_stopping  # a library may cancel its own task, and mean nothing by it


def test_hosts_do_not_see_the_injected_parameters(app: DFApp) -> None:
    @app.route(route="start")
    @app.durable_client_input(client_name="client")
    @app.orchestration_client_output(arg_name="starter")
    async def start(client: OnlyForCheckers, req: func.HttpRequest, starter: func.Out[OnlyForCheckers]) -> str:
        """Start."""
        return ""

    function = lower(app).functions[0].function
    assert str(inspect.signature(function)) == "(req: 'func.HttpRequest') -> 'str'"
    assert typing.get_type_hints(function) == {"req": func.HttpRequest, "return": str}
    assert (function.__name__, function.__doc__) == ("start", "Start.")
    assert inspect.getfile(inspect.unwrap(function)) == __file__
    plain = start.build().get_user_function().client_function
    assert function.client_function is plain  # type: ignore[attr-defined]
    assert list(inspect.signature(plain).parameters) == ["client", "req", "starter"]


def test_output_by_return_value_hides_the_return_annotation(app: DFApp) -> None:
    @app.timer_trigger(schedule="0 * * * * *", arg_name="timer")
    @app.orchestration_client_output(arg_name="$return")
    def tick(timer: func.TimerRequest) -> OnlyForCheckers: ...

    function = lower(app).functions[0].function
    assert str(inspect.signature(function)) == "(timer: 'func.TimerRequest')"
    assert typing.get_type_hints(function) == {"timer": func.TimerRequest}


async def test_arguments_bind_by_position_too(app: DFApp, hub: Hub) -> None:
    @app.route(route="start")
    @app.durable_client_input(client_name="client")
    async def start(client: Any, req: Any, /, *rest: Any, more: int = 1) -> Any:
        return client, req, rest, more

    function = lowered_with(app, hub).functions[0].function
    client, *others = await function("request", more=2)
    assert isinstance(client, DurableOrchestrationClient)
    assert others == ["request", (), 2]


async def test_given_clients_are_passed_on(app: DFApp, hub: Hub) -> None:
    @app.route(route="start")
    @app.durable_client_input(client_name="client")
    @app.orchestration_client_output(arg_name="starter")
    async def start(req: Any, client: Any, starter: Any) -> Any:
        starter.set({"FunctionName": "X"})
        return client

    class Box(func.Out[Any]):
        value: Any = None

        def set(self, val: Any) -> None:
            self.value = val

        def get(self) -> Any:
            return self.value

    fake, box = object(), Box()
    without_host = lower(app).functions[0].function
    assert await without_host("request", fake, box) is fake
    assert await without_host(req="request", client=fake, starter=box) is fake
    assert box.get() == {"FunctionName": "X"}
    assert hub.started == []


async def test_text_for_a_client_is_refused(app: DFApp) -> None:
    @app.route(route="start")
    @app.durable_client_input(client_name="client")
    async def start(req: Any, client: Any) -> None: ...

    with pytest.raises(TypeError, match="parameter 'client' of function 'start' was given text"):
        await lower(app).functions[0].function(req=None, client="{}")


async def test_wrong_arguments_raise_as_they_do_without_us(app: DFApp, hub: Hub) -> None:
    @app.route(route="start")
    @app.durable_client_input(client_name="client")
    async def start(req: Any, client: Any) -> None: ...

    function = lowered_with(app, hub).functions[0].function
    with pytest.raises(TypeError, match="nonsense"):
        await function(req=None, nonsense=1)
    with pytest.raises(TypeError, match="req"):
        await function()


async def test_errors_of_the_function_come_through(app: DFApp, hub: Hub) -> None:
    @app.timer_trigger(schedule="0 * * * * *", arg_name="timer")
    @app.orchestration_client_output(arg_name="starter")
    async def tick(timer: Any, starter: func.Out[Any]) -> None:
        starter.set({"FunctionName": "Hello"})
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await lowered_with(app, hub).functions[0].function(timer=None)
    assert hub.started == []


async def test_without_a_provider_an_output_fails_before_the_function_runs(app: DFApp) -> None:
    ran = []

    @app.timer_trigger(schedule="0 * * * * *", arg_name="timer")
    @app.orchestration_client_output(arg_name="$return")
    async def tick(timer: Any) -> Any:
        ran.append(timer)

    with pytest.raises(ConfigurationError, match=r"'tick'.*durable run"):
        await lower(app).functions[0].function(timer=None)
    assert ran == []


def logged(function: Any) -> Any:
    @functools.wraps(function)
    async def around(*args: Any, **kwargs: Any) -> Any:
        return "logged", await function(*args, **kwargs)

    return around


def passed_on(function: Any) -> Any:
    @functools.wraps(function)
    def around(*args: Any, **kwargs: Any) -> Any:
        return logged(function)(*args, **kwargs)

    return around


@pytest.mark.parametrize("decorated", [logged, passed_on])
async def test_function_under_another_decorator_keeps_its_parameters(app: DFApp, hub: Hub, decorated: Any) -> None:
    @app.route(route="start")
    @app.durable_client_input(client_name="client")
    @decorated
    async def start(req: Any, client: Any) -> Any:
        return isinstance(client, DurableOrchestrationClient)

    function = lowered_with(app, hub).functions[0].function
    assert list(inspect.signature(function).parameters) == ["req"]
    assert await function(req=None) == ("logged", True)


async def test_activity_may_have_a_client(app: DFApp, hub: Hub) -> None:
    @app.activity_trigger(input_name="name")
    @app.durable_client_input(client_name="client")
    async def spawn(name: str, client: DurableOrchestrationClient) -> str:
        return await client.start_new(name)

    activity = lowered_with(app, hub).registry.activities.get("spawn")
    assert activity.input_type is str
    assert await activity.function(name="Child") in hub.store.rows
    assert await spawn("Child", hub.client()) in hub.store.rows
