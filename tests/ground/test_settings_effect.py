"""No setting is taken in silence: giving a documented key has an effect, or the key is listed as having none."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import durable_ext
from durable_ext.host_json import rules_of
from durable_ext.settings import WITHOUT_EFFECT, Settings, parse_settings

PACKAGE = Path(durable_ext.__file__).parent

DOCUMENTED: dict[str, Any] = {
    "hubName": "MyHub",
    "defaultVersion": "1.0",
    "versionMatchStrategy": "Strict",
    "versionFailureStrategy": "Fail",
    "maxConcurrentActivityFunctions": 7,
    "maxConcurrentOrchestratorFunctions": 7,
    "maxConcurrentEntityFunctions": 7,
    "maxEntityOperationBatchSize": 7,
    "maxOrchestrationActions": 7,
    "extendedSessionsEnabled": True,
    "extendedSessionIdleTimeoutInSeconds": 7,
    "overridableExistingInstanceStates": "AnyState",
    "entityMessageReorderWindowInMinutes": 7,
    "rollbackEntityOperationsOnExceptions": False,
    "throwStatusExceptionsOnRaiseEvent": True,
    "storeInputsInOrchestrationHistory": True,
    "localRpcEndpointEnabled": False,
    "useAppLease": False,
    "appLeaseOptions.renewInterval": "00:00:25",
    "appLeaseOptions.acquireInterval": "00:05:00",
    "appLeaseOptions.leaseInterval": "00:01:00",
    "useGracefulShutdown": True,
    "maxGrpcMessageSizeInBytes": 4194304,
    "grpcHttpClientTimeout": "00:01:40",
    "httpSettings.defaultAsyncRequestSleepTimeMilliseconds": 1000,
    "httpSettings.useForwardedHost": True,
    "tracing.traceInputsAndOutputs": True,
    "tracing.traceReplayEvents": True,
    "tracing.allowVerboseLinuxTelemetry": True,
    "tracing.distributedTracingEnabled": True,
    "tracing.distributedTracingProtocol": "W3CTraceContext",
    "tracing.version": "V2",
    "notifications.eventGrid.topicEndpoint": "https://topic.example",
    "notifications.eventGrid.keySettingName": "TopicKey",
    "notifications.eventGrid.publishRetryCount": 3,
    "notifications.eventGrid.publishRetryInterval": "00:00:30",
    "notifications.eventGrid.publishRetryHttpStatus": [503],
    "notifications.eventGrid.publishEventTypes": ["Failed"],
    "storageProvider.type": "sqlite",
    "storageProvider.connectionName": "Storage",
    "storageProvider.connectionStringName": "Storage",
    "storageProvider.trackingStoreConnectionName": "Storage",
    "storageProvider.trackingStoreConnectionStringName": "Storage",
    "storageProvider.trackingStoreNamePrefix": "Tracking",
    "storageProvider.controlQueueBatchSize": 16,
    "storageProvider.controlQueueBufferThreshold": 32,
    "storageProvider.controlQueueVisibilityTimeout": "00:02:00",
    "storageProvider.workItemQueueVisibilityTimeout": "00:02:00",
    "storageProvider.partitionCount": 8,
    "storageProvider.maxQueuePollingInterval": "00:00:10",
    "storageProvider.fetchLargeMessagesAutomatically": False,
    "storageProvider.useLegacyPartitionManagement": True,
    "storageProvider.useTablePartitionManagement": True,
    "storageProvider.queueClientMessageEncoding": "Base64",
    "storageProvider.allowReplayingTerminalInstances": True,
}
"""The keys of Durable Functions, each with a value that is not the default."""

OURS: dict[str, Any] = {
    "orchestratorTurnTimeoutInSeconds": 7,
    "storageProvider.path": "hub.db",
    "storageProvider.synchronous": "normal",
}
"""The keys only this package has."""


def nested(path: str, value: Any) -> dict[str, Any]:
    for name in reversed(path.split(".")):
        value = {name: value}
    return dict(value)


@pytest.mark.parametrize(("path", "value"), [*DOCUMENTED.items(), *OURS.items()])
def test_a_key_that_is_given_changes_something_or_is_listed(path: str, value: Any) -> None:
    settings = parse_settings({"extensions": {"durableTask": nested(path, value)}}, {})
    if path in WITHOUT_EFFECT:
        assert settings == dataclasses.replace(Settings(), ignored=(path,))
    else:
        assert settings.ignored == ()
        assert settings != Settings()


def test_exactly_these_keys_are_known() -> None:
    assert rules_of(Settings).keys().isdisjoint(WITHOUT_EFFECT)
    assert {*rules_of(Settings), *WITHOUT_EFFECT} == {*DOCUMENTED, *OURS}


def attributes_of(record: type, prefix: str = "") -> Iterator[str]:
    for each in dataclasses.fields(record):
        if "section" in each.metadata:
            yield from attributes_of(each.metadata["section"], f"{prefix}{each.name}.")
        else:
            yield prefix + each.name


def dotted(expression: ast.AST) -> str:
    if isinstance(expression, ast.Name):
        return expression.id
    return f"{dotted(expression.value)}.{expression.attr}" if isinstance(expression, ast.Attribute) else ""


def below_settings(name: str) -> str | None:
    """`self._settings.tracing.version` is `tracing.version`; None for what is no setting."""
    parts = name.split(".")
    at = next((index for index, part in enumerate(parts) if part.lstrip("_") == "settings"), None)
    return None if at is None else ".".join(parts[at + 1 :])


def settings_read_in(tree: ast.AST) -> set[str]:
    """The attributes of settings that a module reads, also where it has given a section a name of its own."""
    assigned = [each for each in ast.walk(tree) if isinstance(each, ast.Assign)]
    sections = {
        each.targets[0].id: section
        for each in assigned
        if isinstance(each.targets[0], ast.Name) and (section := below_settings(dotted(each.value)))
    }
    read = set()
    for each in ast.walk(tree):
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Load):
            name = dotted(each)
            first, _, rest = name.partition(".")
            read.add(f"{sections[first]}.{rest}" if first in sections else below_settings(name) or "")
    return read


READERS = {
    path: settings_read_in(ast.parse(path.read_text(encoding="utf-8")))
    for path in PACKAGE.rglob("*.py")
    if path.name not in ("settings.py", "host_json.py")
}


@pytest.mark.parametrize("attribute", [*attributes_of(Settings)])
def test_every_setting_that_is_parsed_is_read_by_the_package(attribute: str) -> None:
    assert [path for path, read in READERS.items() if attribute in read], f"nothing reads Settings.{attribute}"


def test_the_search_for_readers_finds_readers_only() -> None:
    tree = ast.parse("provider = host.settings.storage_provider\nprovider.path\nself._settings.hub_name\nother.ignored")
    assert settings_read_in(tree) == {"storage_provider", "storage_provider.path", "hub_name", ""}
