"""The tables, and how a connection to them is opened and checked."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

from durable_ext.errors import StoreError, StoreSchemaError

Synchronous: TypeAlias = Literal["full", "normal"]
"""`full`: a commit survives power loss. `normal`: it survives the process, but power loss may undo the last ones."""

MEMORY = ":memory:"

# Marks the file as ours (the bytes of "dTFx"), so that another program's database is never taken for a hub.
APPLICATION_ID = 0x64544678
VERSION = 1

# What takes a file from the version before to this one. Tables only ever change through an entry here.
MIGRATIONS: Mapping[int, Sequence[str]] = {
    1: (
        # One row: who hosts the hub, and whether the last host said goodbye.
        """
        CREATE TABLE hub (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            owner TEXT,
            closed_cleanly INTEGER NOT NULL
        )
        """,
        "INSERT INTO hub (one, owner, closed_cleanly) VALUES (1, NULL, 1)",
        # The status rows. A key is never used twice (AUTOINCREMENT), not even for the same id after a purge: whoever
        # holds a version of the former instance must lose against the new one.
        """
        CREATE TABLE instances (
            key INTEGER PRIMARY KEY AUTOINCREMENT,
            instance_id TEXT NOT NULL UNIQUE,
            execution_id TEXT NOT NULL,
            start_id TEXT NOT NULL,
            name TEXT NOT NULL,
            runtime_status TEXT NOT NULL,
            created_at INTEGER NOT NULL,
            updated_at INTEGER NOT NULL,
            version TEXT,
            parent_instance_id TEXT,
            tags TEXT,
            custom_status TEXT,
            output TEXT,
            input TEXT
        )
        """,
        # The history, one row per turn, and with it the version: an instance is at version (key, turn) while that
        # row is its newest. So one INSERT checks the version and appends, and no turn rewrites a row with payloads.
        # `events` is a JSON array.
        """
        CREATE TABLE turns (
            key INTEGER NOT NULL,
            turn INTEGER NOT NULL,
            events BLOB NOT NULL,
            PRIMARY KEY (key, turn)
        ) WITHOUT ROWID
        """,
        # Messages on their way. `visible_at` is 0 for "at once". Ids only grow, also after deletions
        # (AUTOINCREMENT): the host reads on from the last id it saw, and a receipt never comes to mean another message.
        """
        CREATE TABLE inbox (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            instance_id TEXT NOT NULL,
            execution_id TEXT,
            visible_at INTEGER NOT NULL,
            deaths INTEGER NOT NULL DEFAULT 0,
            event BLOB NOT NULL
        )
        """,
        "CREATE INDEX inbox_by_instance ON inbox (instance_id)",
        "CREATE INDEX inbox_by_time ON inbox (visible_at, id) WHERE visible_at > 0",
        # Activity calls. Claimed ones are not in the index, so an activity that runs inline never touches it.
        """
        CREATE TABLE work (
            instance_id TEXT NOT NULL,
            execution_id TEXT NOT NULL,
            task_id INTEGER NOT NULL,
            name TEXT NOT NULL,
            orchestrator TEXT NOT NULL,
            attempt INTEGER NOT NULL,
            deliveries INTEGER NOT NULL,
            is_claimed INTEGER NOT NULL,
            queued_at INTEGER NOT NULL,
            input TEXT,
            PRIMARY KEY (instance_id, execution_id, task_id)
        ) WITHOUT ROWID
        """,
        "CREATE INDEX work_waiting ON work (queued_at, task_id) WHERE is_claimed = 0",
        """
        CREATE TABLE dead_letters (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL,
            instance_id TEXT NOT NULL,
            name TEXT NOT NULL,
            payload TEXT,
            reason TEXT NOT NULL,
            created_at INTEGER NOT NULL
        )
        """,
    ),
}

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
        # The timeout is long because a CLI in the middle of a purge is a reason to wait, not to fail.
        connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
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
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreError(
            f"cannot use {path}: its file system does not support SQLite's write-ahead log (mode '{mode}'). "
            f"Keep the file on a local disk."
        )


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
        for version in range(found + 1, VERSION + 1):
            for statement in MIGRATIONS[version]:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _stamp(connection: sqlite3.Connection) -> tuple[int, int]:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return application, version
