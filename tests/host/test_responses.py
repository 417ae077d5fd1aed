"""What functions answer, when it cannot be sent as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hosting import write_app
from raw_http import Connection

from durable_ext.host.app import LocalHost

APP = """
@app.route(route="status/{code}")
def status(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("said", status_code=int(req.route_params["code"]))

@app.route(route="header", methods=["POST"])
def header(req: func.HttpRequest) -> func.HttpResponse:
    name, _, value = req.get_body().decode("utf-8", "surrogatepass").partition(":")
    return func.HttpResponse("said", headers={name: value, "X-Other": "kept"})

@app.route(route="type", methods=["POST"])
def type_(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("said", mimetype=req.get_body().decode())

@app.route(route="surrogate")
def surrogate(req: func.HttpRequest) -> str:
    return chr(0xD800)
"""


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[Connection]:
    async with LocalHost(write_app(tmp_path, APP), port=0, storage="memory://") as host:
        connection = await Connection.to(host.base_url)
        yield connection
        await connection.close()


def get(path: str) -> bytes:
    return f"GET /api/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def post(path: str, body: bytes) -> bytes:
    return f"POST /api/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def in_step(connection: Connection) -> None:
    """The connection is where it was: what came before has left nothing behind."""
    answer = await connection.ask(get("status/202"))
    assert answer is not None
    assert (answer.status, answer.body) == (202, b"said")


@pytest.mark.parametrize("code", [200, 204, 304, 418, 599, 999])
async def test_statuses_of_three_digits_are_sent(connection: Connection, code: int) -> None:
    answer = await connection.ask(get(f"status/{code}"))
    assert answer is not None
    assert answer.status == code
    await in_step(connection)


@pytest.mark.parametrize("code", [99, 1000, 101, 100, 0, -1, 10**30])
async def test_a_status_that_is_none_is_an_error_of_the_function(
    connection: Connection, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await connection.ask(get(f"status/{code}"))
    assert answer is not None
    assert (answer.status, answer.body) == (500, b"Function status failed; the host's log has the reason.")
    assert f"answered with status {code}: a status is a number from 200 to 999" in caplog.text
    await in_step(connection)


@pytest.mark.parametrize(
    "line",
    ["Content-Length:1", "content-length:4000", "Transfer-Encoding:chunked", "Connection:close", "Upgrade:h2c"],
)
async def test_headers_about_the_connection_are_the_servers(connection: Connection, line: str) -> None:
    answer = await connection.ask(post("header", line.encode()))
    assert answer is not None
    assert (answer.status, answer.body, answer.headers["x-other"]) == (200, b"said", "kept")
    assert answer.headers["content-length"] == "4"
    assert not {"transfer-encoding", "connection", "upgrade"} & set(answer.headers)
    await in_step(connection)


@pytest.mark.parametrize("line", ["X-A:b\x1b[2J", "X-A:\x00", "X A:b", ":b", "X\nA:b", "X-A:\ud800"])
async def test_a_header_that_cannot_be_sent_is_left_out_and_logged(
    connection: Connection, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await connection.ask(post("header", line.encode("utf-8", "surrogatepass")))
    assert answer is not None
    assert (answer.status, answer.body, answer.headers["x-other"]) == (200, b"said", "kept")
    assert not {"x-a", "set-cookie"} & set(answer.headers)
    assert "http function header: header " in caplog.text
    await in_step(connection)


async def test_a_content_type_that_cannot_be_sent_is_left_out(connection: Connection) -> None:
    answer = await connection.ask(post("type", b"text/html\r\nX-A: b"))
    assert answer is not None
    assert (answer.status, answer.body) == (200, b"said")
    assert "x-a" not in answer.headers
    await in_step(connection)


async def test_text_without_an_encoding_is_an_error_of_the_function(connection: Connection) -> None:
    answer = await connection.ask(get("surrogate"))
    assert answer is not None
    assert answer.status == 500
    await in_step(connection)
