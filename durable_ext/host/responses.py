"""What an http function returned, as a response that can be sent."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from typing import Any

from aiohttp import web

from durable_ext.host.loader import is_http_response
from durable_ext.printable import printable

logger = logging.getLogger("durable_ext.host")

_OF_THE_CONNECTION = frozenset(
    (
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
"""Headers that say how an answer travels. That is the server's to know: a wrong one garbles all that follows."""

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_NO_VALUE = re.compile("[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


def to_response(function_name: str, result: Any) -> web.Response:
    """What the function returned, as a response: an `HttpResponse`, text, or None for 204."""
    if result is None:
        return web.Response(status=204)
    if isinstance(result, str):
        return web.Response(text=result)
    if not is_http_response(result):
        raise TypeError(
            f"http function {function_name} returned {type(result).__name__}: return func.HttpResponse, str or None "
            f"(for JSON: func.HttpResponse(json.dumps(value), mimetype='application/json'))"
        )
    response = web.Response(status=_status(function_name, result.status_code), body=result.get_body())
    response.headers.popall("Content-Type", None)
    for name, value in _headers(function_name, result.headers.items()):
        response.headers.add(name, value)  # a name may come more than once, Set-Cookie does
    if "Content-Type" not in response.headers:
        response.headers.extend(_headers(function_name, [("Content-Type", _content_type(result))]))
    return response


def _status(function_name: str, given: Any) -> int:
    try:
        status = int(given)
    except (TypeError, ValueError):
        status = 0
    if not 200 <= status <= 999:  # those below announce another answer, for which the client would wait
        raise ValueError(
            f"http function {function_name} answered with status {given!r}: a status is a number from 200 to 999"
        )
    return status


def _content_type(response: Any) -> str:
    mimetype, charset = str(response.mimetype), response.charset
    return f"{mimetype}; charset={charset}" if mimetype.startswith("text/") else mimetype


def _headers(function_name: str, given: Iterable[tuple[Any, Any]]) -> Iterator[tuple[str, str]]:
    """Those that can be sent. What is left out is logged, for the answer is right but for that."""
    for name, value in ((str(name), str(value)) for name, value in given):
        if name.casefold() in _OF_THE_CONNECTION:
            continue
        if _NAME.fullmatch(name) and not _NO_VALUE.search(value):
            yield name, value
            continue
        logger.warning(
            "http function %s: header %s is not sent: names are letters, digits and hyphens, and values have no "
            "control characters",
            function_name,
            printable(name),
        )
