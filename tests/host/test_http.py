"""Http functions through real HTTP."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hosting import write_app

from durable_ext.host.app import LocalHost

APP = """
import asyncio
import builtins
import json


@app.route(route="echo/{first}/{*rest}", methods=["POST", "PUT"])
async def echo(req: func.HttpRequest) -> func.HttpResponse:
    told = {
        "method": req.method, "url": req.url, "params": dict(req.params), "route": dict(req.route_params),
        "header": req.headers["X-Custom"], "body": req.get_body().decode(),
    }
    return func.HttpResponse(json.dumps(told), status_code=201, mimetype="application/json", headers={"X-Back": "yes"})


@app.route(route="text")
def text(req: func.HttpRequest) -> str:
    return "grüezi"


@app.route()
def nothing(req: func.HttpRequest) -> None:
    return None


@app.route()
def wrong(req: func.HttpRequest):
    return {"a": 1}


@app.route()
def boom(req: func.HttpRequest) -> str:
    raise ValueError("no luck")


@app.route()
def leave(req: func.HttpRequest) -> str:
    raise SystemExit(3)


@app.route()
async def leave_async(req: func.HttpRequest) -> str:
    raise SystemExit(3)


@app.route(route="odd/{kind}")
def odd(req: func.HttpRequest) -> str:
    raise getattr(builtins, req.route_params["kind"])("odd")


@app.route(route="odd_async/{kind}")
async def odd_async(req: func.HttpRequest) -> str:
    raise getattr(builtins, req.route_params["kind"])("odd")


@app.route(route="cancelled")
async def cancelled(req: func.HttpRequest) -> str:
    raise asyncio.CancelledError


@app.function_name("Told")
@app.route(route="context")
def told(req: func.HttpRequest, context: func.Context) -> str:
    return f"{context.function_name} {len(context.invocation_id)} {context.function_directory}"


@app.route(route="box", binding_arg_name="res")
def box(req: func.HttpRequest, res: func.Out[func.HttpResponse]) -> None:
    res.set(func.HttpResponse("from the box", status_code=202))


@app.route(route="orders/{id:int}")
def by_number(req: func.HttpRequest) -> str:
    return "a number"


@app.route(route="orders/{name}")
def by_name(req: func.HttpRequest) -> str:
    return "a name"


@app.generic_trigger(arg_name="req", type="httpTrigger", route="generic", methods=["get"])
@app.generic_output_binding(arg_name="$return", type="http")
def generic(req: func.HttpRequest) -> str:
    return "generic"
