"""The one thread that writes: it groups what is waiting into one transaction.

Why a thread: a commit waits for the disk, and the event loop must not. Why a group: the wait is the same for one
operation as for fifty. Results are handed to the event loop in commit order, in one call per transaction.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Generic, NamedTuple, TypeVar

from durable_ext.errors import DurableError, StoreError
from durable_ext.storage.sqlite.schema import MEMORY
from durable_ext.storage.sqlite.threads import start_thread

T = TypeVar("T")

MAX_GROUP = 256
LOOK_FOR_OTHERS_EVERY = 0.1
LOOK_WHEN_BUSY_EVERY = 0.001

logger = logging.getLogger(__name__)


class Transaction:
    """The writing connection as an operation sees it.

    An operation checks everything before it writes anything: one that refuses (raises a `DurableError`) shares its
    transaction with others that go through.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.execute = connection.execute
        self._data_version = self._read_data_version()

    def others_have_written(self) -> bool:
        """Whether another connection has committed since the last time this was asked."""
        seen = self._read_data_version()
        if seen == self._data_version:
            return False
        self._data_version = seen
        return True

    def _read_data_version(self) -> int:
        (version,) = self.execute("PRAGMA data_version").fetchone()
        return int(version)


class _Operation(NamedTuple, Generic[T]):
    run: Callable[[Transaction], T]
    settle: Callable[[T], None] | None
    future: asyncio.Future[T]


class _Outcome(NamedTuple):
    operation: _Operation[Any]
    result: Any
    error: Exception | None


