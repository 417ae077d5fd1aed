from __future__ import annotations

import functools
import json
import logging
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import azure.functions as func
import pytest

from durable_ext.errors import ConfigurationError, FunctionNotFoundError
from durable_ext.functions.app import Blueprint, DFApp
from durable_ext.functions.azure import builders_of
from durable_ext.functions.lowering import lower


@dataclass
class Order:
    number: int


@pytest.fixture
def app() -> DFApp:
    return DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


def orchestrator(context: Any) -> Generator[Any, Any, int]:
    yield context
    return 1


def activity(order: Order) -> list[Order]:
    return [order]


async def start(req: func.HttpRequest, client: Any) -> str:
    return "started"


def test_durable_functions_become_a_registry_and_the_rest_functions_for_a_host(app: DFApp) -> None:
    app.orchestration_trigger("context", input_type=Order)(orchestrator)
    app.activity_trigger("order")(activity)
    app.route(route="start/{name}", methods=["POST"])(app.durable_client_input("client")(start))

    @app.timer_trigger(schedule="0 0 * * * *", arg_name="timer")
    def tick(timer: func.TimerRequest) -> None: ...

    lowered = lower(app)

    recorded = lowered.registry.orchestrators.get("ORCHESTRATOR")
    assert (recorded.name, recorded.function, recorded.input_type) == ("orchestrator", orchestrator, Order)
    run = lowered.registry.activities.get("activity")
    assert (run.function, run.input_name, run.input_type, run.result_type) == (activity, "order", Order, list[Order])
    http, timer = lowered.functions
    assert (http.name, http.trigger_type, http.http_type) == ("start", "httpTrigger", "function")
    assert http.trigger == {
        "direction": "IN",
        "type": "httpTrigger",
        "name": "req",
        "methods": ["POST"],
        "authLevel": "ANONYMOUS",
        "route": "start/{name}",
    }
    assert http.bindings == [{"direction": "OUT", "type": "http", "name": "$return"}]
    assert (timer.name, timer.trigger["schedule"], timer.bindings) == ("tick", "0 0 * * * *", [])
    assert timer.function(timer=None) is None


def test_lowering_changes_nothing_recorded(app: DFApp) -> None:
    builder = app.route(route="go", auth_level="FUNCTION")(app.durable_client_input("client")(start))
    before = str(builder.build())
    first, second = lower(app), lower(app)
    assert str(builder.build()) == before
    assert "durableClient" in before
    assert first.functions[0].function is not second.functions[0].function
    assert first.clients is not second.clients


@pytest.mark.parametrize("container", [DFApp, func.FunctionApp])
@pytest.mark.parametrize("register", ["register_functions", "register_blueprint"])
def test_blueprints_merge_into_ours_and_into_a_plain_app(container: Any, register: str) -> None:
    blueprint = Blueprint()
    blueprint.orchestration_trigger("context")(orchestrator)
    blueprint.activity_trigger("order")(activity)
    blueprint.route(route="go")(blueprint.durable_client_input("client")(start))
    app = container()
    getattr(app, register)(blueprint)
    lowered = lower(app)
    assert lowered.registry.orchestrators.names() == ["orchestrator"]
    assert lowered.registry.activities.names() == ["activity"]
    assert [each.trigger["authLevel"] for each in lowered.functions] == ["FUNCTION"]


def test_generic_bindings_mean_the_same() -> None:
    app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
    app.generic_trigger(arg_name="context", type="orchestrationTrigger", orchestration="Named")(orchestrator)
    app.generic_trigger(arg_name="order", type="ActivityTrigger")(activity)

    @app.route(route="go")
    @app.generic_input_binding(arg_name="client", type="durableClient", task_hub="hub")
    @app.generic_output_binding(arg_name="starter", type="orchestrationClient")
    def go(req: func.HttpRequest, client: Any, starter: func.Out[str]) -> str: ...  # type: ignore[empty-body]

    lowered = lower(app)
    assert lowered.registry.orchestrators.names() == ["Named"]
    assert "orchestrator" in lowered.registry.orchestrators
    assert lowered.registry.activities.get("activity").input_type is Order
    assert [each["type"] for each in lowered.functions[0].bindings] == ["http"]


def test_a_blueprint_alone_can_be_lowered() -> None:
    blueprint = Blueprint()
    blueprint.route(route="go")(blueprint.durable_client_input("client")(start))
    assert lower(blueprint).functions[0].trigger["route"] == "go"
    assert [each.name for each in lower(builders_of(blueprint)).functions] == ["start"]


