"""Requests as no well-behaved client would send them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import NamedTuple

DEADLINE = 10.0


class Answer(NamedTuple):
    """A response as it came. `headers` are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """A kept-alive connection to a local host."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, base_url: str) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", int(base_url.rpartition(":")[2])))

    async def ask(self, request: bytes) -> Answer | None:
        """The answer to a request; None if the connection was closed instead. Raises TimeoutError."""
        async with asyncio.timeout(DEADLINE):
            self._writer.write(request)
            try:
                await self._writer.drain()
                return await self._answer(request)
            except (asyncio.IncompleteReadError, ConnectionError):
                return None

    async def closed(self) -> bool:
        """Whether the other side closes the connection in time, without a word."""
        async with asyncio.timeout(DEADLINE):
            return await self._reader.read() == b""

    async def _answer(self, request: bytes) -> Answer:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = int(first.split()[1])
        has_body = status not in (204, 304) and not request.startswith(b"HEAD")
        length = int(headers.get("content-length", 0)) if has_body else 0
        return Answer(status, headers, await self._reader.readexactly(length))

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


async def ask(base_url: str, request: bytes) -> Answer:
    """The answer to one request on a connection of its own."""
    connection = await Connection.to(base_url)
    try:
        answer = await connection.ask(request)
    finally:
        await connection.close()
    assert answer is not None, f"the connection was closed after {request[:200]!r}"
    return answer
