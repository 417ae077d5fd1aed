"""Recorded answers of the live extension's management API: read, replay against a host, compare.

What the live extension and ours word differently by nature is masked on both sides: times, random ids, the origin,
keys, texts of failures, and what an exception's long form says beside its `Message`.
"""

from __future__ import annotations

import http.client
import json
import re
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

PATIENCE = 10.0
"""Seconds that an instance gets to come to where it was when the live extension was asked."""

Exchange = dict[str, Any]

_TIMES = {"createdTime": "{s}", "lastUpdatedTime": "{s}", "Timestamp": "{f}", "ScheduledTime": "{f}", "FireAt": "{f}"}
_NOT_SENT = {"Correlation", "ParentTraceContext", "ScheduledStartTime", "Generation", "GenerateNewTrace"}
_NOT_SENT |= {"ClientSpanId", "Tags", "rewindPostUri"}
_LONG_TEXT = 10_000
_PAYLOAD = "(management payload)"
_LONG_FORM = {"ExceptionMessage", "ExceptionType", "StackTrace"}


@dataclass(frozen=True)
class Given:
    """A host's answer, as far as it is compared."""

    status: int
    location: str | None
    retry_after: str | None
    content_type: str | None
    body: str


def read_exchanges(path: Path) -> dict[str, list[Exchange]]:
    """The exchanges by section, in their order."""
    sections: dict[str, list[Exchange]] = {}
    for exchange in json.loads(path.read_text(encoding="utf-8")):
        sections.setdefault(exchange["name"].partition("/")[0], []).append(exchange)
    return sections


class Caller:
    """Sends requests exactly as they were recorded, which `urllib` would tidy up."""

    def __init__(self, url: str, prefix: str) -> None:
        self.root, self._prefix = url, prefix
        self._address = urlsplit(url).netloc

    @cached_property
    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._address, timeout=60)

    def send(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> tuple[Any, bytes]:
        lowered = {name.lower() for name in headers}
        self.connection.putrequest(
            method, f"/{self._prefix}{path}", skip_host="host" in lowered, skip_accept_encoding=True
        )
        for name, value in headers.items():
            self.connection.putheader(name, value)
        if body is not None and "content-length" not in lowered:
            self.connection.putheader("Content-Length", str(len(body)))
        self.connection.endheaders(body)
        answer = self.connection.getresponse()
        return answer, answer.read()

    def ask(self, request: dict[str, Any], token: str | None = None) -> tuple[Given, str | None]:
        """The masked answer to a recorded request, and the token of the next page."""
        headers = {name: (token or "") if value == "{token}" else value for name, value in _headers(request).items()}
        answer, body = self.send(request["method"], _unfolded(request["path"]), headers, _body(request))
        sent_to = next((value for name, value in headers.items() if name.lower() == "host"), None)
        origin = f"http://{sent_to}" if sent_to else self.root
        given = Given(
            status=answer.status,
            location=_mask_text(answer.getheader("Location"), origin),
            retry_after=answer.getheader("Retry-After"),
            content_type=answer.getheader("Content-Type"),
            body=_mask_body(body.decode("utf-8", "replace"), origin),
        )
        return given, answer.getheader("x-ms-continuation-token")


def recorded(exchange: Exchange) -> Given:
    """What the live extension answered, masked the same way."""
    headers = exchange.get("headers", {})
    sent_to = exchange["request"].get("headers", {}).get("Host")
    origin = f"http://{sent_to}" if sent_to else "{root}"
    kind = headers.get("content-type")
    location = headers.get("location")
    if "payload" in exchange:
        location = location.replace("+", "%20")  # there a blank in an id, which we write in the other way
        body = json.dumps([_unfolded(each).replace("+", "%20") for each in exchange["payload"]])
    elif "text" in exchange:
        body = _unfolded(exchange["text"])
    else:
        body = json.dumps(exchange["body"]) if "body" in exchange else ""
    return Given(
        status=exchange["status"],
        location=_mask_text(location and _unfolded(location), origin),
        retry_after=headers.get("retry-after"),
        content_type="application/json; charset=utf-8" if kind == "json" else kind,
        body=_mask_body(body, origin),
    )


def differs(caller: Caller, exchange: Exchange, token: str | None, *, patient: bool) -> tuple[str | None, str | None]:
    """How our answer differs from the recorded one, if it does, and the token of the next page.

    A status is asked for until it is as recorded: nobody says how long an instance takes.
    """
    wanted = recorded(exchange)
    until = time.monotonic() + (PATIENCE if patient and exchange["request"]["method"] == "GET" else 0)
    while True:
        given, following = caller.ask(exchange["request"], token)
        if wanted.body == _PAYLOAD and given.location is not None:
            given = replace(given, location=None, body=_PAYLOAD)
        if given == wanted:
            return None, following
        if time.monotonic() > until:
            return f"{exchange['name']}\n  live: {wanted}\n  ours: {given}", following
        time.sleep(0.05)


def _headers(request: dict[str, Any]) -> dict[str, str]:
    return dict(request.get("headers", {}))


def _body(request: dict[str, Any]) -> bytes | None:
    body = request.get("body")
    if body is None:
        return None
    if body.startswith("hex:"):
        return bytes.fromhex(body[4:])
    return _unfolded(body).encode()


def _unfolded(text: str) -> str:
    """A recording writes `(60 x [)` for sixty brackets."""
    return re.sub(r"\((\d+) x (.)\)", lambda found: found[2] * int(found[1]), text)


def _mask_text(text: str | None, origin: str) -> str | None:
    if text is None:
        return None
    text = re.sub(r"&code=[^&]*", "", text.replace(origin, "{root}"))
    return unquote(re.sub(r"[0-9a-f]{32}", "{id}", text))


def _mask_body(body: str, origin: str) -> str:
    try:
        value = json.loads(body)
    except ValueError:
        return body
    if isinstance(value, str) and len(value) > _LONG_TEXT:
        return f"({len(body)} characters)"
    if isinstance(value, list) and len(value) == 2 and "/instances/" in str(value[1]):
        return json.dumps([_mask_text(each, origin) for each in value])  # a recorded payload: id and status URL
    if isinstance(value, dict) and "statusQueryGetUri" in value:
        return json.dumps([_mask_text(value[key], origin) for key in ("id", "statusQueryGetUri")])
    return json.dumps(_mask(value))


def _mask(value: Any) -> Any:
    if isinstance(value, list):
        return [_mask(each) for each in value if not _is_scheduled(each)]
    if isinstance(value, str) and len(value) > _LONG_TEXT:
        return f"({len(value)} x)"
    if not isinstance(value, dict):
        return value
    if "Message" in value and value.keys() & _LONG_FORM:
        return {"Message": value["Message"], "long": True}
    masked = {key: _TIMES[key] if key in _TIMES else _mask(each) for key, each in value.items() if key not in _NOT_SENT}
    for key in ("Details", "FailureDetails"):
        if key in masked:
            masked[key] = "{failure}"
    if masked.get("EventType", "").endswith("Failed"):
        masked["Reason"] = "{failure}"
    if masked.get("OrchestrationStatus") == "Failed" and "Result" in masked:
        masked["Result"] = "{failure}"
    if masked.get("runtimeStatus") == "Failed":
        masked["output"] = "{failure}"
    return masked


def _is_scheduled(value: Any) -> bool:
    """Whether it is one of the recorded instances that were to begin an hour later: we have no such starts."""
    return isinstance(value, dict) and str(value.get("instanceId")).endswith("-pending")