@pytest.mark.parametrize(
    ("override", "function_name", "own", "others"),
    [
        (None, None, "orchestrator", []),
        (None, "Given", "Given", []),
        ("Override", None, "Override", ["orchestrator"]),
        ("Override", "Given", "Override", ["given"]),
        ("", None, "orchestrator", []),
    ],
)
def test_names_come_from_the_trigger_then_function_name_then_the_function(
    app: DFApp, override: str | None, function_name: str | None, own: str, others: list[str]
) -> None:
    builder: Any = app.orchestration_trigger("context", override)(orchestrator)
    if function_name:
        app.function_name(function_name)(builder)
    table = lower(app).registry.orchestrators
    assert table.names() == [own]
    for name in (own, own.upper(), *others):
        assert table.get(name).name == own
    if function_name:
        with pytest.raises(FunctionNotFoundError):
            table.get("orchestrator")


def test_names_taken_twice_are_refused_naming_both_places(app: DFApp) -> None:
    def first(context: Any) -> Any: ...
    def second(context: Any) -> Any: ...

    app.orchestration_trigger("context", "SECOND")(first)
    app.orchestration_trigger("context")(second)
    with pytest.raises(ConfigurationError, match=r"'second'.*first' \(.*test_lowering\.py:\d+\).*second' \(.*:\d+\)"):
        lower(app)


def test_activities_with_a_client_are_named_by_their_own_place(app: DFApp) -> None:
    def act(x: int, client: Any) -> None: ...

    for _ in range(2):
        app.activity_trigger("x")(app.durable_client_input("client")(act))
    with pytest.raises(ConfigurationError, match=r"act' \(.*test_lowering\.py.*act' \(.*test_lowering\.py"):
        lower(app)


def test_orchestrator_and_activity_may_share_a_name(app: DFApp) -> None:
    app.orchestration_trigger("context", "Same")(orchestrator)
    app.activity_trigger("order", "same")(activity)
    registry = lower(app).registry
    assert "Same" in registry.orchestrators
    assert "Same" in registry.activities


def test_host_functions_with_one_name_are_refused_naming_both_places(app: DFApp) -> None:
    def other(req: func.HttpRequest) -> str:
        return ""

    app.route(route="a")(app.durable_client_input("client")(start))
    app.route(route="b")(app.function_name("START")(other))
    with pytest.raises(ConfigurationError, match=r"'START'.*'start' \(.*test_lowering\.py.*other' \(.*test_lowering"):
        lower(app)


def test_orchestrator_with_another_binding_is_refused(app: DFApp) -> None:
    app.orchestration_trigger("context")(app.queue_output("out", "queue", "conn")(orchestrator))
    with pytest.raises(ConfigurationError, match=r"orchestrator 'orchestrator'.*other bindings: 'out' \(queue\)"):
        lower(app)


def test_orchestrator_with_a_client_is_refused(app: DFApp) -> None:
    app.generic_trigger("context", "orchestrationTrigger")(
        app.generic_input_binding("client", "durableClient")(orchestrator)
    )
    with pytest.raises(ConfigurationError, match=r"other bindings: 'client' \(durableClient\).*sub_orchestrator"):
        lower(app)


def test_generic_orchestrators_are_checked_too(app: DFApp) -> None:
    app.generic_trigger("ctx", "orchestrationTrigger")(orchestrator)
    with pytest.raises(ConfigurationError, match="no parameter 'ctx'"):
        lower(app)


def test_generic_entities_are_refused(app: DFApp) -> None:
    app.generic_trigger("context", "entityTrigger")(orchestrator)
    with pytest.raises(ConfigurationError, match="entities are not in this release"):
        lower(app)


def test_generic_client_of_unknown_name_is_refused(app: DFApp) -> None:
    app.route()(app.generic_input_binding("starter", "durableClient")(start))
    with pytest.raises(ConfigurationError, match=r"'start'.*no parameter 'starter'.*it has: 'req', 'client'"):
        lower(app)


def test_activity_with_an_unserved_binding_is_refused(app: DFApp) -> None:
    @app.activity_trigger("x")
    @app.blob_output("blob", "path", "conn")
    def act(x: int, blob: func.Out[str]) -> None: ...

    with pytest.raises(ConfigurationError, match=r"activity '.*act'.*the binding 'blob' \(blob\)"):
        lower(app)


def test_activity_parameter_that_nothing_fills_is_refused(app: DFApp) -> None:
    def act(x: int, extra: int, more: int = 1) -> None: ...

    app.activity_trigger("x")(act)
    with pytest.raises(ConfigurationError, match="'extra' that nothing fills"):
        lower(app)


