"""What a request asks for: path and query as they were sent, in ASCII."""

from __future__ import annotations

import string
from dataclasses import dataclass
from urllib.parse import parse_qs, quote

from yarl import URL

_AS_SENT = string.punctuation


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A path and a query, still percent-encoded. `query` is the query decoded."""

    path: str
    raw_query: str
    query: dict[str, list[str]]

    @property
    def text(self) -> str:
        """Both, as in a URL."""
        return self.path + (f"?{self.raw_query}" if self.raw_query else "")


def read_target(url: URL) -> Target:
    """The target of a request whose URL aiohttp has parsed."""
    raw_query = _encoded(url.raw_query_string)
    query = parse_qs(raw_query, keep_blank_values=True)
    return Target(path=_encoded(url.raw_path), raw_query=raw_query, query=query)


def _encoded(raw: str) -> str:
    # Bytes that are not ASCII have no place in a URL, but reach this far. Encoded, they fit into headers and logs.
    return quote(raw, safe=_AS_SENT, errors="surrogateescape")
