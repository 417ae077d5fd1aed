from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from durable_ext.client.links import ManagementLinks, forwarded_origin, origin_of, with_origin
from durable_ext.client.orchestration import OrchestrationClient
from durable_ext.errors import ConfigurationError
from durable_ext.http.keys import HubKeys
from durable_ext.settings import HttpSettings, Settings
from durable_ext.storage.contract import Store
from durable_ext.taskhub import TaskHub

BASE = "https://app.example/runtime/webhooks/durabletask"
LINKS = ManagementLinks(hub_name="TestHub", base_url=BASE, code_for=lambda instance_id: f"key-{instance_id}")


def test_the_payload_has_the_documented_keys_in_order_and_the_documented_urls() -> None:
    suffix = "taskHub=TestHub&connection=Storage&code=key-abc"
    assert list(LINKS.payload("abc").items()) == [
        ("id", "abc"),
        ("statusQueryGetUri", f"{BASE}/instances/abc?{suffix}"),
        ("sendEventPostUri", f"{BASE}/instances/abc/raiseEvent/{{eventName}}?{suffix}"),
        ("terminatePostUri", f"{BASE}/instances/abc/terminate?reason={{text}}&{suffix}"),
        ("rewindPostUri", f"{BASE}/instances/abc/rewind?reason={{text}}&{suffix}"),
        ("purgeHistoryDeleteUri", f"{BASE}/instances/abc?{suffix}"),
        ("restartPostUri", f"{BASE}/instances/abc/restart?{suffix}"),
        ("suspendPostUri", f"{BASE}/instances/abc/suspend?reason={{text}}&{suffix}"),
        ("resumePostUri", f"{BASE}/instances/abc/resume?reason={{text}}&{suffix}"),
    ]


def test_without_keys_urls_carry_no_code() -> None:
    url = ManagementLinks(hub_name="H", base_url=BASE).payload("abc")["statusQueryGetUri"]
    assert url == f"{BASE}/instances/abc?taskHub=H&connection=Storage"


def test_ids_are_encoded_in_urls_but_not_in_the_id_field() -> None:
    payload = LINKS.payload("a b%&é")
    assert payload["id"] == "a b%&é"
    assert "/instances/a%20b%25%26%C3%A9?" in payload["statusQueryGetUri"]


def test_the_status_url_can_ask_for_500_on_failure() -> None:
    payload = LINKS.payload("abc", fail_with_500=True)
    assert payload["statusQueryGetUri"].endswith("&returnInternalServerErrorOnFailure=true")
    assert "returnInternal" not in payload["purgeHistoryDeleteUri"]


def test_without_a_management_api_there_are_no_urls_to_hand_out() -> None:
    with pytest.raises(ConfigurationError, match="Webhooks are not configured"):
        ManagementLinks(hub_name="H").payload("abc")


def test_an_origin_is_replaced_and_nothing_else() -> None:
    url = "http://localhost:7071/api/x?y=http://localhost:7071"
    assert origin_of(url) == "http://localhost:7071"
    assert with_origin(url, "https://a.b") == "https://a.b/api/x?y=http://localhost:7071"


@pytest.mark.parametrize(
    ("headers", "origin"),
    [
        ({"X-Forwarded-Host": "shop.example", "X-Forwarded-Proto": "https"}, "https://shop.example"),
        (
            {"x-forwarded-host": "shop.example:8443, inner", "x-forwarded-proto": "https, http"},
            "https://shop.example:8443",
        ),
        ({"X-Forwarded-Host": "[::1]:80", "X-Forwarded-Proto": "http"}, "http://[::1]:80"),
        ({"X-Forwarded-Host": "shop.example"}, None),
        ({"X-Forwarded-Proto": "https"}, None),
        ({"X-Forwarded-Host": "evil.example/path", "X-Forwarded-Proto": "https"}, None),
        ({"X-Forwarded-Host": "user@evil.example", "X-Forwarded-Proto": "https"}, None),
        ({"X-Forwarded-Host": "shop.example", "X-Forwarded-Proto": "javascript"}, None),
    ],
)
def test_a_forwarded_origin_needs_a_plausible_host_and_scheme(headers: dict[str, str], origin: str | None) -> None:
    assert forwarded_origin(headers) == origin


@dataclass
class Asked:
    url: str
    headers: dict[str, str] = field(default_factory=dict)


KEYS = HubKeys("TestHub", "a key that is long enough")
OF_THE_HUB = ManagementLinks(hub_name="TestHub", base_url=BASE, code_for=KEYS.code_for)


def make_client(store: Store, *, use_forwarded_host: bool = False) -> OrchestrationClient:
    settings = Settings(hub_name="TestHub", http_settings=HttpSettings(use_forwarded_host=use_forwarded_host))
    return TaskHub(store, settings=settings, base_url=BASE, keys=KEYS).client


FORWARDED = {"X-Forwarded-Host": "shop.example", "X-Forwarded-Proto": "https"}


async def test_response_links_use_the_origin_of_the_request(store: Store) -> None:
    client = make_client(store)
    assert client.create_http_management_payload("abc") == OF_THE_HUB.payload("abc")
    assert client.get_client_response_links(None, "abc") == OF_THE_HUB.payload("abc")
    assert client.get_client_response_links(Asked(""), "abc") == OF_THE_HUB.payload("abc")
    links = client.get_client_response_links(Asked("http://localhost:80/api/start?x=1", FORWARDED), "abc")
    assert links["id"] == "abc"
    assert links["restartPostUri"].startswith("http://localhost:80/runtime/webhooks/durabletask/instances/abc/restart?")


async def test_a_payload_for_a_request_has_the_origin_of_the_request(store: Store) -> None:
    client = make_client(store)
    request = Asked("http://localhost:80/api/start")
    assert client.create_http_management_payload(request, "abc") == client.get_client_response_links(request, "abc")
    assert client.create_http_management_payload(None, "abc") == OF_THE_HUB.payload("abc")
    assert client.create_http_management_payload(instance_id="abc") == OF_THE_HUB.payload("abc")
    misused: Any = client.create_http_management_payload
    for arguments in ((), (request,), ("abc", "def")):
        with pytest.raises(TypeError, match="an instance id, or a request and an instance id"):
            misused(*arguments)


async def test_a_proxy_is_believed_only_if_the_app_says_so(store: Store) -> None:
    client = make_client(store, use_forwarded_host=True)
    links = client.get_client_response_links(Asked("http://10.0.0.1/api/start", FORWARDED), "abc")
    assert links["statusQueryGetUri"].startswith("https://shop.example/runtime/")
    plain = client.get_client_response_links(Asked("http://10.0.0.1/api/start"), "abc")
    assert plain["statusQueryGetUri"].startswith("http://10.0.0.1/runtime/")
