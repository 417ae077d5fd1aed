"""The operations on status rows, and what happens to an instance as a whole: start, send, purge."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import msgspec

from durable_ext.errors import InstanceAlreadyExistsError, InstanceNotFoundError, InstanceStateError
from durable_ext.history import TERMINAL, ExecutionStarted, OrchestrationRuntimeStatus
from durable_ext.storage.contract import InstanceQuery, StatusChange
from durable_ext.storage.sqlite.bulk import Row, as_json
from durable_ext.storage.sqlite.message_rows import Outgoing, Stored, store_message_if, store_messages
from durable_ext.storage.sqlite.queries import conditions
from durable_ext.storage.sqlite.schema import to_micros
from durable_ext.storage.sqlite.writer import Transaction


class At(NamedTuple):
    """A version: the newest turn of the instance with this key."""

    key: int
    turn: int


UNKNOWN = At(0, 0)
"""The version of an instance that does not exist."""

# --- the status row ----------------------------------------------------------------------------------

_FIELDS = (
    "instance_id",
    "execution_id",
    "start_id",
    "name",
    "runtime_status",
    "created_at",
    "updated_at",
    "version",
    "parent_instance_id",
    "tags",
    "custom_status",
    "output",
    "input",
)
_INSERT_INSTANCE = (
    f"INSERT INTO instances ({', '.join(_FIELDS)}) VALUES ({', '.join('?' * len(_FIELDS))}) "
    "ON CONFLICT (instance_id) DO NOTHING"
)

# A line of executions keeps its creation time, and its custom status unless told otherwise, through continue-as-new.
# Another line begins its own.
_KEPT = {
    "created_at": "CASE WHEN start_id = :start_id THEN created_at ELSE :created_at END",
    "custom_status": "CASE WHEN :keeps AND start_id = :start_id THEN custom_status ELSE :custom_status END",
}
_RESTATE = "UPDATE instances SET {} WHERE key = :key".format(
    ", ".join(f"{field} = {_KEPT.get(field) or f':{field}'}" for field in _FIELDS)
)


def pending_instance(start: ExecutionStarted) -> Row:
    """The status row of an instance that has not begun."""
    status = StatusChange(runtime_status=OrchestrationRuntimeStatus.Pending, updated_at=start.timestamp, started=start)
    return instance_row(status, start.execution_id)


def instance_row(status: StatusChange, execution_id: str) -> Row:
    """The status row of an execution that begins."""
    start = status.started
    if start is None:
        raise ValueError("a status row begins with a start event")
    return (
        start.instance_id,
        execution_id,
        start.start_id,
        start.name,
        status.runtime_status.value,
        to_micros(start.timestamp),
        to_micros(status.updated_at),
        start.version,
        start.parent.instance_id if start.parent is not None else None,
        msgspec.json.encode(start.tags).decode() if start.tags else None,
        None if status.custom_status is msgspec.UNSET else status.custom_status,
        status.output,
        start.input,
    )


def insert_instance(tx: Transaction, row: Row, events: bytes) -> At | None:
    """Add an instance; None if it is there already."""
    added = tx.execute(_INSERT_INSTANCE, row)
    if added.rowcount != 1 or added.lastrowid is None:
        return None
    tx.execute("INSERT INTO turns (key, turn, events) VALUES (?, 1, ?)", (added.lastrowid, events))
    return At(added.lastrowid, 1)


def update_status(tx: Transaction, key: int, execution_id: str, status: StatusChange, row: Row | None) -> None:
    """Write what a commit says of the status; `row` if an execution begins with it."""
    keeps = status.custom_status is msgspec.UNSET
    if row is not None:
        tx.execute(_RESTATE, {**dict(zip(_FIELDS, row, strict=True)), "keeps": keeps, "key": key})
        return
    changed = [execution_id, status.runtime_status.value, to_micros(status.updated_at), status.output]
    if keeps:
        tx.execute(f"{_UPDATE_STATUS} WHERE key = ?", (*changed, key))
    else:
        tx.execute(f"{_UPDATE_STATUS}, custom_status = ? WHERE key = ?", (*changed, status.custom_status, key))


_UPDATE_STATUS = "UPDATE instances SET execution_id = ?, runtime_status = ?, updated_at = ?, output = ?"


# --- starting, sending, purging ----------------------------------------------------------------------


class Created(NamedTuple):
    """A new instance, its start message, and the messages of the one it replaced."""

    version: At
    stored: list[Stored]
    removed: list[int]


def create_instance(
    tx: Transaction, row: Row, start: Outgoing, overridable: Collection[OrchestrationRuntimeStatus]
) -> Created:
    """Raises `InstanceAlreadyExistsError`."""
    removed: list[int] = []
    version = insert_instance(tx, row, b"[]")
    if version is None:
        removed = _make_room(tx, row[0], overridable)
        version = insert_instance(tx, row, b"[]")
        assert version is not None, "nobody else writes meanwhile"
    return Created(version, store_messages(tx, [start]), removed)


def _make_room(tx: Transaction, instance_id: str, overridable: Collection[OrchestrationRuntimeStatus]) -> list[int]:
    """Remove an instance that may be replaced; return its messages."""
    key, status = tx.execute(
        "SELECT key, runtime_status FROM instances WHERE instance_id = ?", (instance_id,)
    ).fetchone()
    if OrchestrationRuntimeStatus(status) not in overridable:
        raise InstanceAlreadyExistsError(instance_id, status)
    return _remove(tx, [key], [instance_id])


def send(tx: Transaction, message: Outgoing, accepted: Collection[OrchestrationRuntimeStatus]) -> list[Stored]:
    """Raises `InstanceNotFoundError` or `InstanceStateError`."""
    instance_id = message.message.instance_id
    if stored := store_message_if(tx, message, [each.value for each in accepted]):
        return stored
    found = tx.execute("SELECT runtime_status FROM instances WHERE instance_id = ?", (instance_id,)).fetchone()
    if found is None:
        raise InstanceNotFoundError(instance_id)
    raise InstanceStateError(instance_id, found[0])


class Purged(NamedTuple):
    """Instances that are no more, and the messages that went with them."""

    instance_ids: list[str]
    removed: list[int]


_ENDED = tuple(each.value for each in sorted(TERMINAL, key=lambda each: each.value))
_HAS_ENDED = f"runtime_status IN ({', '.join('?' * len(_ENDED))})"


def purge(tx: Transaction, instance_ids: Collection[str]) -> Purged:
    """Those of the instances that have ended."""
    found = tx.execute(
        f"SELECT key, instance_id FROM instances WHERE instance_id IN (SELECT value FROM json_each(?)) AND "
        f"{_HAS_ENDED}",
        (as_json(list(instance_ids)), *_ENDED),
    ).fetchall()
    return _purge(tx, found)


def purge_page(tx: Transaction, query: InstanceQuery, after: str, limit: int) -> Purged:
    """The first of the instances after an id that match and have ended."""
    where, values = conditions(query)
    found = tx.execute(
        f"SELECT key, instance_id FROM instances WHERE {where} AND {_HAS_ENDED} AND instance_id > ? "
        f"ORDER BY instance_id LIMIT ?",
        (*values, *_ENDED, after, limit),
    ).fetchall()
    return _purge(tx, found)


def _purge(tx: Transaction, found: list[tuple[int, str]]) -> Purged:
    instance_ids = [instance_id for _, instance_id in found]
    return Purged(instance_ids, _remove(tx, [key for key, _ in found], instance_ids) if found else [])


def _remove(tx: Transaction, keys: list[int], instance_ids: list[str]) -> list[int]:
    named = "instance_id IN (SELECT value FROM json_each(?))"
    ids = as_json(instance_ids)
    removed = [row[0] for row in tx.execute(f"SELECT id FROM inbox WHERE {named}", (ids,))]
    tx.execute("DELETE FROM turns WHERE key IN (SELECT value FROM json_each(?))", (as_json(keys),))
    tx.execute(f"DELETE FROM inbox WHERE {named}", (ids,))
    tx.execute(f"DELETE FROM work WHERE {named}", (ids,))
    tx.execute(f"DELETE FROM instances WHERE {named}", (ids,))
    return removed
