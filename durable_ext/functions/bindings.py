"""The durable bindings as the Functions programming model records them.

They are markers: `str(function)` prints them as any Functions host would expect them, and lowering takes them away
before a host sees the function. The generic decorators (`generic_trigger(type="orchestrationTrigger")` and so on)
make the same markers, so everything here looks at the binding's type, never at its class.
"""

from __future__ import annotations

import enum
from typing import Any

from azure.functions.decorators.core import Binding, BindingDirection, InputBinding, OutputBinding, Trigger

ORCHESTRATION_TRIGGER = "orchestrationTrigger"
ACTIVITY_TRIGGER = "activityTrigger"
ENTITY_TRIGGER = "entityTrigger"
DURABLE_CLIENT = "durableClient"
ORCHESTRATION_CLIENT = "orchestrationClient"

RETURN = "$return"
"""The name of the binding that takes a function's return value."""


class OrchestrationTrigger(Trigger):
    """Makes a function an orchestrator. `input_type` is for the engine only and is never printed."""

    input_type: Any = None

    @staticmethod
    def get_binding_name() -> str:
        return ORCHESTRATION_TRIGGER

    def __init__(self, name: str, orchestration: str | None = None) -> None:
        self.orchestration = orchestration
        super().__init__(name=name)


class ActivityTrigger(Trigger):
    """Makes a function an activity."""

    @staticmethod
    def get_binding_name() -> str:
        return ACTIVITY_TRIGGER

    def __init__(self, name: str, activity: str | None = None) -> None:
        self.activity = activity
        super().__init__(name=name)


class DurableClient(InputBinding):
    """Gives a function a client of the task hub."""

    @staticmethod
    def get_binding_name() -> str:
        return DURABLE_CLIENT

    def __init__(self, name: str, task_hub: str | None = None, connection_name: str | None = None) -> None:
        self.task_hub, self.connection_name = task_hub, connection_name
        super().__init__(name=name)


class OrchestrationClientInput(DurableClient):
    """`DurableClient` under the name the first release of Durable Functions gave it."""

    @staticmethod
    def get_binding_name() -> str:
        return ORCHESTRATION_CLIENT


class OrchestrationClientOutput(OutputBinding):
    """Starts the instances a function puts out."""

    @staticmethod
    def get_binding_name() -> str:
        return ORCHESTRATION_CLIENT

    def __init__(self, name: str, task_hub: str | None = None, connection_name: str | None = None) -> None:
        self.task_hub, self.connection_name = task_hub, connection_name
        super().__init__(name=name)


class Role(enum.Enum):
    """What a binding means to us."""

    ORCHESTRATOR = ORCHESTRATION_TRIGGER
    ACTIVITY = ACTIVITY_TRIGGER
    ENTITY = ENTITY_TRIGGER
    CLIENT = "client input"
    STARTS = "client output"
    OTHER = "other"


_TRIGGERS = {role.value.casefold(): role for role in (Role.ORCHESTRATOR, Role.ACTIVITY, Role.ENTITY)}
_CLIENTS = {DURABLE_CLIENT.casefold(), ORCHESTRATION_CLIENT.casefold()}


def role_of(binding: Binding) -> Role:
    """What the binding means, whichever decorator made it. Types compare case-insensitively, as hosts do."""
    kind = (binding.type or "").casefold()
    if isinstance(binding, Trigger):
        return _TRIGGERS.get(kind, Role.OTHER)
    if kind in _CLIENTS:
        return Role.STARTS if binding.direction == BindingDirection.OUT.value else Role.CLIENT
    return Role.OTHER


def field_of(binding: Binding, key: str) -> Any:
    """A field of the binding by its camel-case name, or None. Generic bindings keep theirs as extra keywords."""
    return binding.get_dict_repr().get(key)
