"""The callee of a call: from a name, or the decorated function itself, to a durable name and a result type."""

from __future__ import annotations

from typing import Any

from azure.functions.decorators.function_app import Function, FunctionBuilder

from durable_ext.engine.turn import Callee
from durable_ext.functions.azure import function_of, user_function
from durable_ext.functions.bindings import Role, field_of, role_of
from durable_ext.functions.signatures import result_type

_EXPECTED = {"orchestrator": Role.ORCHESTRATOR, "activity": Role.ACTIVITY}
_SHOWN = {"orchestrator": "OrchestrationTrigger", "activity": "ActivityTrigger"}
_DECORATOR = {"orchestrator": "orchestration_trigger", "activity": "activity_trigger"}
_OVERRIDE = {Role.ORCHESTRATOR: "orchestration", Role.ACTIVITY: "activity"}


def resolve(function: Any, kind: str) -> Callee:
    """Turn what was passed to a call into the durable name and the type its result restores to.

    `kind` is "activity" or "orchestrator". A decorated function is called by the name it was given in the trigger,
    else with `function_name`, else its own; a string is taken as it is and says nothing about the result. Raises
    ValueError on anything else.
    """
    if isinstance(function, str):
        if not function:
            raise ValueError("function_name cannot be empty")
        return Callee(name=function)
    if isinstance(function, FunctionBuilder):
        function = function_of(function)
    if not isinstance(function, Function):
        raise ValueError(_not_a_function(function, kind))
    trigger = function.get_trigger()
    if trigger is None or role_of(trigger) is not _EXPECTED[kind]:
        raise ValueError(
            f"Received function with Trigger-type `{trigger.type if trigger else None}` but expected "
            f"`{_SHOWN[kind]}`. Decorate '{function.get_function_name()}' with `@app.{_DECORATOR[kind]}`, or pass the "
            f"name of the function to call."
        )
    return Callee(name=durable_name(function), result_type=result_type(user_function(function)))


def durable_name(function: Function) -> str:
    """The name of an orchestrator or activity: the trigger's, else `function_name`'s, else the function's own."""
    trigger = function.get_trigger()
    override = field_of(trigger, _OVERRIDE[role_of(trigger)]) if trigger else None
    name: str = override or function.get_function_name() or function.get_user_function().__name__
    return name


def _not_a_function(value: Any, kind: str) -> str:
    if not callable(value):
        return (
            f"an {kind} is called by its name or its decorated function, not by {value!r} of type "
            f"{type(value).__name__}"
        )
    # One text for both kinds of call, because programs match on how it begins.
    return (
        f"The `call_activity` API received a `Callable` that no Functions decorator has seen: "
        f"{getattr(value, '__qualname__', value)!r}. Decorate it with `@app.{_DECORATOR[kind]}`, or pass the name of "
        f"the {kind} as a string."
    )
