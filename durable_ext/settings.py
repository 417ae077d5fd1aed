"""The settings: what host.json says under `extensions.durableTask`, and the route prefix.

Each record below is its own table: attribute, rule, default. The key is the attribute in camelCase, so
`storage_provider.partition_count` is read from `storageProvider.partitionCount`. Text may hold `%NAME%`, which
stands for the app setting of that name.
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
    Reader,
    Rule,
    duration,
    flag,
    key,
    list_of,
    matching,
    one_of,
    read_document,
    section,
    text,
    whole,
)

_minutes = timedelta(minutes=1)


def _per_core() -> int:
    return 10 * (os.cpu_count() or 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StorageProviderSettings:
    """Where state lives. `type` is None if host.json leaves it to the place the app runs in.

    `path` and `synchronous` are for SQLite, all others for Azure Storage.
    """

    type: str | None = key(one_of("AzureStorage", "sqlite"))
    path: str | None = key(text())
    synchronous: str = key(one_of("full", "normal"), "full")

    connection_name: str = key(text(), "AzureWebJobsStorage", also="connectionStringName")
    tracking_store_connection_name: str | None = key(text(), also="trackingStoreConnectionStringName")
    tracking_store_name_prefix: str = key(text(), "DurableTask")
    partition_count: int = key(whole(1, 16), 4)
    control_queue_batch_size: int = key(whole(1, 32), 32)
    control_queue_buffer_threshold: int = key(whole(1, 1000), 256)
    control_queue_visibility_timeout: timedelta = key(duration(_minutes, 60 * _minutes), 5 * _minutes)
    work_item_queue_visibility_timeout: timedelta = key(duration(), 5 * _minutes)
    max_queue_polling_interval: timedelta = key(duration(), timedelta(seconds=30))
    fetch_large_messages_automatically: bool = key(flag(), True)
    queue_client_message_encoding: str = key(one_of("UTF8", "Base64"), "UTF8")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HttpSettings:
    """How the HTTP surface answers and how `call_http` polls."""

    default_async_request_sleep_time_milliseconds: int = key(whole(1), 30_000)
    use_forwarded_host: bool = key(flag(), False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TracingSettings:
    """What goes into logs and traces."""

    trace_inputs_and_outputs: bool = key(flag(), False)
    trace_replay_events: bool = key(flag(), False)
    distributed_tracing_enabled: bool = key(flag(), False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything host.json says to this package. `ignored` names the keys given that have no effect here."""

    hub_name: str = key(
        matching(
            r"[A-Za-z][A-Za-z0-9]{2,44}",
            "text of 3 to 45 characters that contains only alphanumeric characters and starts with a letter",
            '"MyTaskHub"',
        ),
        "TestHubName",
    )
    default_version: str | None = key(text())
    version_match_strategy: str = key(one_of("None", "Strict", "CurrentOrOlder"), "CurrentOrOlder")
    version_failure_strategy: str = key(one_of("Reject", "Fail"), "Reject")

    max_concurrent_activity_functions: int = key(whole(1), default_factory=_per_core)
    max_concurrent_orchestrator_functions: int = key(whole(1), default_factory=_per_core)
    max_concurrent_entity_functions: int = key(whole(1), default_factory=_per_core)
    max_entity_operation_batch_size: int = key(whole(1), 5000)
    max_orchestration_actions: int = key(whole(1), 100_000)
    extended_sessions_enabled: bool = key(flag(), False)
    extended_session_idle_timeout_in_seconds: int = key(whole(1), 30)

    overridable_existing_instance_states: str = key(one_of("NonRunningStates", "AnyState"), "NonRunningStates")
    entity_message_reorder_window_in_minutes: int = key(whole(0), 30)
    rollback_entity_operations_on_exceptions: bool = key(flag(), True)
    throw_status_exceptions_on_raise_event: bool | None = key(flag())
    store_inputs_in_orchestration_history: bool = key(flag(), False)

    storage_provider: StorageProviderSettings = section(StorageProviderSettings)
    http_settings: HttpSettings = section(HttpSettings)
    tracing: TracingSettings = section(TracingSettings)

    route_prefix: str = "api"
    ignored: tuple[str, ...] = ()


