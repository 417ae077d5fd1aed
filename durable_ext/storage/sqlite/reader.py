"""A thread with a connection that only reads."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from durable_ext.errors import StoreError

T = TypeVar("T")


class Reader:
    """Runs queries one after the other, each on the state as last committed, beside whatever is being written."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], name: str) -> None:
        self._connect, self._name = connect, name
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="durable-sqlite-reader")
        self._connection: sqlite3.Connection | None = None

    async def run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Carry out a query of one statement. Raises `StoreError`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, query)

    async def run_as_one(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Carry out a query of several statements that are to see one state. Raises `StoreError`."""
        return await self.run(lambda connection: _in_one_transaction(connection, query))

    def _run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        if self._connection is None:
            self._connection = self._connect()
        try:
            return query(self._connection)
        except sqlite3.Error as error:
            raise StoreError(f"{self._name}: {error}") from error

    async def close(self) -> None:
        """Finish what was asked for, then disconnect."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _in_one_transaction(connection: sqlite3.Connection, query: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute("BEGIN")
    try:
        return query(connection)
    finally:
        connection.execute("COMMIT")
