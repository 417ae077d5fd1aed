"""How a connection to the tables is opened and checked."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Literal, TypeAlias

from filelock import FileLock, Timeout

from durable_ext.errors import StoreError, StoreSchemaError
from durable_ext.storage.sqlite.tables import MIGRATIONS, VERSION

Synchronous: TypeAlias = Literal["full", "normal"]
"""`full`: a commit survives power loss. `normal`: it survives the process, but power loss may undo the last ones."""

MEMORY = ":memory:"

# Marks the file as ours (the bytes of "dTFx"), so that another program's database is never taken for a hub.
APPLICATION_ID = 0x64544678
_PATIENCE = 30.0  # seconds; a CLI in the middle of a purge is a reason to wait, not to fail
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_micros(moment: datetime) -> int:
    """A time as it is stored: microseconds since 1970, which sort and lose nothing."""
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The inverse of `to_micros`."""
    return _EPOCH + timedelta(microseconds=micros)


def connect(path: str, *, synchronous: Synchronous, read_only: bool = False) -> sqlite3.Connection:
    """A connection with our settings. Raises `StoreError` if there is no usable SQLite file at `path`."""
    try:
        # isolation_level=None: the module must not open transactions of its own, ours are BEGIN IMMEDIATE.
        connection = sqlite3.connect(
            # A reader never creates the file: gone, it is to be missed. ("rw": it takes part in the log's bookkeeping.)
            f"{Path(path).as_uri()}?mode=rw" if read_only else path,
            uri=read_only,
            timeout=_PATIENCE,
            isolation_level=None,
            check_same_thread=False,
        )
    except sqlite3.Error as error:
        raise StoreError(
            f"cannot open {path}: {error}. Does the directory exist, and may this user write there?"
        ) from error
    try:
        if path != MEMORY:
            _use_write_ahead_log(connection, path)
        # In WAL mode NORMAL does not sync the log on commit, only before a checkpoint.
        connection.execute(f"PRAGMA synchronous = {synchronous.upper()}")
        # macOS: a plain fsync leaves the data in the drive's cache. Elsewhere these two change nothing.
        connection.execute("PRAGMA fullfsync = ON")
        connection.execute("PRAGMA checkpoint_fullfsync = ON")
        # The log keeps its default of 1,000 pages between checkpoints: a commit that overwrites a log used before is
        # a third faster on ext4 than one that makes the file longer. The limit shrinks it after a long read held it.
        connection.execute("PRAGMA journal_size_limit = 67108864")
        # In KiB. Readers keep little: what they ask for was written lately, and is in the writer's log.
        connection.execute(f"PRAGMA cache_size = {-1_000 if read_only else -8_000}")
        connection.execute("PRAGMA temp_store = MEMORY")
        if read_only:
            connection.execute("PRAGMA query_only = ON")
    except sqlite3.Error as error:
        connection.close()
        raise StoreError(f"cannot use {path}: {error}") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _use_write_ahead_log(connection: sqlite3.Connection, path: str) -> None:
    # WAL: readers see the last commit while a write goes on, and a commit is one append and one sync. The mode is
    # kept in the file's header, so this writes only once.
    mode = _when_unlocked(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
    if mode != "wal":
        raise StoreError(
            f"cannot use {path}: its file system does not support SQLite's write-ahead log (mode '{mode}'). "
            f"Keep the file on a local disk."
        )


def _when_unlocked(ask: Callable[[], str]) -> str:
    """Where the mode is changed SQLite does not wait for a lock, as elsewhere: others may be creating the file too."""
    give_up_at = monotonic() + _PATIENCE
    while True:
        try:
            return ask()
        except sqlite3.OperationalError:
            if monotonic() > give_up_at:
                raise
            sleep(0.01)


def host_lock(path: str) -> FileLock:
    """The lock that a host holds. The operating system's, not a row: it goes with the process, however that ends."""
    return FileLock(f"{path}.lock", thread_local=False)


def ensure_schema(connection: sqlite3.Connection, path: str) -> None:
    """Create the tables in an empty file, bring older ones up to date. Raises `StoreSchemaError` on anything else."""
    if _stamp(connection) == (APPLICATION_ID, VERSION):
        return
    # Two processes may create the same hub at once: look again under the write lock.
    connection.execute("BEGIN IMMEDIATE")
    try:
        application, found = _stamp(connection)
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        is_empty = (application, found, tables) == (0, 0, 0)
        if not is_empty and (application != APPLICATION_ID or not 0 < found <= VERSION):
            raise StoreSchemaError(path, found, sorted(MIGRATIONS))
        with _nobody_hosting(path) if 0 < found < VERSION else nullcontext():
            _migrate(connection, found)
            connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _migrate(connection: sqlite3.Connection, found: int) -> None:
    for version in range(found + 1, VERSION + 1):
        for statement in MIGRATIONS[version]:
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


@contextmanager
def _nobody_hosting(path: str) -> Iterator[None]:
    """A host of an earlier release, still running, would not know its tables any more."""
    lock = host_lock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StoreError(
            f"{path} was written by an earlier release, and a host of that release runs on it. Stop that host first; "
            f"whatever opens the file next brings it up to date."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _stamp(connection: sqlite3.Connection) -> tuple[int, int]:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return application, version
