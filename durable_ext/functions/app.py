"""The containers of a Function App, and the durable decorators they have.

Decorators only record what they are told; see the lowering module for what becomes of it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, NoReturn

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
from durable_ext.functions.azure import (
    Decorated,
    Decorator,
    builders_of,
    decorator,
    function_of,
    make_reachable,
    only,
    user_function,
)
from durable_ext.functions.bindings import (
    ActivityTrigger,
    DurableClient,
    OrchestrationClientInput,
    OrchestrationClientOutput,
    OrchestrationTrigger,
)
from durable_ext.functions.injection import Clients
from durable_ext.functions.lowering import entities_follow, lower_builders
from durable_ext.functions.signatures import (
    check_activity,
    check_called,
    check_client,
    check_orchestrator,
    check_output,
)

logger = logging.getLogger("durable_ext.functions")


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

        check_called("orchestration_trigger", "context_name", context_name)

        def record(builder: FunctionBuilder) -> FunctionBuilder:
            written = user_function(function_of(builder))
            check_orchestrator(written, context_name)
            trigger = OrchestrationTrigger(name=context_name, orchestration=orchestration)
            trigger.input_type = input_type
            make_reachable(function_of(builder), "orchestrator_function")
            return builder.add_trigger(trigger)

        return decorator(self, record)

    def activity_trigger(self, input_name: str, activity: str | None = None) -> Decorator:
        """Make a function an activity, sync or async.

        `input_name` is the parameter that takes the input; its annotation, and that of the result, say what values
        are restored to. `activity` is the activity's name, if not the function's.
        """

        check_called("activity_trigger", "input_name", input_name)

        def record(builder: FunctionBuilder) -> FunctionBuilder:
            check_activity(user_function(function_of(builder)), input_name)
            return builder.add_trigger(ActivityTrigger(name=input_name, activity=activity))

        return decorator(self, record)

    def entity_trigger(self, context_name: str, entity_name: str | None = None) -> Callable[[Decorated], NoReturn]:
        """Not in this release: raises `ConfigurationError`."""

        def refuse(function: Decorated) -> NoReturn:
            written = user_function(function_of(function)) if isinstance(function, FunctionBuilder) else function
            raise ConfigurationError(entities_follow(written))

        return refuse

    def durable_client_input(
        self, client_name: str, task_hub: str | None = None, connection_name: str | None = None
    ) -> Decorator:
        """Pass a client of the task hub as the parameter `client_name`.

        Coroutine functions get a `DurableOrchestrationClient`; other functions get one whose methods are not
        coroutines. Without `task_hub` and `connection_name` it is the app's own hub.
        """
        check_called("durable_client_input", "client_name", client_name)
        return _client(self, DurableClient(name=client_name, task_hub=task_hub, connection_name=connection_name))

    def orchestration_client_input(
        self, client_name: str, task_hub: str | None = None, connection_name: str | None = None
    ) -> Decorator:
        """`durable_client_input` under its first name."""
        check_called("orchestration_client_input", "client_name", client_name)
        return _client(
            self, OrchestrationClientInput(name=client_name, task_hub=task_hub, connection_name=connection_name)
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

        check_called("orchestration_client_output", "arg_name", arg_name)

        def record(builder: FunctionBuilder) -> FunctionBuilder:
            check_output(user_function(function_of(builder)), arg_name)
            make_reachable(function_of(builder), "client_function")
            return builder.add_binding(
                OrchestrationClientOutput(name=arg_name, task_hub=task_hub, connection_name=connection_name)
            )

        return decorator(self, record)


class DFApp(Blueprint, FunctionRegister):
    """A Function App with durable functions. A module has exactly one, under one name."""

    @functools.cached_property
    def clients(self) -> Clients:
        """Where the functions of `get_functions` find their client: who runs the app's task hub sets its provider."""
        return Clients()

    def get_functions(self) -> list[Function]:
        """What a Functions host is told: the functions that are not durable, without durable bindings.

        A host calls this once. In this release it runs no orchestrations: functions with a durable client fail when
        they are called, saying so. The local host does not come this way.
        """
        recorded = builders_of(self)
        _registry, remaining = lower_builders(recorded, self.clients)
        if len(remaining) < len(recorded):
            logger.warning(
                "this host will not run the app's orchestrations and activities; in this release only the local host "
                "does: start the app with `durable run`"
            )
        with only(self, remaining):
            return super().get_functions()


def _client(container: Blueprint, binding: DurableClient) -> Decorator:
    def record(builder: FunctionBuilder) -> FunctionBuilder:
        check_client(user_function(function_of(builder)), binding.name)
        make_reachable(function_of(builder), "client_function")
        return builder.add_binding(binding)

    return decorator(container, record)
