"""The lowering of an app: from recorded functions to a registry for the engine, and functions any host can serve.

The record stays as it is, so an app can be lowered any number of times, and `str(function)` keeps printing its
durable bindings. (Building an http function fills in its route and level of authorization, as it always does.)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from azure.functions.decorators.core import AuthLevel, Trigger
from azure.functions.decorators.function_app import DecoratorApi, Function, FunctionBuilder, FunctionRegister

from durable_ext.errors import ConfigurationError
from durable_ext.functions.azure import builders_of, copy_with, function_of, user_function
from durable_ext.functions.bindings import OrchestrationTrigger, Role, field_of, role_of
from durable_ext.functions.injection import Clients, DurableBinding, Injection, inject
from durable_ext.functions.resolving import durable_name
from durable_ext.functions.signatures import (
    check_activity,
    check_client,
    check_no_strangers,
    check_orchestrator,
    check_output,
    input_type,
    result_type,
)
from durable_ext.registry import Activity, Orchestrator, Registry, where

_DURABLE = (Role.CLIENT, Role.STARTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFunction:
    """A function that a host triggers: by http, a timer, a queue.

    `trigger` and `bindings` (the others) are what a Functions host would read, for example
    `{"type": "httpTrigger", "name": "req", "direction": "IN", "route": "start", "authLevel": "ANONYMOUS"}`; durable
    ones are not among them. `function` takes the parameters these name, by keyword. `http_type` is "function",
    "asgi" or "wsgi".
    """

    name: str
    function: Callable[..., Any]
    trigger: Mapping[str, Any]
    bindings: Sequence[Mapping[str, Any]]
    http_type: str = "function"

    @property
    def trigger_type(self) -> str:
        """The type of the trigger, such as "httpTrigger"."""
        kind: str = self.trigger["type"]
        return kind


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweredApp:
    """An app as a host of ours runs it. The host sets `clients.provider` before it calls a function."""

    registry: Registry
    functions: Sequence[HostFunction]
    clients: Clients


def lower(app: DecoratorApi | Iterable[FunctionBuilder], auth_level: AuthLevel | None = None) -> LoweredApp:
    """Lower an app, a blueprint or builders.

    `auth_level` is what http functions get that say nothing, unless the app has one. Raises `ConfigurationError` for
    functions that cannot be what their decorators say, and for names taken twice.
    """
    if isinstance(app, FunctionRegister):
        auth_level = app.auth_level
    builders = builders_of(app) if isinstance(app, DecoratorApi) else app
    clients = Clients()
    registry, remaining = lower_builders(builders, clients)
    functions = [_describe(builder.build(auth_level)) for builder in remaining]
    _check_names(functions)
    return LoweredApp(registry=registry, functions=functions, clients=clients)


def lower_builders(builders: Iterable[FunctionBuilder], clients: Clients) -> tuple[Registry, list[FunctionBuilder]]:
    """Sort out the durable functions, and free the others of durable bindings."""
    registry, remaining = Registry(), []
    for builder in builders:
        function = function_of(builder)
        trigger = function.get_trigger()
        if trigger is None:
            raise ConfigurationError(
                f"function {where(user_function(function))} has bindings but no trigger, so nothing would run it. Add "
                f"one, for example @app.route or @app.timer_trigger."
            )
        match role_of(trigger):
            case Role.ORCHESTRATOR:
                _register_orchestrator(registry, function, trigger)
            case Role.ACTIVITY:
                _register_activity(registry, function, trigger, clients)
            case Role.ENTITY:
                raise ConfigurationError(entities_follow(user_function(function)))
            case _:
                remaining.append(_free(builder, trigger, clients))
    return registry, remaining


def entities_follow(function: Callable[..., Any]) -> str:
    """What to tell somebody who declares an entity."""
    return (
        f"{where(function)} is declared as an entity, and entities are not in this release. Keep the state in an "
        f"orchestration that waits for external events, or in a database used by an activity."
    )


def _register_orchestrator(registry: Registry, function: Function, trigger: Trigger) -> None:
    written = user_function(function)
    check_orchestrator(written, trigger.name)
    others = [each for each in function.get_bindings() if each is not trigger]
    if others:
        listed = ", ".join(f"'{each.name}' ({each.type})" for each in others)
        raise ConfigurationError(
            f"orchestrator {where(written)} has other bindings: {listed}. An orchestrator has none, because its code "
            f"is replayed; do that work in an activity, and start instances with `context.call_sub_orchestrator`."
        )
    registry.orchestrators.add(
        Orchestrator(
            name=durable_name(function),
            function=written,
            input_type=trigger.input_type if isinstance(trigger, OrchestrationTrigger) else None,
        ),
        *_aliases(function),
    )


def _register_activity(registry: Registry, function: Function, trigger: Trigger, clients: Clients) -> None:
    written = user_function(function)
    check_activity(written, trigger.name)
    for each in function.get_bindings():
        if each is not trigger and role_of(each) not in _DURABLE:
            raise ConfigurationError(
                f"activity {where(written)} has the binding '{each.name}' ({each.type}), which only a Functions host "
                f"could serve, and activities run in the engine. Use that service's own client in the activity."
            )
    injection = _injection(function, trigger)
    if injection.takes_return_value:
        raise ConfigurationError(
            f"activity {where(written)} cannot put out starts as its return value, because that is its result. Use a "
            f"named output: orchestration_client_output(arg_name=...)."
        )
    check_no_strangers(written, trigger.name, injection.parameters)
    needs_client = injection.inputs or injection.outputs
    registry.activities.add(
        Activity(
            name=durable_name(function),
            function=inject(written, injection, clients) if needs_client else written,
            input_name=trigger.name,
            input_type=input_type(written, trigger.name),
            result_type=result_type(written),
        ),
        *_aliases(function),
    )


def _aliases(function: Function) -> Sequence[str]:
    name = function.get_function_name()
    return (name,) if name else ()


def _free(builder: FunctionBuilder, trigger: Trigger, clients: Clients) -> FunctionBuilder:
    function = function_of(builder)
    injection = _injection(function, trigger)
    if not injection.inputs and not injection.outputs:
        return builder
    written = user_function(function)
    if injection.takes_return_value and (trigger.type or "").casefold() == "httptrigger":
        raise ConfigurationError(
            f"http function {where(written)} cannot put out starts as its return value, because that is its response. "
            f"Use a named output: orchestration_client_output(arg_name=...) with a parameter of type func.Out."
        )
    wrapper = inject(written, injection, clients)
    return copy_with(function, wrapper, [each for each in function.get_bindings() if role_of(each) not in _DURABLE])


def _injection(function: Function, trigger: Trigger) -> Injection:
    written = user_function(function)
    seen: set[str] = set()
    durable: dict[Role, list[DurableBinding]] = {Role.CLIENT: [], Role.STARTS: []}
    for binding in function.get_bindings():
        role = role_of(binding)
        if binding.name in seen and any(role_of(each) in _DURABLE for each in function.get_bindings()):
            raise ConfigurationError(
                f"function {where(written)} has two bindings called '{binding.name}'. Give each a parameter of its own."
            )
        seen.add(binding.name)
        if role is Role.CLIENT:
            check_client(written, binding.name)
        elif role is Role.STARTS:
            check_output(written, binding.name)
        else:
            continue
        durable[role].append(
            DurableBinding(
                parameter=binding.name,
                task_hub=field_of(binding, "taskHub"),
                connection_name=field_of(binding, "connectionName"),
            )
        )
    return Injection(
        function_name=function.get_function_name() or written.__name__,
        trigger_name=trigger.name,
        inputs=durable[Role.CLIENT],
        outputs=durable[Role.STARTS],
    )


def _describe(function: Function) -> HostFunction:
    trigger = function.get_trigger()
    raw = dict(zip(map(id, function.get_bindings()), map(json.loads, function.get_raw_bindings()), strict=True))
    return HostFunction(
        name=function.get_function_name() or function.get_user_function().__name__,
        function=function.get_user_function(),
        trigger=raw.pop(id(trigger)),
        bindings=list(raw.values()),
        http_type=function.http_type,
    )


def _check_names(functions: Iterable[HostFunction]) -> None:
    taken: dict[str, HostFunction] = {}
    for each in functions:
        first = taken.setdefault(each.name.casefold(), each)
        if first is not each:
            raise ConfigurationError(
                f"two functions are called '{each.name}': {where(first.function)} and {where(each.function)}. Rename "
                f"one, or give it another name with @app.function_name."
            )