def test_activity_return_value_is_its_result_only(app: DFApp) -> None:
    app.activity_trigger("order")(app.orchestration_client_output("$return")(activity))
    with pytest.raises(ConfigurationError, match="because that is its result"):
        lower(app)


def test_http_return_value_is_its_response_only(app: DFApp) -> None:
    def go(req: func.HttpRequest) -> Any: ...

    app.generic_trigger("req", "httpTrigger")(app.orchestration_client_output("$return")(go))
    with pytest.raises(ConfigurationError, match=r"http function .*because that is its response"):
        lower(app)


def test_two_bindings_of_one_name_are_refused(app: DFApp) -> None:
    app.route()(app.durable_client_input("client")(app.orchestration_client_output("client")(start)))
    with pytest.raises(ConfigurationError, match="two bindings called 'client'"):
        lower(app)


def test_function_without_trigger_is_refused(app: DFApp) -> None:
    app.durable_client_input("client")(start)
    with pytest.raises(ConfigurationError, match=r"function 'start'.*no trigger"):
        lower(app)


def test_an_annotation_that_cannot_be_evaluated_leaves_its_value_plain_and_no_other(
    app: DFApp, caplog: pytest.LogCaptureFixture
) -> None:
    def act(x: NowhereDefined) -> int: ...  # type: ignore[name-defined, empty-body]  # noqa: F821

    app.activity_trigger("x")(act)
    recorded = lower(app).registry.activities.get("act")
    assert (recorded.input_type, recorded.result_type) == (None, int)
    (warning,) = caplog.messages
    assert "parameter 'x' of" in warning
    assert "NowhereDefined" in warning


def test_a_result_that_cannot_be_evaluated_leaves_the_input_typed(app: DFApp, caplog: pytest.LogCaptureFixture) -> None:
    def act(x: int) -> NowhereDefined: ...  # type: ignore[name-defined]  # noqa: F821

    app.activity_trigger("x")(act)
    recorded = lower(app).registry.activities.get("act")
    assert (recorded.input_type, recorded.result_type) == (int, None)
    (warning,) = caplog.messages
    assert "the result of" in warning


def test_annotations_that_say_nothing_of_input_or_result_are_not_looked_at(
    app: DFApp, caplog: pytest.LogCaptureFixture
) -> None:
    def act(x: int, client: OnlyForTypeCheckers = None) -> str: ...  # type: ignore[name-defined, empty-body]  # noqa: F821

    app.activity_trigger("x")(act)
    recorded = lower(app).registry.activities.get("act")
    assert (recorded.input_type, recorded.result_type) == (int, str)
    assert caplog.messages == []


def test_a_wrapped_function_is_read_with_the_names_of_its_own_module(app: DFApp) -> None:
    names: dict[str, Any] = {}
    source = "from __future__ import annotations\nclass Mine: ...\ndef act(x: Mine) -> Mine: ..."
    exec(compile(source, "elsewhere", "exec", dont_inherit=True), names)

    @functools.wraps(names["act"])
    def wrapper(*args: Any, **kwargs: Any) -> Any: ...

    app.activity_trigger("x")(wrapper)
    recorded = lower(app).registry.activities.get("act")
    assert (recorded.input_type, recorded.result_type) == (names["Mine"], names["Mine"])


def test_a_functions_host_is_told_of_no_durable_binding(app: DFApp, caplog: pytest.LogCaptureFixture) -> None:
    app.orchestration_trigger("context")(orchestrator)
    app.activity_trigger("order")(activity)
    builder = app.route(route="go")(app.durable_client_input("client")(start))
    with caplog.at_level(logging.WARNING):
        (function,) = app.get_functions()
    assert "durable run" in caplog.text
    assert [json.loads(each)["type"] for each in function.get_raw_bindings()] == ["httpTrigger", "http"]
    assert function.is_http_function()
    assert "durableClient" in str(builder.build())
    assert lower(app).registry.orchestrators.names() == ["orchestrator"]


async def test_under_another_host_client_functions_say_what_runs_them(app: DFApp) -> None:
    app.route(route="go")(app.durable_client_input("client")(start))
    (function,) = app.get_functions()
    with pytest.raises(ConfigurationError, match=r"'start'.*only the local host.*durable run"):
        await function.get_user_function()(req=None)


def test_apps_without_durable_functions_warn_of_nothing(app: DFApp, caplog: pytest.LogCaptureFixture) -> None:
    @app.route(route="go")
    def go(req: func.HttpRequest) -> str:
        return ""

    assert len(app.get_functions()) == 1
    assert "durable" not in caplog.text