_WITHOUT_MEANING: dict[str, Rule] = {
    "localRpcEndpointEnabled": flag(),
    "useAppLease": flag(),
    "appLeaseOptions.renewInterval": duration(),
    "appLeaseOptions.acquireInterval": duration(),
    "appLeaseOptions.leaseInterval": duration(),
    "useGracefulShutdown": flag(),
    "maxGrpcMessageSizeInBytes": whole(1),
    "grpcHttpClientTimeout": duration(),
    "storageProvider.useLegacyPartitionManagement": flag(),
    "storageProvider.useTablePartitionManagement": flag(),
    "storageProvider.allowReplayingTerminalInstances": flag(),
    "tracing.allowVerboseLinuxTelemetry": flag(),
    "tracing.distributedTracingProtocol": one_of("HttpCorrelationProtocol", "W3CTraceContext"),
    "tracing.version": one_of("None", "V1", "V2"),
    "notifications.eventGrid.topicEndpoint": text(),
    "notifications.eventGrid.keySettingName": text(),
    "notifications.eventGrid.publishRetryCount": whole(0),
    "notifications.eventGrid.publishRetryInterval": duration(timedelta(seconds=1), 60 * _minutes),
    "notifications.eventGrid.publishRetryHttpStatus": list_of(whole(400, 599)),
    "notifications.eventGrid.publishEventTypes": list_of(one_of("Started", "Completed", "Failed", "Terminated")),
}
"""Documented keys that are about something this package does not have. Checked, and then without effect."""

_ON_CONSUMPTION = {
    "maxConcurrentActivityFunctions": 10,
    "maxConcurrentOrchestratorFunctions": 5,
    "maxConcurrentEntityFunctions": 10,
    "maxEntityOperationBatchSize": 50,
    "storageProvider.controlQueueBufferThreshold": 32,
}
"""Defaults of the Consumption plan, whose workers are small."""

_RENAMED = {
    "azureStorageConnectionStringName": "storageProvider.connectionName",
    "logReplayEvents": "tracing.traceReplayEvents",
}
"""Names of Durable Functions 1.x."""

_SQLITE_KEYS = ("path", "synchronous")


def load_settings(app_dir: Path, environ: Mapping[str, str]) -> Settings:
    """The settings of the app in this directory. Without a host.json all have their defaults.

    `environ` holds the app settings. Raises `ConfigurationError` on the first thing that is wrong, naming the
    file, the key, the value, the rule and the fix.
    """
    path = app_dir / "host.json"
    return parse_settings(read_document(path), environ, source=str(path))


def parse_settings(document: Mapping[str, Any], environ: Mapping[str, str], *, source: str = "host.json") -> Settings:
    """The settings in the content of a host.json. Raises `ConfigurationError` as `load_settings` does."""
    _refuse_misplaced(document, source, expected="extensions.durableTask", prefix="")
    extensions = _object(document, "extensions", "extensions", source)
    _refuse_misplaced(extensions, source, expected="extensions.durableTask", prefix="extensions.")
    given = _object(extensions, "durableTask", "extensions.durableTask", source)

    defaults: dict[str, Any] = dict(_ON_CONSUMPTION) if environ.get("WEBSITE_SKU") == "Dynamic" else {}
    if given.get("hubName") is None:
        defaults["hubName"] = _default_hub_name(environ, source)
    reader = Reader(
        source, "extensions.durableTask", environ, defaults=defaults, unused=_WITHOUT_MEANING, renamed=_RENAMED
    )
    settings = reader.read(Settings, given)
    ignored = [*reader.ignored, *_foreign_storage_keys(settings, given.get("storageProvider") or {}, reader)]
    return dataclasses.replace(
        settings,
        route_prefix=_route_prefix(_object(extensions, "http", "extensions.http", source), source),
        ignored=tuple(sorted(ignored)),
    )


def _object(parent: Mapping[str, Any], name: str, path: str, source: str) -> dict[str, Any]:
    found = parent.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigurationError(f"{source}: {path} is {found!r}, but must be an object: {{ ... }}.")
    return found


def _refuse_misplaced(parent: Mapping[str, Any], source: str, *, expected: str, prefix: str) -> None:
    """A section that is nearly where we look would be ignored in silence."""
    own = expected.removeprefix(prefix)
    for name in parent:
        looks_like_ours = difflib.get_close_matches(name.casefold(), ["durabletask"], cutoff=0.85)
        if looks_like_ours and name != own:
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


def _foreign_storage_keys(settings: Settings, given: Mapping[str, Any], reader: Reader) -> list[str]:
    """Keys that are about another storage than the one chosen: harmless for SQLite, a mistake for Azure."""
    chosen = settings.storage_provider.type
    present = [name for name, value in given.items() if value is not None and name != "type"]
    if chosen == "sqlite":
        unused = {each.rpartition(".")[2] for each in reader.ignored}
        return [f"storageProvider.{name}" for name in present if name not in _SQLITE_KEYS and name not in unused]
    for name in present:
        if chosen == "AzureStorage" and name in _SQLITE_KEYS:
            raise reader.wrong(
                f"storageProvider.{name}",
                given[name],
                "not be there: it is for SQLite",
                'Remove it, or write "type": "sqlite".',
            )
    return []


def _route_prefix(http: Mapping[str, Any], source: str) -> str:
    prefix = http.get("routePrefix")
    if prefix is None:
        return "api"
    if not isinstance(prefix, str):
        raise ConfigurationError(
            f'{source}: extensions.http.routePrefix is {prefix!r}, but must be text. Write for example "api", or "".'
        )
    return prefix.strip("/")