"""


async def ask(host: LocalHost, path: str, method: str = "GET", **more: Any) -> tuple[int, str, Any]:
    async with aiohttp.ClientSession() as session, session.request(method, f"{host.base_url}{path}", **more) as answer:
        return answer.status, await answer.text(), answer.headers


@pytest.fixture
async def host(tmp_path: Path) -> Any:
    async with LocalHost(write_app(tmp_path, APP), port=0, storage="sqlite:///:memory:") as running:
        yield running


async def test_a_function_sees_the_whole_request(host: LocalHost) -> None:
    async with aiohttp.ClientSession() as session:
        url = f"{host.base_url}/API/echo/one%2Fa/two/three?q=1&q=2&r=a%20b"
        async with session.post(url, data=b"hello", headers={"X-Custom": "here"}) as answer:
            told = await answer.json()
            assert answer.status == 201
            assert answer.headers["X-Back"] == "yes"
            assert answer.headers["Content-Type"] == "application/json"
    assert told["method"] == "POST"
    assert told["url"].startswith(f"{host.base_url}/API/echo/")
    assert told["params"] == {"q": "1,2", "r": "a b"}
    assert told["route"] == {"first": "one%2Fa", "rest": "two/three"}
    assert told["header"] == "here"
    assert told["body"] == "hello"


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/api/text", 200, "grüezi"),
        ("/api/nothing", 204, ""),
        ("/api/orders/7", 200, "a number"),
        ("/api/orders/seven", 200, "a name"),
        ("/api/box", 202, "from the box"),
        ("/api/generic", 200, "generic"),
        ("/api/none-such", 404, ""),
        ("/api/echo/one/two", 404, ""),
        ("/elsewhere", 404, ""),
    ],
)
async def test_answers(host: LocalHost, path: str, status: int, text: str) -> None:
    assert (await ask(host, path))[:2] == (status, text)


async def test_a_function_that_asks_for_its_context_gets_it(host: LocalHost) -> None:
    _, text, _ = await ask(host, "/api/context")
    assert text == f"Told 36 {host.app_dir}"


async def test_an_exception_is_a_500_and_logs_the_users_traceback_only(
    host: LocalHost, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        status, text, _ = await ask(host, "/api/boom")
    assert (status, text) == (500, "Function boom failed; the host's log has the reason.")
    assert 'raise ValueError("no luck")' in caplog.text
    assert caplog.text.count('File "') == 1


@pytest.mark.parametrize("path", ["/api/leave", "/api/leave_async"])
async def test_sys_exit_in_a_function_does_not_end_the_host(
    host: LocalHost, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        assert (await ask(host, path))[0] == 500
    assert "called sys.exit(3)" in caplog.text
    assert (await ask(host, "/api/text"))[0] == 200


@pytest.mark.parametrize("kind", ["KeyboardInterrupt", "GeneratorExit", "BaseException"])
@pytest.mark.parametrize("function", ["odd", "odd_async"])
async def test_whatever_a_function_raises_is_an_error_of_its_call(
    host: LocalHost, function: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        assert (await ask(host, f"/api/{function}/{kind}"))[0] == 500
    assert f"function {function} raised {kind}: odd" in caplog.text
    assert (await ask(host, "/api/text"))[0] == 200


async def test_a_function_that_cancels_itself_is_answered(host: LocalHost) -> None:
    assert (await ask(host, "/api/cancelled"))[0] == 500


async def test_a_wrong_return_value_says_what_to_return(host: LocalHost, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert (await ask(host, "/api/wrong"))[0] == 500
    assert "http function wrong returned dict: return func.HttpResponse, str or None" in caplog.text


async def test_the_root_says_what_is_served(host: LocalHost) -> None:
    status, text, _ = await ask(host, "/")
    assert status == 200
    assert f"{host.base_url}/api/orders/{{id:int}}  by_number" in text


@pytest.mark.parametrize(
    "prefix", ["/api/durabletask", "/runtime/webhooks/durabletask", "/Runtime/WebHooks/DurableTask"]
)
async def test_the_management_api_is_served_at_both_places(host: LocalHost, prefix: str) -> None:
    assert (await ask(host, f"{prefix}/instances"))[:2] == (200, "[]")
    assert (await ask(host, f"{prefix}/instances/none"))[0] == 404
    assert (await ask(host, f"{prefix}/instances/none/history"))[0] == 404


async def test_an_empty_route_prefix(tmp_path: Path) -> None:
    app = write_app(tmp_path, APP, host={"version": "2.0", "extensions": {"http": {"routePrefix": ""}}})
    async with LocalHost(app, port=0, storage="sqlite:///:memory:") as host:
        assert (await ask(host, "/text"))[:2] == (200, "grüezi")
        assert (await ask(host, "/durabletask/instances"))[:2] == (200, "[]")


async def test_a_wsgi_app_is_served(tmp_path: Path) -> None:
    app = write_app(
        tmp_path,
        """
        def wsgi(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [environ["PATH_INFO"].encode()]

        app = func.WsgiFunctionApp(wsgi, http_auth_level=func.AuthLevel.ANONYMOUS, function_name="web")
        """,
        header="import azure.functions as func\n",
    )
    async with LocalHost(app, port=0, storage="sqlite:///:memory:") as host:
        assert (await ask(host, "/api/some/where"))[:2] == (200, "/api/some/where")
