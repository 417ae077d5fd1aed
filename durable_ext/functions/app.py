"""The containers of a Function App, and the durable decorators they have.

Decorators only record what they are told; see the lowering module for what becomes of it.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

from azure.functions.decorators.core import AuthLevel
from azure.functions.decorators.function_app import (
    BindingApi,
    Function,
    FunctionBuilder,
    FunctionRegister,
    SettingsApi,
    TriggerApi,
)

from durable_ext.errors import ConfigurationError
from durable_ext.functions.bindings import (
    ActivityTrigger,
    DurableClient,
    OrchestrationClientInput,
    OrchestrationClientOutput,
    OrchestrationTrigger,
)
from durable_ext.functions.checks import check_activity, check_client, check_orchestrator, check_output
from durable_ext.functions.injection import Clients
from durable_ext.functions.lowering import entities_follow, lower_builders
from durable_ext.functions.resolving import user_function

_logger = logging.getLogger("durable_ext.functions")

Decorated: TypeAlias = Callable[..., Any] | FunctionBuilder
Decorator: TypeAlias = Callable[[Decorated], FunctionBuilder]


class Blueprint(TriggerApi, BindingApi, SettingsApi):
    """Functions to be registered in an app: in a `DFApp`, or in a plain `func.FunctionApp`.

    Has every decorator of `func.Blueprint`, in any order, and the durable ones. A decorated orchestrator can be
    passed to `call_sub_orchestrator`, a decorated activity to `call_activity` (and called directly in tests);
    `name.build().get_user_function()` has the plain function as `orchestrator_function` or `client_function`.
    """

    def __init__(self, http_auth_level: AuthLevel | str = AuthLevel.FUNCTION) -> None:
        # Accepted, as azure-functions-durable does: the level that counts is the app's.
        super().__init__(auth_level=http_auth_level)  # type: ignore[no-untyped-call]  # it has no annotations

    def orchestration_trigger(
        self, context_name: str, orchestration: str | None = None, input_type: Any = None
    ) -> Decorator:
        """Make a function an orchestrator: a generator, a coroutine function, or a plain one that returns at once.

        `context_name` is its only parameter. `orchestration` is its name, if not the function's. What
        `context.get_input()` returns is restored to `input_type`.
        """

        def record(builder: FunctionBuilder) -> FunctionBuilder:
            written = user_function(builder._function)
            check_orchestrator(written, context_name)
            trigger = OrchestrationTrigger(name=context_name, orchestration=orchestration)
            trigger.input_type = input_type
            _reach(builder, "orchestrator_function")
            return builder.add_trigger(trigger)

        return self._configure(record)

    def activity_trigger(self, input_name: str, activity: str | None = None) -> Decorator:
        """Make a function an activity, sync or async.

        `input_name` is the parameter that takes the input; its annotation, and that of the result, say what values
        are restored to. `activity` is the activity's name, if not the function's.
        """

        def record(builder: FunctionBuilder) -> FunctionBuilder:
            check_activity(user_function(builder._function), input_name)
            return builder.add_trigger(ActivityTrigger(name=input_name, activity=activity))

        return self._configure(record)

    def entity_trigger(self, context_name: str, entity_name: str | None = None) -> Callable[[Decorated], NoReturn]:
        """Not in this release: raises `ConfigurationError`."""

        def refuse(function: Decorated) -> NoReturn:
            written = user_function(function._function) if isinstance(function, FunctionBuilder) else function
            raise ConfigurationError(entities_follow(written))

        return refuse

    def durable_client_input(
        self, client_name: str, task_hub: str | None = None, connection_name: str | None = None
    ) -> Decorator:
        """Pass a client of the task hub as the parameter `client_name`.

        Coroutine functions get a `DurableOrchestrationClient`; other functions get one whose methods are not
        coroutines. Without `task_hub` and `connection_name` it is the app's own hub.
        """
        return self._configure(
            _client(DurableClient(name=client_name, task_hub=task_hub, connection_name=connection_name))
        )

    def orchestration_client_input(
        self, client_name: str, task_hub: str | None = None, connection_name: str | None = None
    ) -> Decorator:
        """`durable_client_input` under its first name."""
        return self._configure(
            _client(OrchestrationClientInput(name=client_name, task_hub=task_hub, connection_name=connection_name))
        )

    def orchestration_client_output(
        self, arg_name: str, task_hub: str | None = None, connection_name: str | None = None
    ) -> Decorator:
        """Start the instances that the function puts out.

        `arg_name` is a parameter of type `func.Out`, or `$return` for the return value. What is put out is an object
        with `FunctionName`, and optionally `Input` and `InstanceId`, a list of them, or JSON text of either. They are
        started when the function has returned and before its invocation succeeds. In a function triggered by a queue
        message, starts without an id happen once even if the message comes again.
        """

        def record(builder: FunctionBuilder) -> FunctionBuilder:
            check_output(user_function(builder._function), arg_name)
            _reach(builder, "client_function")
            return builder.add_binding(
                OrchestrationClientOutput(name=arg_name, task_hub=task_hub, connection_name=connection_name)
            )

        return self._configure(record)

    def _configure(self, record: Callable[[FunctionBuilder], FunctionBuilder]) -> Decorator:
        decorator: Decorator = self._configure_function_builder(record)
        return decorator


class DFApp(Blueprint, FunctionRegister):
    """A Function App with durable functions. A module has exactly one, under one name."""

    def get_functions(self) -> list[Function]:
        """What a Functions host is told: the functions that are not durable, without durable bindings.

        A host calls this once. In this release it runs no orchestrations: functions with a durable client fail when
        they are called, saying so. The local host does not come this way.
        """
        _registry, remaining = lower_builders(self._function_builders, Clients())
        if len(remaining) < len(self._function_builders):
            _logger.warning(
                "this host will not run the app's orchestrations and activities; in this release only the local host "
                "does: start the app with `durable run`"
            )
        recorded = self._function_builders
        self._function_builders = remaining
        try:
            return super().get_functions()
        finally:
            self._function_builders = recorded


def _client(binding: DurableClient) -> Callable[[FunctionBuilder], FunctionBuilder]:
    def record(builder: FunctionBuilder) -> FunctionBuilder:
        check_client(user_function(builder._function), binding.name)
        _reach(builder, "client_function")
        return builder.add_binding(binding)

    return record


def _reach(builder: FunctionBuilder, attribute: str) -> None:
    """Make the plain function reachable as an attribute of the recorded one, without touching the user's object."""
    function = builder._function
    written = user_function(function)
    if function.get_user_function() is not written:
        return

    async def coroutine_function(*args: Any, **kwargs: Any) -> Any:
        return await written(*args, **kwargs)

    def plain_function(*args: Any, **kwargs: Any) -> Any:
        return written(*args, **kwargs)

    outer = coroutine_function if inspect.iscoroutinefunction(written) else plain_function
    functools.update_wrapper(outer, written)
    setattr(outer, attribute, written)
    function._func = outer
