"""The operations that only read. They run on any connection, inside a transaction that shows them one state."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from durable_ext.errors import StoreError
from durable_ext.history import HistoryEvent, OrchestrationRuntimeStatus, decode_events
from durable_ext.storage.contract import DeadLetter, Delivery, InstancePage, InstanceQuery, InstanceRecord
from durable_ext.storage.paging import decode_token, encode_token
from durable_ext.storage.sqlite.bulk import Statement, any_of
from durable_ext.storage.sqlite.message_rows import FIELDS, delivery
from durable_ext.storage.sqlite.schema import from_micros, to_micros
from durable_ext.storage.sqlite.tables import KEPT

# The ids of entities begin with it; they are listed only to those who ask for them.
ENTITY = "@"

_PLAIN = (
    "instance_id, execution_id, name, runtime_status, created_at, updated_at, version, parent_instance_id, tags, "
    "custom_status, output"
)
_tags = msgspec.json.Decoder(dict[str, str])


class StoredState(NamedTuple):
    """The state of an instance. `key` and `turn` are 0 if there is none.

    `messages`: those asked for that exist and are not kept. `kept`: all that are, in their order.
    """

    key: int
    turn: int
    status: OrchestrationRuntimeStatus | None
    history: list[HistoryEvent]
    unreadable: str | None
    messages: set[int]
    kept: list[Delivery]


_STILL_THERE = Statement(f"SELECT id FROM inbox WHERE id {{}} AND visible_at <> {KEPT}")


def read_state(connection: sqlite3.Connection, instance_id: str, message_ids: Sequence[int], now: int) -> StoredState:
    """What a turn starts from."""
    messages: set[int] = set()
    if message_ids:
        found = connection.execute(_STILL_THERE.about(message_ids), (any_of(message_ids),))
        messages = {row[0] for row in found}
    kept = connection.execute(
        # What fires a timer is never kept, so the index need not show any of those.
        f"SELECT {FIELDS} FROM inbox WHERE instance_id = ? AND task_id IS NULL AND visible_at = {KEPT} ORDER BY id",
        (instance_id,),
    ).fetchall()
    row = connection.execute(
        "SELECT key, runtime_status FROM instances WHERE instance_id = ?", (instance_id,)
    ).fetchone()
    if row is None:
        return StoredState(0, 0, None, [], None, messages, [delivery(each, now, is_kept=True) for each in kept])
    key, status = row
    turns = connection.execute(
        "SELECT turn, CAST(events AS BLOB) FROM turns WHERE key = ? ORDER BY turn", (key,)
    ).fetchall()
    if not turns:
        raise StoreError(f"the file is damaged: instance '{instance_id}' has a status row and no turns")
    history: list[HistoryEvent] = []
    unreadable = None
    try:
        history = _join([events for _, events in turns])
    except msgspec.DecodeError as error:
        unreadable = str(error)
    return StoredState(
        key=key,
        turn=turns[-1][0],
        status=OrchestrationRuntimeStatus(status),
        history=history,
        unreadable=unreadable,
        messages=messages,
        kept=[delivery(each, now, is_kept=True) for each in kept],
    )


def read_history(connection: sqlite3.Connection, instance_id: str) -> list[HistoryEvent]:
    """The history of the current execution."""
    turns = connection.execute(
        "SELECT CAST(events AS BLOB) FROM turns WHERE key = (SELECT key FROM instances WHERE instance_id = ?) "
        "ORDER BY turn",
        (instance_id,),
    )
    try:
        return _join([events for (events,) in turns])
    except msgspec.DecodeError as error:
        raise StoreError(f"the history of instance '{instance_id}' cannot be read: {error}") from error


def _join(turns: list[bytes]) -> list[HistoryEvent]:
    # The arrays of all turns as one array: decoding once is twice as fast as decoding each of thousands.
    return decode_events(b"[" + b",".join(inner for events in turns if (inner := events[1:-1])) + b"]")


def get_instance(connection: sqlite3.Connection, instance_id: str, with_payloads: bool) -> InstanceRecord | None:
    """One status row."""
    row = connection.execute(
        f"SELECT {_columns(with_payloads)} FROM instances WHERE instance_id = ?", (instance_id,)
    ).fetchone()
    return None if row is None else _record(row)


def list_instances(connection: sqlite3.Connection, query: InstanceQuery) -> InstancePage:
    """One page of status rows, by id."""
    where, values = conditions(query)
    after = decode_token(query.continuation_token) if query.continuation_token else ""
    rows = connection.execute(
        f"SELECT {_columns(query.with_payloads)} FROM instances WHERE {where} AND instance_id > ? "
        f"ORDER BY instance_id LIMIT ?",
        (*values, after, query.page_size + 1),
    ).fetchall()
    records = [_record(row) for row in rows[: query.page_size]]
    token = encode_token(records[-1].instance_id) if len(rows) > query.page_size else None
    return InstancePage(instances=records, continuation_token=token)


def list_dead_letters(connection: sqlite3.Connection, limit: int) -> list[DeadLetter]:
    """The newest first."""
    rows = connection.execute(
        "SELECT id, kind, instance_id, name, payload, reason, created_at FROM dead_letters ORDER BY id DESC LIMIT ?",
        (limit,),
    )
    return [
        DeadLetter(
            letter_id=letter_id,
            kind=kind,
            instance_id=instance_id,
            name=name,
            payload=payload,
            reason=reason,
            created_at=from_micros(created_at),
        )
        for letter_id, kind, instance_id, name, payload, reason, created_at in rows
    ]


def conditions(query: InstanceQuery) -> tuple[str, list[Any]]:
    """The WHERE of a query, without its paging."""
    clauses: list[str] = []
    values: list[Any] = []

    def require(clause: str, *parameters: object) -> None:
        clauses.append(clause)
        values.extend(parameters)

    prefix = query.instance_id_prefix or ""
    if prefix:
        # A range, not LIKE: LIKE ignores case, knows wildcards, and would not use the index.
        require("instance_id >= ?", prefix)
        if (end := _after(prefix)) is not None:
            require("instance_id < ?", end)
    if not prefix.startswith(ENTITY):
        require("NOT (instance_id >= ? AND instance_id < ?)", ENTITY, _after(ENTITY))
    if query.created_from is not None:
        require("created_at >= ?", to_micros(query.created_from))
    if query.created_to is not None:
        require("created_at <= ?", to_micros(query.created_to))
    if query.statuses:
        names = sorted(each.value for each in query.statuses)
        require(f"runtime_status IN ({', '.join('?' * len(names))})", *names)
    if query.name is not None:
        require("name = ? COLLATE NOCASE", query.name)
    return " AND ".join(clauses) or "TRUE", values


def _after(prefix: str) -> str | None:
    """The first text after all those that begin with `prefix`. SQLite compares code points, as Python does."""
    for position in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[position]) + 1
        if 0xD800 <= code <= 0xDFFF:
            code = 0xE000  # no text has surrogates
        if code <= 0x10FFFF:
            return prefix[:position] + chr(code)
    return None


def _columns(with_payloads: bool) -> str:
    return f"{_PLAIN}, input" if with_payloads else f"{_PLAIN}, NULL"


def _record(row: tuple[Any, ...]) -> InstanceRecord:
    (
        instance_id,
        execution_id,
        name,
        runtime_status,
        created_at,
        updated_at,
        version,
        parent_instance_id,
        tags,
        custom_status,
        output,
        input_,
    ) = row
    return InstanceRecord(
        instance_id=instance_id,
        execution_id=execution_id,
        name=name,
        runtime_status=OrchestrationRuntimeStatus(runtime_status),
        created_at=from_micros(created_at),
        updated_at=from_micros(updated_at),
        version=version,
        parent_instance_id=parent_instance_id,
        tags=_tags.decode(tags) if tags else {},
        custom_status=custom_status,
        output=output,
        input=input_,
    )
