"""The settings: what host.json says under `extensions.durableTask`, and the route prefix.

Each record below is its own table: attribute, rule, default. The key is the attribute in camelCase, so
`storage_provider.path` is read from `storageProvider.path`. Text may hold `%NAME%`, which stands for the app setting
of that name.

Every documented key is a field that something reads, or a row of `WITHOUT_EFFECT`: then it is checked, and listed
when the app starts. To build a setting is to move its row to a field.
"""

# ruff: noqa: RUF009 - key() and section() make fields, they are no shared default values

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from durable_ext.errors import ConfigurationError
from durable_ext.host_json import (
    Rule,
    SettingsReader,
    build,
    duration,
    flag,
    key,
    list_of,
    matching,
    one_of,
    read_document,
    rules_of,
    section,
    text,
    whole,
)

_minutes = timedelta(minutes=1)


OTHER_PROVIDERS = ("azureManaged", "mssql", "netherite")
"""Providers of the .NET extension. An app may name one in its host.json and have its state elsewhere here."""


def _per_core() -> int:
    return 10 * (os.cpu_count() or 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StorageProviderSettings:
    """Where state lives. `type` is None if host.json leaves it to the place the app runs in.

    `path` and `synchronous` are for SQLite.
    """

    type: str | None = key(one_of("AzureStorage", "sqlite", *OTHER_PROVIDERS))
    path: str | None = key(text())
    synchronous: str = key(one_of("full", "normal"), "full")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HttpSettings:
    """How the HTTP surface answers."""

    use_forwarded_host: bool = key(flag(), False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything host.json says to this package. `ignored` names the keys given that have no effect."""

    hub_name: str = key(
        matching(
            r"[A-Za-z][A-Za-z0-9]{2,44}",
            "text of 3 to 45 characters that contains only alphanumeric characters and starts with a letter",
            '"MyTaskHub"',
        ),
        "TestHubName",
    )
    default_version: str | None = key(text())

    max_concurrent_activity_functions: int = key(whole(1), default_factory=_per_core)
    max_concurrent_orchestrator_functions: int = key(whole(1), default_factory=_per_core)
    max_orchestration_actions: int = key(whole(1), 100_000)
    extended_session_idle_timeout_in_seconds: int = key(whole(1), 30)
    orchestrator_turn_timeout_in_seconds: int = key(whole(1), 30)
    overridable_existing_instance_states: str = key(one_of("NonRunningStates", "AnyState"), "NonRunningStates")
    store_inputs_in_orchestration_history: bool = key(flag(), False)

    storage_provider: StorageProviderSettings = section(StorageProviderSettings)
    http_settings: HttpSettings = section(HttpSettings)

    route_prefix: str = "api"
    ignored: tuple[str, ...] = ()


WITHOUT_EFFECT: dict[str, Rule] = {
    # Not in this release: versions of orchestrators, entities, tracing, polling by `call_http`.
    "versionMatchStrategy": one_of("None", "Strict", "CurrentOrOlder"),
    "versionFailureStrategy": one_of("Reject", "Fail"),
    "maxConcurrentEntityFunctions": whole(1),
    "maxEntityOperationBatchSize": whole(1),
    "entityMessageReorderWindowInMinutes": whole(0),
    "rollbackEntityOperationsOnExceptions": flag(),
    "tracing.traceInputsAndOutputs": flag(),
    "tracing.traceReplayEvents": flag(),
    "tracing.distributedTracingEnabled": flag(),
    "tracing.distributedTracingProtocol": one_of("HttpCorrelationProtocol", "W3CTraceContext"),
    "tracing.version": one_of("None", "V1", "V2"),
    "tracing.allowVerboseLinuxTelemetry": flag(),
    "httpSettings.defaultAsyncRequestSleepTimeMilliseconds": whole(1),
    # About Azure Storage, which is not in this release either.
    "storageProvider.connectionName": text(),
    "storageProvider.connectionStringName": text(),
    "storageProvider.trackingStoreConnectionName": text(),
    "storageProvider.trackingStoreConnectionStringName": text(),
    "storageProvider.trackingStoreNamePrefix": text(),
    "storageProvider.partitionCount": whole(1, 16),
    "storageProvider.controlQueueBatchSize": whole(1, 32),
    "storageProvider.controlQueueBufferThreshold": whole(1, 1000),
    "storageProvider.controlQueueVisibilityTimeout": duration(_minutes, 60 * _minutes),
    "storageProvider.workItemQueueVisibilityTimeout": duration(),
    "storageProvider.maxQueuePollingInterval": duration(),
    "storageProvider.fetchLargeMessagesAutomatically": flag(),
    "storageProvider.queueClientMessageEncoding": one_of("UTF8", "Base64"),
    "storageProvider.useLegacyPartitionManagement": flag(),
    "storageProvider.useTablePartitionManagement": flag(),
    "storageProvider.allowReplayingTerminalInstances": flag(),
    # About what this package does not have, or always does: keeping instances in memory between turns, and saying
    # that an event was raised for an instance that does not live.
    "extendedSessionsEnabled": flag(),
    "throwStatusExceptionsOnRaiseEvent": flag(),
    "localRpcEndpointEnabled": flag(),
    "useAppLease": flag(),
    "appLeaseOptions.renewInterval": duration(),
    "appLeaseOptions.acquireInterval": duration(),
    "appLeaseOptions.leaseInterval": duration(),
    "useGracefulShutdown": flag(),
    "maxGrpcMessageSizeInBytes": whole(1),
    "grpcHttpClientTimeout": duration(),
    "notifications.eventGrid.topicEndpoint": text(),
    "notifications.eventGrid.keySettingName": text(),
    "notifications.eventGrid.publishRetryCount": whole(0),
    "notifications.eventGrid.publishRetryInterval": duration(timedelta(seconds=1), 60 * _minutes),
    "notifications.eventGrid.publishRetryHttpStatus": list_of(whole(400, 599)),
    "notifications.eventGrid.publishEventTypes": list_of(one_of("Started", "Completed", "Failed", "Terminated")),
}
"""Documented keys that nothing here reads. Checked all the same, so that a mistake shows today rather than later."""

_ON_CONSUMPTION = {
    "maxConcurrentActivityFunctions": 10,
    "maxConcurrentOrchestratorFunctions": 5,
}
"""Defaults of the Consumption plan, whose workers are small."""

_RENAMED = {
    "azureStorageConnectionStringName": "storageProvider.connectionName",
    "logReplayEvents": "tracing.traceReplayEvents",
}
"""Names of Durable Functions 1.x."""

_SQLITE_KEYS = ("storageProvider.path", "storageProvider.synchronous")


def load_settings(app_dir: Path, environ: Mapping[str, str]) -> Settings:
    """The settings of the app in this directory. Without a host.json all have their defaults.

    `environ` holds the app settings. Raises `ConfigurationError` on the first thing that is wrong, naming the
    file, the key, the value, the rule and the fix.
    """
    path = app_dir / "host.json"
    return parse_settings(read_document(path), environ, source=str(path))


def parse_settings(document: Mapping[str, Any], environ: Mapping[str, str], *, source: str = "host.json") -> Settings:
    """The settings in the content of a host.json. Raises `ConfigurationError` as `load_settings` does."""
    if (version := _value(document, "version")) not in (None, "2.0"):
        raise ConfigurationError(f'{source}: version is {version!r}, but must be "2.0". Write "version": "2.0".')
    _refuse_misplaced(document, source, expected="extensions.durableTask", prefix="")
    extensions = _object(document, "extensions", "extensions", source)
    _refuse_misplaced(extensions, source, expected="extensions.durableTask", prefix="extensions.")
    given = _object(extensions, "durableTask", "extensions.durableTask", source)

    reader = SettingsReader(
        source, "extensions.durableTask", environ, rules={**rules_of(Settings), **WITHOUT_EFFECT}, renamed=_RENAMED
    )
    values = reader.read(_without_keys_of_others(given))
    _refuse_settings_of_sqlite(values, reader)
    settings = build(Settings, {**_defaults(environ), **values})
    return dataclasses.replace(
        settings,
        hub_name=values.get("hubName") or _default_hub_name(environ, source),
        route_prefix=_route_prefix(_object(extensions, "http", "extensions.http", source), source),
        ignored=tuple(sorted(WITHOUT_EFFECT.keys() & values.keys())),
    )


def _defaults(environ: Mapping[str, str]) -> Mapping[str, Any]:
    return _ON_CONSUMPTION if environ.get("WEBSITE_SKU") == "Dynamic" else {}


def _object(parent: Mapping[str, Any], name: str, path: str, source: str) -> dict[str, Any]:
    found = _value(parent, name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigurationError(f"{source}: {path} is {found!r}, but must be an object: {{ ... }}.")
    return found


def _value(parent: Mapping[str, Any], name: str) -> Any:
    """The value of a key, which is taken in any case, as the Functions host takes it."""
    return next((value for key, value in parent.items() if key.casefold() == name.casefold()), None)


def _refuse_misplaced(parent: Mapping[str, Any], source: str, *, expected: str, prefix: str) -> None:
    """A section that is nearly where we look would be ignored in silence."""
    own = expected.removeprefix(prefix)
    keys = {each.casefold() for each in (*rules_of(Settings), *WITHOUT_EFFECT)}
    for name in parent:
        looks_like_ours = name.casefold() in keys or difflib.get_close_matches(
            name.casefold(), ["durabletask"], cutoff=0.85
        )
        if looks_like_ours and name.casefold() != own.casefold():
            raise ConfigurationError(
                f"{source}: {prefix}{name} is not read by anything. The settings of durable functions belong at "
                f"{expected}. Move it there."
            )


def _default_hub_name(environ: Mapping[str, str], source: str) -> str:
    """The app's name, made fit; `TestHubName` off Azure."""
    site = environ.get("WEBSITE_SITE_NAME")
    if not site:
        return "TestHubName"
    slot = environ.get("WEBSITE_SLOT_NAME", "Production")
    if slot.casefold() != "production":
        # By default all slots would share the hub of the production slot, and take its work.
        raise ConfigurationError(
            f"{source}: extensions.durableTask.hubName is not set, but must be in the slot '{slot}'. "
            f'Write for example "%TaskHubName%", and give every slot its own TaskHubName as a slot setting.'
        )
    name = re.sub(r"[^A-Za-z0-9]", "", site)
    if not name:
        return "DefaultTaskHub"
    if name[0].isdigit():
        name = f"t{name}"
    return f"{name}Hub" if len(name) < 3 else name[:45]


def _without_keys_of_others(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is given, but for settings of a provider whose settings are not known here."""
    return {
        name: _provider_only(value) if name.casefold() == "storageprovider" else value for name, value in given.items()
    }


def _provider_only(section: Any) -> Any:
    kind = _value(section, "type") if isinstance(section, dict) else None
    is_other = isinstance(kind, str) and kind.casefold() in {each.casefold() for each in OTHER_PROVIDERS}
    return {"type": kind} if is_other else section


def _refuse_settings_of_sqlite(values: Mapping[str, Any], reader: SettingsReader) -> None:
    """A path beside AzureStorage is a mistake: state would not be where it says."""
    for name in _SQLITE_KEYS:
        if values.get("storageProvider.type") == "AzureStorage" and name in values:
            raise reader.wrong(
                name, values[name], "not be there: it is for SQLite", 'Remove it, or write "type": "sqlite".'
            )


def _route_prefix(http: Mapping[str, Any], source: str) -> str:
    prefix = _value(http, "routePrefix")
    if prefix is None:
        return "api"
    if not isinstance(prefix, str):
        raise ConfigurationError(
            f'{source}: extensions.http.routePrefix is {prefix!r}, but must be text. Write for example "api", or "".'
        )
    return prefix.strip("/")
