"""Whom the local host answers: its own names, and no page of another site."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hosting import write_app
from raw_http import ask

from durable_ext.errors import ConfigurationError
from durable_ext.host.app import LocalHost
from durable_ext.host.door import Door, NotAdmittedError
from durable_ext.host.localsettings import read_local_settings

APP = """
@app.route(route="url")
def url(req: func.HttpRequest) -> str:
    return req.url

@app.orchestration_trigger(context_name="context")
def wait(context: df.DurableOrchestrationContext):
    return (yield context.wait_for_external_event("go"))
"""

JSON = "Content-Type: application/json"
MANAGEMENT = "/runtime/webhooks/durabletask"


def request(method: str, path: str, *headers: str, body: bytes = b"", host: str | None = "localhost") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *([] if host is None else [f"Host: {host}"]), *headers]
    return ("\r\n".join([*lines, f"Content-Length: {len(body)}"]) + "\r\n\r\n").encode("latin-1") + body


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[LocalHost]:
    settings = {"Host": {"AllowedHosts": "devbox, my.example.com"}}
    app = write_app(tmp_path, APP, local__settings=settings)
    async with LocalHost(app, port=0, storage="memory://") as running:
        yield running


@pytest.mark.parametrize(
    "name", ["localhost", "LocalHost:80", "localhost.", "127.0.0.1:7071", "[::1]:1", "devbox", "MY.example.com:8080"]
)
async def test_own_and_allowed_names_are_answered(host: LocalHost, name: str) -> None:
    answer = await ask(host.base_url, request("GET", "/api/url?a=b", host=name))
    assert (answer.status, answer.body.decode()) == (200, f"http://{name}/api/url?a=b")


@pytest.mark.parametrize(
    "path", ["/", "/api/url", "/api/none", f"{MANAGEMENT}/instances", "/api/durabletask/instances"]
)
@pytest.mark.parametrize("name", ["evil.example", "localhost.evil.example", "10.0.0.1:7071", "[2001:db8::1]"])
async def test_a_foreign_name_is_turned_away_and_told_how_to_be_allowed(host: LocalHost, name: str, path: str) -> None:
    answer = await ask(host.base_url, request("GET", path, host=name))
    assert answer.status == 403
    assert b'"AllowedHosts"' in answer.body


@pytest.mark.parametrize("path", ["/api/url", f"{MANAGEMENT}/instances/none"])
@pytest.mark.parametrize(
    "name",
    [
        None,
        "",
        "x:99999999",
        "localhost:65536",
        "localhost:a",
        "a b",
        "[::zz]",
        "[::1",
        "user@localhost",
        "l/o",
        "b\xfcro",
    ],
)
async def test_what_is_no_name_at_all_is_a_bad_request(host: LocalHost, name: str | None, path: str) -> None:
    assert (await ask(host.base_url, request("GET", path, host=name))).status == 400


async def test_two_names_are_a_bad_request(host: LocalHost) -> None:
    answer = await ask(host.base_url, request("GET", "/api/url", "Host: evil.example"))
    assert answer.status == 400


async def test_an_absolute_target_does_not_smuggle_a_name_into_links(host: LocalHost) -> None:
    path = f"http://evil.example{MANAGEMENT}/orchestrators/wait"
    answer = await ask(host.base_url, request("POST", path))
    assert b"evil" not in answer.body
    assert "evil" not in str(answer.headers)


@pytest.mark.parametrize(
    "sender",
    [
        "Origin: https://evil.example",
        "Origin: null",
        "Origin: http://localhost.evil.example",
        "Origin: chrome-extension://localhostess",
        "Origin: http://[",
        "Sec-Fetch-Site: cross-site",
    ],
)
async def test_a_page_of_another_site_can_neither_start_nor_end_nor_list(host: LocalHost, sender: str) -> None:
    await host.client.start_new("wait", "one")
    for method, path in [
        ("POST", "orchestrators/wait/two"),
        ("POST", "instances/one/terminate"),
        ("DELETE", "instances?createdTimeFrom=2000-01-01"),
        ("GET", "instances"),
    ]:
        answer = await ask(host.base_url, request(method, f"{MANAGEMENT}/{path}", sender))
        assert answer.status == 403
        assert '"AllowedHosts"' in json.loads(answer.body)["Message"]
    assert [each.instance_id for each in await host.client.get_status_all()] == ["one"]


@pytest.mark.parametrize(
    "headers",
    [
        ("Origin: http://localhost:3000",),
        ("Origin: http://127.0.0.1:5173", "Sec-Fetch-Site: cross-site"),
        ("Origin: https://my.example.com", "Sec-Fetch-Site: cross-site"),
        ("Sec-Fetch-Site: none",),
        ("Sec-Fetch-Site: same-origin",),
    ],
)
async def test_pages_of_this_machine_and_of_allowed_names_are_answered(
    host: LocalHost, headers: tuple[str, ...]
) -> None:
    assert (await ask(host.base_url, request("GET", f"{MANAGEMENT}/instances", *headers))).status == 200


async def test_functions_answer_other_sites_as_their_authors_like(host: LocalHost) -> None:
    answer = await ask(host.base_url, request("GET", "/api/url", "Origin: https://evil.example"))
    assert answer.status == 200


@pytest.mark.parametrize(
    "media_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "text/plain;application/json"],
)
async def test_what_a_form_can_send_starts_nothing(host: LocalHost, media_type: str) -> None:
    sent = request("POST", f"{MANAGEMENT}/orchestrators/wait", f"Content-Type: {media_type}", body=b'{"a": 1}')
    answer = await ask(host.base_url, sent)
    assert answer.status == 400
    assert "Content-Type: application/json" in json.loads(answer.body)["Message"]
    assert await host.client.get_status_all() == []


@pytest.mark.parametrize(
    "media_type", ["application/json", "Application/JSON; charset=utf-8", "application/cloudevents+json"]
)
async def test_json_starts_one(host: LocalHost, media_type: str) -> None:
    sent = request("POST", f"{MANAGEMENT}/orchestrators/wait", f"Content-Type: {media_type}", body=b'{"a": 1}')
    assert (await ask(host.base_url, sent)).status == 202


async def test_a_body_that_is_not_json_for_an_unknown_instance_is_still_a_404(host: LocalHost) -> None:
    path = f"{MANAGEMENT}/instances/none/raiseEvent/go"
    assert (await ask(host.base_url, request("POST", path, "Content-Type: text/plain", body=b"1"))).status == 404


def test_beyond_this_machine_any_name_is_fine_unless_some_are_allowed() -> None:
    assert Door("0.0.0.0", "0.0.0.0").authority(["anything.example:80"]) == "anything.example:80"
    strict = Door("0.0.0.0", "0.0.0.0", ["box"])
    assert strict.authority(["box"]) == "box"
    assert strict.authority(["localhost"]) == "localhost"
    with pytest.raises(NotAdmittedError, match="not as 'other'"):
        strict.authority(["other"])


def test_beyond_this_machine_pages_of_other_names_are_turned_away_too() -> None:
    door = Door("0.0.0.0", "0.0.0.0")
    door.check_sender("box.example:7071", {"Origin": "http://box.example"})
    for page in ("http://localhost:3000", "http://evil.example"):
        with pytest.raises(NotAdmittedError):
            door.check_sender("box.example:7071", {"Origin": page})


def test_a_star_allows_every_name_but_not_every_page() -> None:
    door = Door("127.0.0.1", "127.0.0.1", ["*"])
    assert door.authority(["tunnel.example"]) == "tunnel.example"
    door.check_sender("tunnel.example", {"Origin": "https://tunnel.example"})
    with pytest.raises(NotAdmittedError):
        door.check_sender("tunnel.example", {"Origin": "https://evil.example"})


def test_the_name_that_was_bound_to_is_an_own_one() -> None:
    assert Door("devbox", "127.0.1.1").authority(["devbox:7071"]) == "devbox:7071"


@pytest.mark.parametrize("wrong", [["devbox"], 7, "http://devbox"])
def test_allowed_hosts_that_are_no_list_of_names_are_refused(tmp_path: Path, wrong: object) -> None:
    app = write_app(tmp_path, "", local__settings={"Host": {"AllowedHosts": wrong}})
    with pytest.raises(ConfigurationError, match=r"Host\.AllowedHosts must be a text of names"):
        read_local_settings(app)
