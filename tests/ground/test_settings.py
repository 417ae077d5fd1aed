"""host.json: what is read, and that nothing wrong in it passes in silence."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_ext.errors import ConfigurationError
from durable_ext.host_json import duration
from durable_ext.settings import Settings, load_settings, parse_settings


def parse(durable_task: dict[str, Any], environ: dict[str, str] | None = None) -> Settings:
    return parse_settings({"version": "2.0", "extensions": {"durableTask": durable_task}}, environ or {})


def test_without_a_host_json_everything_has_its_documented_default(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, {})
    per_core = 10 * (os.cpu_count() or 1)
    assert settings == Settings()
    assert settings.hub_name == "TestHubName"
    assert settings.default_version is None
    assert settings.max_concurrent_activity_functions == per_core
    assert settings.max_concurrent_orchestrator_functions == per_core
    assert settings.max_orchestration_actions == 100_000
    assert settings.extended_session_idle_timeout_in_seconds == 30
    assert settings.overridable_existing_instance_states == "NonRunningStates"
    assert settings.store_inputs_in_orchestration_history is False
    assert settings.storage_provider.type is None
    assert settings.storage_provider.synchronous == "full"
    assert settings.route_prefix == "api"
    assert settings.ignored == ()


def test_a_file_is_read_with_its_sections(tmp_path: Path) -> None:
    content = {
        "version": "2.0",
        "logging": {"anything": ["goes"]},
        "extensions": {
            "http": {"routePrefix": "/v1/", "hsts": {}},
            "durableTask": {
                "hubName": "%HUB%",
                "defaultVersion": "1.2",
                "maxConcurrentActivityFunctions": 3,
                "storageProvider": {"type": "SQLite", "path": "%HOME%/x.db", "synchronous": "normal"},
                "httpSettings": {"useForwardedHost": True},
            },
        },
    }
    (tmp_path / "host.json").write_text("\ufeff" + json.dumps(content), encoding="utf-8")
    settings = load_settings(tmp_path, {"HUB": "Orders", "HOME": "/data"})
    assert settings.hub_name == "Orders"
    assert settings.default_version == "1.2"
    assert settings.max_concurrent_activity_functions == 3
    assert settings.storage_provider.type == "sqlite"
    assert settings.storage_provider.path == "/data/x.db"
    assert settings.storage_provider.synchronous == "normal"
    assert settings.http_settings.use_forwarded_host is True
    assert settings.route_prefix == "v1"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("00:00:10", timedelta(seconds=10)),
        ("1.02:03:04", timedelta(days=1, hours=2, minutes=3, seconds=4)),
        ("0:00:00.5", timedelta(milliseconds=500)),
        ("00:00:00.1234567", timedelta(microseconds=123456)),
    ],
)
def test_time_spans(written: str, meant: timedelta) -> None:
    assert duration().read(written) == meant


@pytest.mark.parametrize(
    "written", ["10", "00:10", "00:00:60", "24:00:00", "00:00:00", "-00:00:10", 10, "", "1:00:00:10"]
)
def test_odd_time_spans_are_refused_with_the_right_form(written: Any) -> None:
    with pytest.raises(ConfigurationError, match=r'a time span "hh:mm:ss" or "d.hh:mm:ss"'):
        parse({"storageProvider": {"maxQueuePollingInterval": written}})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"hubName": "a-b"}, 'hubName is "a-b", but must be text of 3 to 45 characters'),
        ({"hubName": "ab"}, "hubName"),
        ({"hubName": "x" * 46}, "hubName"),
        ({"hubName": "1abc"}, "starts with a letter"),
        ({"hubName": 5}, "hubName is 5"),
        ({"hubName": "%NOPE%"}, "Set NOPE, in local.settings.json or Azure"),
        ({"maxConcurrentActivityFunctions": "5"}, 'is "5", but must be a whole number of at least 1, without quotes'),
        ({"maxConcurrentActivityFunctions": 0}, "a whole number of at least 1"),
        ({"maxConcurrentActivityFunctions": True}, "is true, but must be a whole number"),
        ({"maxConcurrentActivityFunctions": 2.5}, "is 2.5"),
        ({"extendedSessionsEnabled": "true"}, "true or false, without quotes"),
        ({"overridableExistingInstanceStates": "All"}, 'one of "NonRunningStates", "AnyState"'),
        ({"storageProvider": {"partitionCount": 17}}, "storageProvider.partitionCount is 17, but must be .* 1 to 16"),
        ({"storageProvider": {"partitionCount": 0}}, "from 1 to 16"),
        ({"storageProvider": {"controlQueueVisibilityTimeout": "00:00:59"}}, "from 00:01:00 to 01:00:00"),
        ({"storageProvider": {"type": "postgres"}}, 'one of "AzureStorage", "sqlite", "azureManaged"'),
        ({"storageProvider": {"synchronous": "off"}}, 'one of "full", "normal"'),
        ({"storageProvider": "sqlite"}, "must be an object"),
        ({"storageProvider": {"type": "AzureStorage", "path": "x"}}, 'it is for SQLite.*"type": "sqlite"'),
        ({"useAppLease": 1}, "useAppLease is 1, but must be true or false"),
        ({"notifications": {"eventGrid": {"publishEventTypes": ["Begun"]}}}, "publishEventTypes"),
        ({"notifications": 3}, "notifications is 3, but must be an object"),
    ],
)
def test_a_wrong_value_names_file_key_value_and_rule(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        parse(content)
    assert str(caught.value).startswith("host.json: extensions.durableTask.")


@pytest.mark.parametrize(
    ("content", "fix"),
    [
        ({"partitionCount": 4}, "belongs at extensions.durableTask.storageProvider.partitionCount"),
        ({"traceInputsAndOutputs": True}, "belongs at extensions.durableTask.tracing.traceInputsAndOutputs"),
        ({"storageProvider": {"hubName": "abc"}}, "belongs at extensions.durableTask.hubName"),
        ({"storageProvider": {"HUBNAME": "abc"}}, "belongs at extensions.durableTask.hubName"),
        ({"eventGrid": {}}, "belongs at extensions.durableTask.notifications.eventGrid"),
        ({"maxConcurrentActivityFunction": 4}, "Did you mean .*maxConcurrentActivityFunctions?"),
        ({"storageProvider": {"partitionsCount": 4}}, "Did you mean .*storageProvider.partitionCount?"),
        ({"logReplayEvents": True}, "now called extensions.durableTask.tracing.traceReplayEvents"),
        ({"azureStorageConnectionStringName": "X"}, "now called .*storageProvider.connectionName"),
        ({"storageProvider.path": "x.db"}, "belongs at extensions.durableTask.storageProvider.path"),
        ({"storageProvider": {"tracing": {}}}, "belongs at extensions.durableTask.tracing"),
        ({"qqq": None}, "Remove it"),
    ],
)
def test_an_unknown_or_misplaced_key_is_refused_with_the_way_out(content: dict[str, Any], fix: str) -> None:
    with pytest.raises(ConfigurationError, match=fix):
        parse(content)


@pytest.mark.parametrize(
    "document",
    [
        {"durableTask": {}},
        {"durabletask": {}},
        {"extensions": {"durableTasks": {}}},
        {"hubName": "Abc"},
        {"extensions": {"maxConcurrentActivityFunctions": 3}},
    ],
)
def test_a_section_in_the_wrong_place_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"belong at extensions\.durableTask"):
        parse_settings(document, {})


@pytest.mark.parametrize(
    "document",
    [
        {"extensions": []},
        {"extensions": {"durableTask": "x"}},
        {"extensions": {"http": 3}},
        {"extensions": {"http": {"routePrefix": 3}}},
    ],
)
def test_sections_of_the_wrong_type_are_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="but must be"):
        parse_settings(document, {})


def test_null_is_as_good_as_absent() -> None:
    document = {"extensions": {"durableTask": {"hubName": None, "tracing": None, "useAppLease": None}, "http": None}}
    assert parse_settings(document, {}) == Settings()
    assert parse({"storageProvider": None, "notifications": None}) == Settings()


def test_keys_without_effect_are_taken_and_listed() -> None:
    settings = parse(
        {
            "useAppLease": True,
            "appLeaseOptions": {"renewInterval": "00:00:25", "leaseInterval": None},
            "versionMatchStrategy": "strict",
            "tracing": {"version": "V2", "distributedTracingEnabled": True},
            "notifications": {"eventGrid": {"topicEndpoint": "https://x", "publishRetryHttpStatus": [400, 503]}},
        }
    )
    assert settings.ignored == (
        "appLeaseOptions.renewInterval",
        "notifications.eventGrid.publishRetryHttpStatus",
        "notifications.eventGrid.topicEndpoint",
        "tracing.distributedTracingEnabled",
        "tracing.version",
        "useAppLease",
        "versionMatchStrategy",
    )


@pytest.mark.parametrize("provider", [{}, {"type": "sqlite", "path": "x"}, {"type": "AzureStorage"}])
def test_keys_of_azure_storage_are_listed_wherever_state_lives(provider: dict[str, Any]) -> None:
    storage = {"partitionCount": 8, "useTablePartitionManagement": True, "connectionStringName": "Mine"}
    assert parse({"storageProvider": {**provider, **storage}}).ignored == (
        "storageProvider.connectionStringName",
        "storageProvider.partitionCount",
        "storageProvider.useTablePartitionManagement",
    )


@pytest.mark.parametrize(
    ("site", "hub"),
    [
        ("my-orders", "myorders"),
        ("7days", "t7days"),
        ("ab", "abHub"),
        ("--", "DefaultTaskHub"),
        ("x" * 60, "x" * 45),
    ],
)
def test_the_default_hub_in_azure_is_the_name_of_the_app(site: str, hub: str) -> None:
    assert parse({}, {"WEBSITE_SITE_NAME": site}).hub_name == hub


def test_a_slot_needs_a_hub_of_its_own() -> None:
    slot = {"WEBSITE_SITE_NAME": "orders", "WEBSITE_SLOT_NAME": "staging"}
    with pytest.raises(ConfigurationError, match="hubName is not set, but must be in the slot 'staging'"):
        parse({}, slot)
    assert parse({"hubName": "OrdersStaging"}, slot).hub_name == "OrdersStaging"
    assert parse({}, {**slot, "WEBSITE_SLOT_NAME": "Production"}).hub_name == "orders"


def test_consumption_workers_have_smaller_defaults() -> None:
    settings = parse({}, {"WEBSITE_SKU": "Dynamic"})
    assert settings.max_concurrent_activity_functions == 10
    assert settings.max_concurrent_orchestrator_functions == 5
    given = parse({"maxConcurrentActivityFunctions": 7}, {"WEBSITE_SKU": "Dynamic"})
    assert given.max_concurrent_activity_functions == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ('{"version": "2.0",\n"a" 1}', "not valid JSON: line 2 Unexpected"),
        pytest.param("[" * 100_000, "nested too deeply", id="deep"),
        ("[]", "must be an object"),
        ('{"extensions": {}, "extensions": {}}', '"extensions" is given twice'),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "host.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=message) as caught:
        load_settings(tmp_path, {})
    assert str(tmp_path / "host.json") in str(caught.value)


def test_keys_are_taken_in_any_case() -> None:
    document = {"Extensions": {"durabletask": {"HubName": "Abc", "STORAGEPROVIDER": {"Type": "sqlite"}}}}
    document["Extensions"]["HTTP"] = {"RoutePrefix": "v1"}
    settings = parse_settings(document, {})
    assert (settings.hub_name, settings.storage_provider.type, settings.route_prefix) == ("Abc", "sqlite", "v1")


@pytest.mark.parametrize("provider", ["azureManaged", "mssql", "Netherite"])
def test_another_provider_and_its_settings_stand_in_nobodys_way(provider: str) -> None:
    settings = parse({"storageProvider": {"Type": provider, "schemaName": "dt", "connectionStringName": "X"}})
    assert settings.storage_provider.type is not None
    assert settings.storage_provider.type.casefold() == provider.casefold()


@pytest.mark.parametrize("version", ["1.0", 2.0, "2"])
def test_a_host_json_of_another_version_is_refused(version: Any) -> None:
    with pytest.raises(ConfigurationError, match=r'must be "2\.0"'):
        parse_settings({"version": version}, {})


def test_a_key_in_two_cases_is_refused() -> None:
    with pytest.raises(ConfigurationError, match='hubName is "def", but must be given once'):
        parse({"hubName": "abc", "HUBNAME": "def"})


def test_comments_and_trailing_commas_are_taken(tmp_path: Path) -> None:
    text = '{"version": "2.0", // why\n"extensions": {/* ours */ "durableTask": {"hubName": "Abc",},},}'
    (tmp_path / "host.json").write_text(text, encoding="utf-8")
    assert load_settings(tmp_path, {}).hub_name == "Abc"


def test_a_file_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "host.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ConfigurationError, match="Save it as UTF-8"):
        load_settings(tmp_path, {})