class Writer:
    """Runs operations one after the other, grouped into transactions, on a thread of its own.

    An operation's `settle` is called on the event loop once it is durable, in commit order and before its future is
    done; so what the process keeps in memory moves in step with the file. `on_others` is called soon after another
    process has committed.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], name: str, on_others: Callable[[], None]) -> None:
        self._connect, self._name, self._on_others = connect, name, on_others
        self._file: tuple[int, int] | None = None
        self._queue: SimpleQueue[_Operation[Any] | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Future[None] | None = None
        self._is_stopping = False

    async def start(self) -> None:
        """Connect. Raises what `connect` raises."""
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        start_thread(self._main, loop, opened, name="durable-sqlite-writer")
        # Before waiting: the thread may end as soon as it has begun, and says so to this.
        self._stopped = loop.create_future()
        try:
            await opened
        except asyncio.CancelledError:
            self._is_stopping = True
            self._queue.put(None)
            raise
        except BaseException:
            self._stopped = None
            raise
        self._loop = loop

    def submit(self, run: Callable[[Transaction], T], settle: Callable[[T], None] | None = None) -> asyncio.Future[T]:
        """Queue an operation. It is carried out even if the future is cancelled."""
        if self._loop is None or self._is_stopping:
            raise StoreError(f"the store on {self._name} is not open")
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Operation(run, settle, future))
        return future

    async def stop(self) -> None:
        """Finish everything queued, then disconnect."""
        if self._stopped is None:
            return
        if not self._is_stopping:
            self._is_stopping = True
            self._queue.put(None)
        await asyncio.shield(self._stopped)

    # --- on the event loop -------------------------------------------------------------------------------

    def _deliver(self, outcomes: list[_Outcome]) -> None:
        for (_, settle, future), result, error in outcomes:
            if error is None and settle is not None:
                try:
                    settle(result)
                except Exception as fault:
                    error = fault
            if future.done():
                if error is not None:
                    logger.error("nobody waits for a failed operation on %s", self._name, exc_info=error)
            elif error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    # --- on the thread -----------------------------------------------------------------------------------

    def _main(self, loop: asyncio.AbstractEventLoop, opened: asyncio.Future[None]) -> None:
        try:
            connection = self._connect()
            self._file = self._find_file()
            self._look_again_at = self._check_again_at = 0.0
        except Exception as error:
            _call(loop, _fail, opened, error)
            return
        _call(loop, _finish, opened)
        try:
            self._serve(connection, loop)
        finally:
            connection.close()
            _call(loop, self._on_stopped)

    def _on_stopped(self) -> None:
        # Not asked to stop means a bug ended the thread: whoever waits must hear of it, and nobody may queue more.
        self._is_stopping = True
        while not self._queue.empty():
            operation = self._queue.get_nowait()
            if operation is not None and not operation.future.done():
                operation.future.set_exception(StoreError(f"the writer of {self._name} has stopped"))
        if self._stopped is not None and not self._stopped.done():
            self._stopped.set_result(None)

    def _serve(self, connection: sqlite3.Connection, loop: asyncio.AbstractEventLoop) -> None:
        tx = Transaction(connection)
        while True:
            try:
                operation = self._queue.get(timeout=LOOK_FOR_OTHERS_EVERY)
            except Empty:
                if tx.others_have_written() and not _call(loop, self._on_others):
                    return
                continue
            group = []
            while operation is not None:
                group.append(operation)
                if len(group) == MAX_GROUP:
                    break
                try:
                    operation = self._queue.get_nowait()
                except Empty:
                    break
            is_last = operation is None
            if group and not self._carry_out(connection, tx, group, loop):
                return
            if is_last:
                return

    def _carry_out(
        self,
        connection: sqlite3.Connection,
        tx: Transaction,
        group: list[_Operation[Any]],
        loop: asyncio.AbstractEventLoop,
    ) -> bool:
        """One transaction for the group; if one of them breaks it, one transaction each. False: the loop is gone."""
        try:
            if not self._look_around(tx, loop):
                return False
            tx.execute("BEGIN IMMEDIATE")
            outcomes = [_attempt(connection, tx, each) for each in group]
            tx.execute("COMMIT")
        except _Broken as broken:
            _roll_back(connection)
            if len(group) > 1:
                return all(self._carry_out(connection, tx, [each], loop) for each in group)
            outcomes = [_Outcome(group[0], None, self._explain(broken.reason))]
        except Exception as error:
            # BEGIN or COMMIT itself: nothing of the group is durable, so nothing of it is acknowledged.
            _roll_back(connection)
            outcomes = [_Outcome(each, None, self._explain(error)) for each in group]
        return _call(loop, self._deliver, outcomes)

    def _look_around(self, tx: Transaction, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether the file is there still, and whether another process has written. False: the loop is gone."""
        # Not each time: looking gives up the interpreter lock, which costs more than the look beside a busy event loop.
        if (now := monotonic()) < self._look_again_at:
            return True
        if now >= self._check_again_at:
            self._check_file()
            self._check_again_at = now + LOOK_FOR_OTHERS_EVERY
        self._look_again_at = now + LOOK_WHEN_BUSY_EVERY
        return not tx.others_have_written() or _call(loop, self._on_others)

    def _check_file(self) -> None:
        """SQLite writes on in a file that was deleted: what is acknowledged then is gone with this process."""
        if self._find_file() != self._file:
            raise StoreError(
                f"{self._name} was deleted or replaced while this process had it open; nothing is stored any more. "
                f"Stop this process before you put a file there."
            )

    def _find_file(self) -> tuple[int, int] | None:
        if self._name == MEMORY:
            return None
        try:
            found = os.stat(self._name)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _explain(self, error: Exception) -> Exception:
        if not isinstance(error, sqlite3.Error):
            return error
        explained = StoreError(f"{self._name}: {error}; nothing was stored")
        explained.__cause__ = error
        return explained


class _Broken(Exception):  # noqa: N818 - a signal between two functions here, not an error of the package
    def __init__(self, reason: Exception) -> None:
        self.reason = reason


def _attempt(connection: sqlite3.Connection, tx: Transaction, operation: _Operation[Any]) -> _Outcome:
    changes = connection.total_changes
    try:
        return _Outcome(operation, operation.run(tx), None)
    except DurableError as refusal:
        if connection.total_changes != changes:
            raise _Broken(refusal) from refusal
        return _Outcome(operation, None, refusal)
    except Exception as error:
        raise _Broken(error) from error


def _roll_back(connection: sqlite3.Connection) -> None:
    # Some errors (a full disk, for one) have made SQLite roll back by itself.
    if connection.in_transaction:
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error:
            logger.exception("rolling back failed; the next transaction will say more")


def _call(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *args: object) -> bool:
    """False if the loop was closed under us: whoever waited is gone with it."""
    try:
        loop.call_soon_threadsafe(callback, *args)
    except RuntimeError:
        return False
    return True


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: asyncio.Future[None], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
