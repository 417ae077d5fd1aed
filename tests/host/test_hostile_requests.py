"""Requests that nobody sends by accident: they get a 4xx, and harm nobody else."""

from __future__ import annotations

import gzip
import json
import logging
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hosting import write_app
from raw_http import Answer, Connection, ask

from durable_ext.host import server
from durable_ext.host.app import LocalHost

APP = """
@app.route(route="length", methods=["POST"])
async def length(req: func.HttpRequest) -> str:
    return f"{len(req.get_body())} {req.headers.get('Content-Encoding')}"

@app.route(route="num/{n:int}")
def num(req: func.HttpRequest) -> str:
    return req.route_params["n"]

@app.route(route="small/{n:range(1,9)}")
def small(req: func.HttpRequest) -> str:
    return req.route_params["n"]

@app.route(route="file/{*rest}")
def file(req: func.HttpRequest) -> str:
    return repr(dict(req.route_params))

@app.orchestration_trigger(context_name="context")
def wait(context: df.DurableOrchestrationContext):
    return (yield context.wait_for_external_event("go"))
"""

MANAGEMENT = "/runtime/webhooks/durabletask"


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[LocalHost]:
    async with LocalHost(write_app(tmp_path, APP), port=0, storage="memory://") as running:
        yield running


async def get(host: LocalHost, target: str) -> Answer:
    return await ask(host.base_url, f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode("latin-1"))


async def post(host: LocalHost, path: str, body: bytes, *headers: str) -> Answer:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return await ask(host.base_url, ("\r\n".join(lines) + "\r\n\r\n").encode() + body)


BODIES = {
    "gzip": gzip.compress(b"a" * 100_000_000, 1),
    "deflate": zlib.compress(b"a" * 1_000_000),
    "gzip garbage": b"\x1f\x8b" + b"garbage" * 100,
    "deflate garbage": b"\x00\xff" * 500,
}


@pytest.mark.parametrize("kind", BODIES)
async def test_bodies_reach_functions_as_they_were_sent(host: LocalHost, kind: str) -> None:
    encoding = kind.split()[0]
    answer = await post(host, "/api/length", BODIES[kind], f"Content-Encoding: {encoding}")
    assert (answer.status, answer.body.decode()) == (200, f"{len(BODIES[kind])} {encoding}")


@pytest.mark.parametrize("kind", BODIES)
async def test_the_management_api_takes_a_compressed_body_for_wrong_json(host: LocalHost, kind: str) -> None:
    headers = ("Content-Type: application/json", f"Content-Encoding: {kind.split()[0]}")
    assert (await post(host, f"{MANAGEMENT}/orchestrators/wait", BODIES[kind], *headers)).status == 400


@pytest.mark.parametrize("digits", ["1" * 5000, "-" + "9" * 5000, "99999999999", "١٢"])
async def test_a_number_no_constraint_allows_is_not_found(host: LocalHost, digits: str) -> None:
    encoded = "".join(f"%{byte:02X}" for byte in digits.encode()) if not digits.isascii() else digits
    for route in ("num", "small"):
        assert (await get(host, f"/api/{route}/{encoded}")).status == 404


async def test_leading_zeros_do_not_make_a_number_too_long(host: LocalHost) -> None:
    digits = "0" * 5000 + "7"
    for route in ("num", "small"):
        assert (await get(host, f"/api/{route}/{digits}")).body.decode() == digits


async def test_a_newline_in_a_path_is_an_ordinary_path(host: LocalHost) -> None:
    for path in ("/elsewhere%0A", "/api/none%0A", f"{MANAGEMENT}/instances/none%0A"):
        answer = await get(host, path)
        assert (answer.status, answer.body) == (404, b"")
    assert (await get(host, "/api/file/a%0Ab")).body.decode() == repr({"rest": "a\nb"})
    assert (await post(host, f"{MANAGEMENT}/orchestrators/wait/one%0A", b"")).status == 400


async def test_location_has_the_query_as_it_was_sent(host: LocalHost) -> None:
    await host.client.start_new("wait", "one")
    query = "x=a%20b+c&y=1&x=2&showInput=&z"
    answer = await get(host, f"{MANAGEMENT}/instances/one?{query}")
    assert answer.status == 202
    assert answer.headers["location"] == f"http://localhost{MANAGEMENT}/instances/one?{query}"


async def test_bytes_beyond_ascii_come_back_encoded(host: LocalHost) -> None:
    await host.client.start_new("wait", "zürich")
    answer = await get(host, f"{MANAGEMENT}/instances/z\xc3\xbcrich?q=\xff")
    assert answer.status in (202, 400)  # aiohttp's parser without C refuses them
    if answer.status == 202:
        assert answer.headers["location"].endswith("/instances/z%C3%BCrich?q=%FF")


async def test_a_body_that_breaks_off_inside_a_chunk_is_a_bad_request(host: LocalHost) -> None:
    for path in ("/api/length", f"{MANAGEMENT}/orchestrators/wait"):
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        assert (await ask(host.base_url, head + b"zz\r\nno chunk\r\n")).status == 400


async def test_a_request_nobody_can_read_is_a_bad_request_and_one_line_in_the_log(
    host: LocalHost, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "durable_ext.host"):
        assert (await ask(host.base_url, b"G\x1b[31mT / HTTP/9.9\r\n\r\n")).status == 400
        assert (await ask(host.base_url, b"GET / HTTP/1.1\r\nHost: localhost\r\n\x1b[31mX\r\n\r\n")).status == 400
    said = [each for each in caplog.records if each.name == "durable_ext.host"]
    assert [each.getMessage().partition(": ")[0] for each in said] == ["a request could not be read"] * 2
    assert all(each.exc_info is None and each.getMessage().isprintable() for each in said)


async def test_a_connection_without_a_whole_request_head_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_IDLE", 0.2)
    async with LocalHost(write_app(tmp_path, APP), port=0, storage="memory://") as host:
        for sent in (b"", b"GET / HTTP/1.1\r\nHost: local"):
            connection = await Connection.to(host.base_url)
            connection._writer.write(sent)
            assert await connection.closed()
            await connection.close()


async def test_the_log_has_paths_as_they_were_sent(host: LocalHost, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        await get(host, "/api/file/a%0A%1B%5B31mforged")
    assert "GET /api/file/a%0A%1B%5B31mforged: file answered 200" in caplog.text


async def test_a_name_that_cannot_be_a_port_is_a_bad_request_on_function_routes(host: LocalHost) -> None:
    answer = await ask(host.base_url, b"GET /api/num/1 HTTP/1.1\r\nHost: x:99999999\r\n\r\n")
    assert answer.status == 400


async def test_nothing_of_it_is_a_traceback_in_the_management_api(host: LocalHost) -> None:
    body = await post(host, f"{MANAGEMENT}/orchestrators/wait", b"[" * 100_000, "Content-Type: application/json")
    assert body.status == 400
    assert json.loads(body.body)["Message"] == "Invalid JSON content"
