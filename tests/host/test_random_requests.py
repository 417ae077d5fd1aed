"""Random requests over kept-alive connections: none is answered with a 5xx, none hangs, and the host goes on."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from hosting import write_app
from raw_http import Answer, Connection, ask

from durable_ext.host.app import LocalHost

SEED = 20_260
REQUESTS = 40_000
SECONDS = 20.0
"""Whichever comes first."""

CONNECTIONS = 8

APP = """
@app.route(route="num/{n:int}")
async def num(req: func.HttpRequest) -> str:
    return req.route_params["n"]

@app.route(route="any/{first:maxlength(20)}/{*rest}")
async def any_(req: func.HttpRequest) -> func.HttpResponse:
    told = f"{req.method} {req.url} {dict(req.params)} {dict(req.headers)} {len(req.get_body())}"
    return func.HttpResponse(told.encode("utf-8", "replace"), mimetype="text/plain")

@app.route(route="when/{t:datetime}/{g:guid}/{d:decimal}")
async def when(req: func.HttpRequest) -> None: ...

@app.route(route="links/{id}")
@app.durable_client_input(client_name="client")
async def links(req: func.HttpRequest, client) -> func.HttpResponse:
    return client.create_check_status_response(req, req.route_params["id"])

@app.orchestration_trigger(context_name="context")
async def wait(context: df.DurableOrchestrationContext):
    return await context.wait_for_external_event("go")
