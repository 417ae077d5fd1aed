"""Durable Functions for Azure Functions, in pure Python.

Usually imported as `df`::

    import azure.functions as func
    import durable_ext as df

    app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)

    @app.orchestration_trigger(context_name="context")
    def hello(context: df.DurableOrchestrationContext):
        return (yield context.call_activity(say_hello, "Tokyo"))

    @app.activity_trigger(input_name="city")
    def say_hello(city: str) -> str:
        return f"Hello {city}!"

Importing it does nothing else.
"""

from __future__ import annotations

from typing import NoReturn

from durable_ext.client.status import DurableOrchestrationStatus, PurgeHistoryResult
from durable_ext.engine.context import DurableOrchestrationContext
from durable_ext.errors import (
    ActivityFailedError,
    ActivityTimeout,
    ClientError,
    CodecError,
    ConfigurationError,
    DurableError,
    FailureDetails,
    FunctionNotFoundError,
    InstanceAlreadyExistsError,
    InstanceNotFoundError,
    InstanceStateError,
    InvalidInstanceIdError,
    NonDeterminismError,
    OrchestratorCodeError,
    StoreError,
    StoreInUseError,
    StoreSchemaError,
    SubOrchestrationFailedError,
    TaskFailedError,
    VersionConflictError,
)
from durable_ext.functions.app import Blueprint, DFApp
from durable_ext.functions.client import DurableOrchestrationClient, SyncDurableOrchestrationClient
from durable_ext.history import OrchestrationRuntimeStatus
from durable_ext.retry import RetryOptions, RetryPolicy
from durable_ext.version import __version__ as __version__

# The names of the client in azure-functions-durable 2.
DurableFunctionsClient = DurableOrchestrationClient
SyncDurableFunctionsClient = SyncDurableOrchestrationClient

_NOT_IN_THIS_RELEASE = {
    "DurableEntity": "entities",
    "DurableEntityContext": "entities",
    "Entity": "entities",
    "EntityId": "entities",
    "EntityStateResponse": "entities",
    "DurableHttpRequest": "durable HTTP calls",
    "DurableHttpResponse": "durable HTTP calls",
    "ManagedIdentityTokenSource": "durable HTTP calls",
    "TokenSource": "durable HTTP calls",
    "Orchestrator": "apps with function.json files; decorate the function with @app.orchestration_trigger instead",
}


def __getattr__(name: str) -> NoReturn:
    """Say of names that users know from azure-functions-durable why they cannot be had here."""
    if what := _NOT_IN_THIS_RELEASE.get(name):
        raise ImportError(f"durable_ext has no {name}: this release has no {what}", name=__name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    # the app
    "DFApp",
    "Blueprint",
    # what functions are given
    "DurableOrchestrationContext",
    "DurableOrchestrationClient",
    "SyncDurableOrchestrationClient",
    "DurableFunctionsClient",
    "SyncDurableFunctionsClient",
    # what they pass and get back
    "RetryOptions",
    "RetryPolicy",
    "OrchestrationRuntimeStatus",
    "DurableOrchestrationStatus",
    "PurgeHistoryResult",
    # what is raised
    "DurableError",
    "ConfigurationError",
    "CodecError",
    "InvalidInstanceIdError",
    "FunctionNotFoundError",
    "ClientError",
    "InstanceNotFoundError",
    "InstanceAlreadyExistsError",
    "InstanceStateError",
    "TaskFailedError",
    "ActivityFailedError",
    "ActivityTimeout",
    "SubOrchestrationFailedError",
    "FailureDetails",
    "OrchestratorCodeError",
    "NonDeterminismError",
    "StoreError",
    "VersionConflictError",
    "StoreInUseError",
    "StoreSchemaError",
]
