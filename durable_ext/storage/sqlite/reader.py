"""A thread with a connection that only reads."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from durable_ext.errors import StoreError
from durable_ext.storage.sqlite.threads import start_thread

T = TypeVar("T")

# Answers that go back to the event loop together: waking it costs more than a small query does.
_TOGETHER = 16


class _Query(NamedTuple):
    run: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]


class _Answer(NamedTuple):
    future: asyncio.Future[Any]
    result: Any
    error: Exception | None


class Reader:
    """Runs queries one after the other, each on the state as last committed, beside whatever is being written."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], name: str) -> None:
        self._connect, self._name = connect, name
        self._queue: SimpleQueue[_Query | None] = SimpleQueue()
        self._stopped: asyncio.Future[None] | None = None

    async def run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Carry out a query of one statement. Raises `StoreError`."""
        loop = asyncio.get_running_loop()
        if self._stopped is None:
            # Only then: whoever asks after a thread that could not start must start one, not wait for it.
            start_thread(self._main, loop, name="durable-sqlite-reader")
            self._stopped = loop.create_future()
        answer: asyncio.Future[T] = loop.create_future()
        self._queue.put(_Query(query, answer))
        return await answer

    async def run_as_one(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Carry out a query of several statements that are to see one state. Raises `StoreError`."""
        return await self.run(lambda connection: _in_one_transaction(connection, query))

    async def close(self) -> None:
        """Finish what was asked for, then disconnect. Nothing may be asked after that."""
        if self._stopped is not None:
            self._queue.put(None)
            await asyncio.shield(self._stopped)

    # --- on the thread -----------------------------------------------------------------------------------

    def _main(self, loop: asyncio.AbstractEventLoop) -> None:
        connection: sqlite3.Connection | None = None
        try:
            while (query := self._queue.get()) is not None:
                answers = []
                while query is not None:
                    try:
                        connection = connection or self._connect()
                        answers.append(_Answer(query.future, query.run(connection), None))
                    except Exception as error:
                        answers.append(_Answer(query.future, None, self._explain(error)))
                    query = self._next() if len(answers) < _TOGETHER else None
                loop.call_soon_threadsafe(_deliver, answers)
            loop.call_soon_threadsafe(self._on_stopped)
        except RuntimeError:
            pass  # the loop was closed under us: whoever waited is gone with it
        finally:
            if connection is not None:
                connection.close()

    def _next(self) -> _Query | None:
        try:
            query = self._queue.get_nowait()
        except Empty:
            return None
        if query is None:
            self._queue.put(None)  # the end: for the outer loop to find again
        return query

    def _explain(self, error: Exception) -> Exception:
        if not isinstance(error, sqlite3.Error):
            return error
        explained = StoreError(f"{self._name}: {error}")
        explained.__cause__ = error
        return explained

    def _on_stopped(self) -> None:
        if self._stopped is not None and not self._stopped.done():
            self._stopped.set_result(None)


def _deliver(answers: list[_Answer]) -> None:
    for future, result, error in answers:
        if future.done():
            continue  # whoever asked was cancelled
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


def _in_one_transaction(connection: sqlite3.Connection, query: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute("BEGIN")
    try:
        return query(connection)
    finally:
        connection.execute("COMMIT")
