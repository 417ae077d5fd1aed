from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import azure.functions as func
import pytest

from durable_ext.errors import ConfigurationError
from durable_ext.functions.app import Blueprint, DFApp
from durable_ext.functions.azure import builders_of


def recorded(builder: Any) -> list[dict[str, Any]]:
    """What `str(function)` prints, without what the Functions package adds to every binding."""
    function = builder.build()
    printed: dict[str, Any] = json.loads(str(function))
    assert printed["scriptFile"] == "function_app.py"
    bindings: list[dict[str, Any]] = printed["bindings"]
    return bindings


@pytest.fixture
def app() -> DFApp:
    return DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@pytest.mark.parametrize(
    ("decorate", "expected"),
    [
        (lambda app: app.orchestration_trigger(context_name="context"), {"type": "orchestrationTrigger"}),
        (
            lambda app: app.orchestration_trigger("context", "Named", dict),
            {"type": "orchestrationTrigger", "orchestration": "Named"},
        ),
        (lambda app: app.activity_trigger(input_name="context"), {"type": "activityTrigger"}),
        (
            lambda app: app.activity_trigger(input_name="context", activity="Named"),
            {"type": "activityTrigger", "activity": "Named"},
        ),
    ],
)
def test_durable_triggers_print_as_documented(app: DFApp, decorate: Callable[[DFApp], Any], expected: Any) -> None:
    def function(context: Any) -> Any: ...

    assert recorded(decorate(app)(function)) == [{"name": "context", "direction": "IN", **expected}]


@pytest.mark.parametrize(
    ("decorate", "expected"),
    [
        (lambda app: app.durable_client_input(client_name="client"), {"type": "durableClient", "direction": "IN"}),
        (
            lambda app: app.durable_client_input(client_name="client", task_hub="hub", connection_name="conn"),
            {"type": "durableClient", "direction": "IN", "taskHub": "hub", "connectionName": "conn"},
        ),
        (
            lambda app: app.orchestration_client_input(client_name="client"),
            {"type": "orchestrationClient", "direction": "IN"},
        ),
        (
            lambda app: app.orchestration_client_output(arg_name="client"),
            {"type": "orchestrationClient", "direction": "OUT"},
        ),
    ],
)
def test_durable_clients_print_as_documented(app: DFApp, decorate: Callable[[DFApp], Any], expected: Any) -> None:
    def function(req: func.HttpRequest, client: Any) -> None: ...

    printed = recorded(app.route(route="go")(decorate(app)(function)))
    assert {"name": "client", **expected} in printed
    assert len(printed) == 3


def test_return_value_output_needs_no_parameter(app: DFApp) -> None:
    @app.timer_trigger(schedule="0 * * * * *", arg_name="timer")
    @app.orchestration_client_output(arg_name="$return")
    def tick(timer: func.TimerRequest) -> Any: ...

    assert {"type": "orchestrationClient", "direction": "OUT", "name": "$return"} in recorded(tick)


def test_decorators_apply_in_any_order() -> None:
    seen = []
    for order in itertools.permutations(range(4)):
        app = DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)
        decorators = [
            app.function_name("Starter"),
            app.route(route="go"),
            app.durable_client_input(client_name="client"),
            app.orchestration_client_output(arg_name="starter"),
        ]

        def start(req: func.HttpRequest, client: Any, starter: Any) -> str: ...  # type: ignore[empty-body]

        function: Any = start
        for position in order:
            function = decorators[position](function)
        assert function.build().get_user_function().client_function is start
        assert function.build().get_function_name() == "Starter"
        seen.append(sorted(map(json.dumps, recorded(function))))
    assert all(each == seen[0] for each in seen)


@pytest.mark.parametrize("above", [True, False])
@pytest.mark.parametrize("kind", ["orchestration_trigger", "activity_trigger"])
def test_function_name_works_above_and_below_a_durable_trigger(app: DFApp, kind: str, above: bool) -> None:
    def function(context: Any) -> Any: ...

    decorators = [getattr(app, kind)("context"), app.function_name("Other")]
    builder: Any = function
    for decorate in decorators if above else reversed(decorators):
        builder = decorate(builder)
    assert builder.build().get_function_name() == "Other"
    assert len(builders_of(app)) == 1


def test_decorated_activity_can_be_called(app: DFApp) -> None:
    @app.activity_trigger(input_name="city")
    def say_hello(city: str) -> str:
        return f"Hello {city}!"

    assert say_hello("Tokyo") == "Hello Tokyo!"
    assert say_hello.build().get_user_function()("Seattle") == "Hello Seattle!"


def test_plain_orchestrator_is_reachable_and_callable(app: DFApp) -> None:
    def hello(context: Any) -> Any:
        yield context

    builder = app.orchestration_trigger(context_name="context")(hello)
    user_function = builder.build().get_user_function()
    assert user_function.orchestrator_function is hello
    assert user_function.__name__ == "hello"
    assert list(builder("ctx")) == ["ctx"]


async def test_plain_client_function_is_reachable_and_callable(app: DFApp) -> None:
    async def start(req: Any, client: Any) -> Any:
        return req, client

    builder = app.route()(app.durable_client_input(client_name="client")(start))
    assert builder.build().get_user_function().client_function is start
    assert await builder("request", client="a fake") == ("request", "a fake")
    assert not hasattr(start, "client_function")