"""

WORDS = [
    *(
        "num",
        "any",
        "when",
        "links",
        "orchestrators",
        "wait",
        "instances",
        "deadletters",
        "history",
        "raiseEvent",
        "go",
    ),
    *("terminate", "suspend", "resume", "rewind", "restart", "one", "two", "7", "1.5", "2024-01-01", "", "a" * 300),
    *("..", "%", "%0", "%00", "%0A", "%0d%0a", "%1B%5B31m", "%2F", "%2e%2e", "%C3%BC", "%FF", "%ud800", "%40e%40k"),
    *("{id}", "@name@key", "1" * 25, "7" * 5000, "-1", "+1", "1e999", "0001-01-01T00:00:00+14:00", "nan", "\\", ";"),
    *("00000000-0000-0000-0000-000000000000", "%F0%9F%99%82", "%20", "TestHubName"),
]
ODD_WORDS = ["\xff", "\x00", "\x1b", " ", "\t", "?", "#", "//", "*", "."]
PATHS = [
    *("orchestrators/wait", "orchestrators/wait/one", "orchestrators/wait/{}", "orchestrators/{}", "instances/one"),
    *("instances", "instances/{}", "instances/one/{}", "instances/{}/{}", "instances/one/raiseEvent/{}", "deadletters"),
    *("instances/one/history", "instances/one/terminate", "instances/one/restart", "{}", "{}/{}", "{}/{}/{}/{}"),
    *("num/{}", "any/{}", "any/{}/{}", "when/{}/{}/{}", "links/{}"),
    "when/2024-01-01/00000000-0000-0000-0000-000000000000/1.5",
]
PREFIXES = ["/api/", "/runtime/webhooks/durabletask/", "/api/durabletask/", "/", "", "http://localhost/", "//", "*"]
NAMES = [
    *("taskHub", "showInput", "showHistory", "showHistoryOutput", "runtimeStatus", "createdTimeFrom", "createdTimeTo"),
    *("top", "instanceIdPrefix", "reason", "version", "code", "timeout", "returnInternalServerErrorOnFailure", "a"),
]
VALUES = [
    *(
        "",
        "true",
        "false",
        "0",
        "-1",
        "1",
        "9" * 5000,
        "1e400",
        "nan",
        "Running",
        "Running,Failed",
        "99",
        "null",
        "%00",
    ),
    *(
        "2024-01-01",
        "2024-01-01T00:00:00+14:00",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "%FF",
        "\xe9",
    ),
    *("TestHubName", "%0A", "%uD800", "&&", "=", "x" * 200, "2024-13-45", "%F0%9F%99%82", "/", "'", "0x10"),
]
HOSTS = [
    "localhost",
    "localhost:7071",
    "127.0.0.1",
    "[::1]:80",
    "evil.example",
    "x:99999999",
    "",
    "\xff",
    "[::zz]",
    "a b",
]
HEADERS = [
    *("Origin: null", "Origin: http://localhost:3000", "Origin: http://[", "Sec-Fetch-Site: cross-site"),
    *(
        "Content-Encoding: gzip",
        "Content-Encoding: deflate",
        "Content-Encoding: br",
        "Expect: 100-continue",
        "Expect: x",
    ),
    *("Content-Type: application/json", "Content-Type: text/plain", "Content-Type: \xff;;=", "Content-Type:"),
    *(
        "x-ms-continuation-token: \xff",
        "x-ms-continuation-token: AAAA",
        "x-ms-continuation-token: {}",
        "Range: bytes=0-",
    ),
    *("x-functions-key: \x7f", "Upgrade: websocket", "Connection: Upgrade", "Connection: close", "Cookie: a=\xff; b"),
    *("Content-Length: -1", "Content-Length: 0", "Transfer-Encoding: gzip", "Bad Name: x", ": x", "X-A: \x00", "X-A"),
    *("X-Forwarded-Host: evil.example", "X-Forwarded-Proto: \xff", "Accept: text/html", "X-Long: " + "a" * 9000),
]
BODIES = [
    *(b"", b"", b"{}", b"null", b"1", b'"x"', b"[", b"NaN", b"\xff\xfe", b"\x1f\x8bgarbage", b"[" * 5000, b"9" * 5000),
    *(b'{"a":"\\ud800"}', b'{"a":1e999}', b'"\\u0000"', b"\xef\xbb\xbf{}", b'{"__class__":"X","__module__":"os"}'),
]
METHODS = ["GET"] * 60 + ["POST"] * 60 + ["DELETE"] * 5
METHODS += ["HEAD", "PUT", "OPTIONS", "PATCH", "TRACE", "get", "X\x1b", "", "CONNECT"]


def random_request(chance: random.Random) -> bytes:
    """Mostly well-formed, so that it gets past the parser; every part may be odd."""
    words = WORDS + ODD_WORDS if chance.random() < 0.1 else WORDS
    path = chance.choice(PREFIXES[: chance.choice([3] * 9 + [8])])
    path += "/".join(each if each != "{}" else chance.choice(words) for each in chance.choice(PATHS).split("/"))
    if chance.random() < 0.4:
        path += "?" + "&".join(f"{chance.choice(NAMES)}={chance.choice(VALUES)}" for _ in range(chance.randrange(1, 4)))
    body = chance.choice(BODIES) if chance.random() < 0.4 else b""
    host = "localhost" if chance.random() < 0.9 else chance.choice(HOSTS)
    lines = [f"{chance.choice(METHODS)} {path} HTTP/1.{chance.choice('1111110')}", f"Host: {host}"]
    if chance.random() < 0.2:
        lines += chance.choices(HEADERS, k=chance.randrange(1, 4))
    if body and chance.random() < 0.2:
        size = chance.choice([b"%x" % len(body)] * 3 + [b"zz", b"-1"])
        return _head([*lines, "Transfer-Encoding: chunked"]) + size + b"\r\n" + body + b"\r\n0\r\n\r\n"
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return _head(lines) + body


def _head(lines: list[str]) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")


def _is_kept(request: bytes, answer: Answer | None) -> bool:
    """Whether the next request may go over the same connection, and its answer will be the next to come."""
    if answer is None or b" HTTP/1.0" in request or answer.headers.get("connection") == "close":
        return False
    return answer.status not in (100, 400)  # the answer proper follows; the rest may be taken for a request


class Sender:
    """Sends requests one after the other, over one connection for as long as it is kept."""

    def __init__(self, base_url: str, chance: random.Random, until: float) -> None:
        self._base_url, self._chance, self._until = base_url, chance, until
        self.answers: Counter[int | None] = Counter()
        self.wrong: list[tuple[bytes, object]] = []

    async def send(self, count: int) -> None:
        connection = await Connection.to(self._base_url)
        for _ in range(count):
            if time.monotonic() > self._until:
                break
            request = random_request(self._chance)
            answer = await self._answer(connection, request)
            if not _is_kept(request, answer):
                await connection.close()
                connection = await Connection.to(self._base_url)
        await connection.close()

    async def _answer(self, connection: Connection, request: bytes) -> Answer | None:
        try:
            answer = await connection.ask(request)
        except TimeoutError:
            self.wrong.append((request, "no answer"))
            return None
        self.answers[answer and answer.status] += 1
        if answer is None or answer.status >= 500:
            self.wrong.append((request, answer))
        return answer


async def test_no_request_makes_the_host_fail_or_hang(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with LocalHost(write_app(tmp_path, APP), port=0, storage="memory://") as host:
        until = time.monotonic() + SECONDS
        senders = [Sender(host.base_url, random.Random(SEED + each), until) for each in range(CONNECTIONS)]
        await asyncio.gather(*(each.send(REQUESTS // CONNECTIONS) for each in senders))
        answer = await ask(host.base_url, b"GET /api/num/7 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert [wrong for each in senders for wrong in each.wrong] == []
    assert (answer.status, answer.body) == (200, b"7")
    answers = sum((each.answers for each in senders), Counter[int | None]())
    assert {200, 202, 204, 400, 403, 404} <= set(answers), answers  # it got everywhere
    assert [each for each in caplog.records if each.exc_info is not None] == []
