"""HTTP requests and answers without a framework: adapters translate their own to and from these."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

JSON = {"Content-Type": "application/json; charset=utf-8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to the management API.

    `base_url` is scheme, authority and the prefix the API is mounted at, as the caller used them; `path` is what
    follows it, still percent-encoded and without the query. `query` holds decoded values, `raw_query` is what was sent.
    """

    method: str
    path: str
    base_url: str
    query: Mapping[str, Sequence[str]] = field(default_factory=dict)
    raw_query: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def url(self) -> str:
        """The URL that was asked for."""
        query = urlencode(self.query, doseq=True) if self.raw_query is None else self.raw_query
        return f"{self.base_url.rstrip('/')}/{self.path.strip('/')}" + (f"?{query}" if query else "")

    def header(self, name: str) -> str | None:
        """A header's value; names compare without case."""
        wanted = name.lower()
        return next((value for key, value in self.headers.items() if key.lower() == wanted), None)

    def values(self, name: str) -> list[str]:
        """Every value of a query parameter; names compare without case."""
        wanted = name.lower()
        return [value for key, values in self.query.items() if key.lower() == wanted for value in values]


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer of the management API."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


def json_response(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Response:
    """An answer with a JSON body."""
    return Response(status=status, headers={**JSON, **(headers or {})}, body=_to_bytes(value))


def json_bytes_response(status: int, body: bytes) -> Response:
    """An answer whose body is JSON already."""
    return Response(status=status, headers=JSON, body=body)


def _to_bytes(value: Any) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # a lone surrogate in stored text has no UTF-8 form, but it has a JSON one
        return json.dumps(value, separators=(",", ":")).encode()