def test_entities_are_refused_where_they_are_declared(app: DFApp) -> None:
    def counter(context: Any) -> None: ...

    with pytest.raises(ConfigurationError, match=r"counter.*test_decorators\.py.*entities are not in this release"):
        app.entity_trigger(context_name="context")(counter)
    with pytest.raises(ConfigurationError, match="entities are not in this release"):
        app.entity_trigger(context_name="context")(app.function_name("x")(counter))


def two_parameters(context: Any, other: Any) -> Any: ...
def no_parameter() -> Any: ...
def keyword_only(*, context: Any) -> Any: ...
def gathering(*context: Any) -> Any: ...


async def async_generator(context: Any) -> Any:
    yield context


def generator(context: Any) -> Any:
    yield context


@pytest.mark.parametrize(
    ("decorate", "function", "message"),
    [
        (lambda app: app.orchestration_trigger("context"), two_parameters, "exactly one positional.*context: .*other"),
        (lambda app: app.orchestration_trigger("context"), no_parameter, "exactly one positional.*none"),
        (lambda app: app.orchestration_trigger("context"), keyword_only, "exactly one positional"),
        (lambda app: app.orchestration_trigger("context"), gathering, "exactly one positional"),
        (
            lambda app: app.orchestration_trigger("ctx"),
            generator,
            "no parameter 'ctx'.*context_name.*it has: 'context'",
        ),
        (lambda app: app.orchestration_trigger("context"), async_generator, "`async def` with `await`, or a plain gen"),
        (lambda app: app.activity_trigger("name"), two_parameters, "no parameter 'name'.*input_name.*'context', 'othe"),
        (lambda app: app.activity_trigger("context"), generator, "is a generator"),
        (lambda app: app.activity_trigger("context"), async_generator, "is a generator"),
        (lambda app: app.durable_client_input("client"), two_parameters, "no parameter 'client'.*client_name"),
        (lambda app: app.orchestration_client_input("client"), gathering, "no parameter 'client'.*it has: none"),
        (lambda app: app.orchestration_client_output("starter"), two_parameters, "no parameter 'starter'.*arg_name"),
        (lambda app: app.activity_trigger("x"), dict.fromkeys, "no parameter 'x'"),
    ],
)
def test_unfit_functions_are_refused_at_decoration(
    app: DFApp, decorate: Callable[[DFApp], Any], function: Any, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        decorate(app)(function)
    assert function.__qualname__ in str(caught.value)


def test_function_without_readable_parameters_is_refused(app: DFApp) -> None:
    with pytest.raises(ConfigurationError, match="parameters of 'dict' cannot be read"):
        app.activity_trigger("x")(dict)


def test_second_trigger_is_refused(app: DFApp) -> None:
    with pytest.raises(ValueError, match="trigger was already registered"):
        app.timer_trigger(schedule="0 * * * * *", arg_name="context")(app.orchestration_trigger("context")(generator))


def test_containers_are_built_as_users_expect() -> None:
    names = [each.__name__ for each in DFApp.__mro__]
    assert names[:6] == ["DFApp", "Blueprint", "TriggerApi", "BindingApi", "SettingsApi", "FunctionRegister"]
    assert DFApp().auth_level is func.AuthLevel.FUNCTION
    assert DFApp(http_auth_level="ANONYMOUS").auth_level is func.AuthLevel.ANONYMOUS
    assert isinstance(DFApp(), func.FunctionRegister)
    assert not isinstance(Blueprint(), func.FunctionRegister)
    with pytest.raises(TypeError):
        DFApp().register_functions(DFApp())


def test_nothing_reaches_for_the_official_package() -> None:
    program = (
        "import sys; sys.modules['azure.durable_functions'] = None\n"
        "from durable_ext.functions.app import DFApp\n"
        "from durable_ext.functions.lowering import lower\n"
        "app = DFApp()\n"
        "app.orchestration_trigger('context')(lambda context: 1)\n"
        "app.route()(app.durable_client_input('client')(lambda req, client: 1))\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("decorate", "example"),
    [
        (lambda app: app.orchestration_trigger, r'orchestration_trigger\(context_name="..."\)'),
        (lambda app: app.activity_trigger, r'activity_trigger\(input_name="..."\)'),
        (lambda app: app.durable_client_input, r'durable_client_input\(client_name="..."\)'),
        (lambda app: app.orchestration_client_input, r'orchestration_client_input\(client_name="..."\)'),
        (lambda app: app.orchestration_client_output, r'orchestration_client_output\(arg_name="..."\)'),
    ],
)
def test_a_decorator_without_parentheses_is_refused_with_the_way_out(
    app: DFApp, decorate: Callable[[DFApp], Any], example: str
) -> None:
    def function(context: Any) -> Any: ...

    with pytest.raises(
        ConfigurationError, match=rf"function.* is written without its parentheses\. Write @app\.{example}"
    ):
        decorate(app)(function)
    with pytest.raises(ConfigurationError, match=rf"is 3, but must be text\. Write @app\.{example}"):
        decorate(app)(3)
