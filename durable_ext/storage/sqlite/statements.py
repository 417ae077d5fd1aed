"""The operations that write. Each is called inside a transaction and checks everything before it writes anything.

What is encoded from records is encoded before, on the caller's side: the write lock is held for SQL only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import msgspec

from durable_ext.errors import (
    InstanceAlreadyExistsError,
    InstanceNotFoundError,
    InstanceStateError,
    VersionConflictError,
)
from durable_ext.history import (
    TERMINAL,
    ExecutionStarted,
    OrchestrationRuntimeStatus,
    encode_event,
    encode_events,
)
from durable_ext.messages import Message, WorkItem, WorkReceipt
from durable_ext.storage.contract import (
    SUSPECT_DELIVERIES,
    Commit,
    DeadLetter,
    Delivery,
    InstanceQuery,
    Receipt,
    StatusChange,
)
from durable_ext.storage.sqlite.queries import conditions
from durable_ext.storage.sqlite.schema import to_micros
from durable_ext.storage.sqlite.writer import Transaction

Row: TypeAlias = tuple[Any, ...]


class At(NamedTuple):
    """A version: the newest turn of the instance with this key."""

    key: int
    turn: int


UNKNOWN = At(0, 0)
"""The version of an instance that does not exist."""


class Outgoing(NamedTuple):
    """A message ready to be stored. `visible_at` 0: at once."""

    message: Message
    visible_at: int
    encoded: bytes


class Stored(NamedTuple):
    """A message as the table now has it."""

    message_id: int
    outgoing: Outgoing


def outgoing(message: Message, now: int) -> Outgoing:
    """Encode a message. What is due already is stored as due at once, so that it keeps its place in the order."""
    visible_at = to_micros(message.visible_at) if message.visible_at is not None else 0
    return Outgoing(message, visible_at if visible_at > now else 0, encode_event(message.event))


# --- a turn ------------------------------------------------------------------------------------------


class Turn(NamedTuple):
    """A `Commit`, encoded."""

    instance_id: str
    execution_id: str
    version: At
    events: bytes | None
    replaces_history: bool
    messages: list[Outgoing]
    work: list[Row]
    has_waiting_work: bool
    status: StatusChange | None
    instance: Row | None
    consumed_messages: list[int]
    consumed_work: list[WorkReceipt]
    dead_letters: list[Row]


class Committed(NamedTuple):
    """What a commit did, for those who keep count in memory."""

    version: At
    stored: list[Stored]
    forgave_deaths: bool


def encode_commit(commit: Commit, now: int) -> Turn:
    """Everything of a commit that can be prepared outside the transaction."""
    consumed_messages: list[int] = []
    consumed_work: list[WorkReceipt] = []
    for receipt in commit.consumed:
        if isinstance(receipt, WorkReceipt):
            consumed_work.append(receipt)
        else:
            consumed_messages.append(message_id(receipt))
    status = commit.status
    version = commit.version
    if not isinstance(version, At):
        raise TypeError(f"{version!r} is not a version of this store; pass on what begin or commit returned")
    if version == UNKNOWN and commit.events and (status is None or status.started is None):
        raise ValueError(f"the first commit of instance '{commit.instance_id}' needs a status with its start event")
    return Turn(
        instance_id=commit.instance_id,
        execution_id=commit.execution_id,
        version=version,
        events=encode_events(list(commit.events)) if _moves(commit) else None,
        replaces_history=commit.replaces_history,
        messages=[outgoing(each, now) for each in commit.messages],
        work=[_work_row(each, now) for each in commit.work],
        has_waiting_work=any(not each.deliveries for each in commit.work),
        status=status,
        instance=_instance_row(status, commit.execution_id) if status is not None and status.started else None,
        consumed_messages=consumed_messages,
        consumed_work=consumed_work,
        dead_letters=[_letter_row(each) for each in commit.dead_letters],
    )


def _moves(commit: Commit) -> bool:
    return bool(commit.events or commit.status is not None or commit.messages or commit.work)


def commit_turn(tx: Transaction, turn: Turn) -> Committed:
    """The heart of the store. Raises `VersionConflictError`."""
    version = _advance(tx, turn)
    if turn.status is not None and turn.version != UNKNOWN:
        _update_status(tx, version.key, turn.execution_id, turn.status, turn.instance)
    stored = _store_messages(tx, turn.messages)
    if turn.work:
        insert_rows(tx, _INSERT_WORK, turn.work, _IF_STORED)
    if turn.consumed_work:
        _delete_work(tx, turn.consumed_work)
    if turn.consumed_messages:
        _delete_messages(tx, turn.consumed_messages)
    if turn.dead_letters:
        insert_rows(tx, _INSERT_LETTER, turn.dead_letters)
    return Committed(version, stored, _forgive_deaths(tx, turn.instance_id))


def _advance(tx: Transaction, turn: Turn) -> At:
    key, newest = turn.version
    if turn.version == UNKNOWN:
        if tx.execute("SELECT 1 FROM instances WHERE instance_id = ?", (turn.instance_id,)).fetchone():
            raise VersionConflictError(turn.instance_id)
        if turn.events is None or turn.instance is None:
            return UNKNOWN
        return _insert_instance(tx, turn.instance, turn.events)
    if turn.events is None:
        if tx.execute(_IS_NEWEST, (key, newest, key, newest)).fetchone() is None:
            raise VersionConflictError(turn.instance_id)
        return turn.version
    # OR IGNORE: the turn after ours exists already. WHERE EXISTS: ours exists still.
    inserted = tx.execute(_APPEND_TURN, (key, newest + 1, turn.events, key, newest)).rowcount
    if inserted != 1:
        raise VersionConflictError(turn.instance_id)
    if turn.replaces_history:
        tx.execute("DELETE FROM turns WHERE key = ? AND turn <= ?", (key, newest))
    return At(key, newest + 1)


_IS_NEWEST = (
    "SELECT 1 FROM turns WHERE key = ? AND turn = ? AND NOT EXISTS (SELECT 1 FROM turns WHERE key = ? AND turn > ?)"
)
_APPEND_TURN = (
    "INSERT OR IGNORE INTO turns (key, turn, events) "
    "SELECT ?, ?, ? WHERE EXISTS (SELECT 1 FROM turns WHERE key = ? AND turn = ?)"
)


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
_INSERT_INSTANCE = f"INSERT INTO instances ({', '.join(_FIELDS)}) VALUES ({', '.join('?' * len(_FIELDS))})"

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
    return _instance_row(status, start.execution_id)


def _instance_row(status: StatusChange, execution_id: str) -> Row:
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


def _insert_instance(tx: Transaction, row: Row, events: bytes) -> At:
    key = tx.execute(_INSERT_INSTANCE, row).lastrowid
    assert key is not None
    tx.execute("INSERT INTO turns (key, turn, events) VALUES (?, 1, ?)", (key, events))
    return At(key, 1)


def _update_status(tx: Transaction, key: int, execution_id: str, status: StatusChange, row: Row | None) -> None:
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
    instance_id = row[0]
    found = tx.execute("SELECT key, runtime_status FROM instances WHERE instance_id = ?", (instance_id,)).fetchone()
    removed: list[int] = []
    if found is not None:
        key, status = found
        if OrchestrationRuntimeStatus(status) not in overridable:
            raise InstanceAlreadyExistsError(instance_id, status)
        removed = _remove(tx, [key], [instance_id])
    return Created(_insert_instance(tx, row, b"[]"), _store_messages(tx, [start]), removed)


def send(
    tx: Transaction, message: Outgoing, accepted: Collection[OrchestrationRuntimeStatus]
) -> tuple[OrchestrationRuntimeStatus, list[Stored]]:
    """Raises `InstanceNotFoundError` or `InstanceStateError`."""
    instance_id = message.message.instance_id
    found = tx.execute("SELECT runtime_status FROM instances WHERE instance_id = ?", (instance_id,)).fetchone()
    if found is None:
        raise InstanceNotFoundError(instance_id)
    status = OrchestrationRuntimeStatus(found[0])
    if status not in accepted:
        raise InstanceStateError(instance_id, status.value)
    return status, _store_messages(tx, [message])


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
        (_json(list(instance_ids)), *_ENDED),
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
    ids = _json(instance_ids)
    removed = [row[0] for row in tx.execute(f"SELECT id FROM inbox WHERE {named}", (ids,))]
    tx.execute("DELETE FROM turns WHERE key IN (SELECT value FROM json_each(?))", (_json(keys),))
    tx.execute(f"DELETE FROM inbox WHERE {named}", (ids,))
    tx.execute(f"DELETE FROM work WHERE {named}", (ids,))
    tx.execute(f"DELETE FROM instances WHERE {named}", (ids,))
    return removed


# --- messages ----------------------------------------------------------------------------------------


def message_id(receipt: Receipt) -> int:
    """The id behind a receipt of this store."""
    if not isinstance(receipt, int):
        raise TypeError(f"{receipt!r} is not a receipt of this store")
    return receipt


def delivery(stored: Stored) -> Delivery:
    """A message just stored, as `receive` hands it out."""
    message = stored.outgoing.message
    return Delivery(
        receipt=stored.message_id,
        instance_id=message.instance_id,
        event=message.event,
        execution_id=message.execution_id,
    )


def hide_messages(tx: Transaction, message_ids: list[int], until: int) -> int:
    """Make messages visible again only at a later time, which is returned."""
    tx.execute(
        "UPDATE inbox SET visible_at = ? WHERE id IN (SELECT value FROM json_each(?))", (until, _json(message_ids))
    )
    return until


def _store_messages(tx: Transaction, messages: list[Outgoing]) -> list[Stored]:
    if not messages:
        return []
    first = tx.allot_message_ids(len(messages))
    stored = [Stored(number, each) for number, each in enumerate(messages, first)]
    insert_rows(
        tx,
        _INSERT_MESSAGE,
        [
            (number, message.instance_id, message.execution_id, visible_at, encoded)
            for number, (message, visible_at, encoded) in stored
        ],
    )
    return stored


def _delete_messages(tx: Transaction, message_ids: list[int]) -> None:
    if len(message_ids) == 1:
        tx.execute("DELETE FROM inbox WHERE id = ?", message_ids)
    else:
        tx.execute("DELETE FROM inbox WHERE id IN (SELECT value FROM json_each(?))", (_json(message_ids),))


def _forgive_deaths(tx: Transaction, instance_id: str) -> bool:
    # The flag spares every commit this statement as long as nobody has died, that is, nearly always.
    if not tx.deaths_on_record:
        return False
    forgiven = tx.execute("UPDATE inbox SET deaths = 0 WHERE instance_id = ? AND deaths > 0", (instance_id,)).rowcount
    return forgiven > 0


# --- work items --------------------------------------------------------------------------------------


class Claimed(NamedTuple):
    """Work items now claimed. `is_all`: nothing else is waiting."""

    items: list[WorkItem]
    is_all: bool


SUSPECTS_WAIT = 60_000_000
"""Microseconds that suspect work items stay behind others at most."""

_WORK_FIELDS = "instance_id, execution_id, task_id, name, orchestrator, attempt, deliveries, input"


def claim_work(tx: Transaction, limit: int, now: int) -> Claimed:
    """Claim the work items that wait longest, and count the delivery. Suspects wait for the others, or for too long."""
    before = SUSPECT_DELIVERIES - 1
    rows = tx.execute(
        f"SELECT {_WORK_FIELDS} FROM work WHERE is_claimed = 0 AND (deliveries < ? OR queued_at < ?) "
        "ORDER BY queued_at, task_id LIMIT ?",
        (before, now - SUSPECTS_WAIT, limit),
    ).fetchall()
    if not rows:
        rows = tx.execute(
            f"SELECT {_WORK_FIELDS} FROM work WHERE is_claimed = 0 ORDER BY queued_at, task_id LIMIT 1"
        ).fetchall()
    items = [
        WorkItem(
            instance_id=instance_id,
            execution_id=execution_id,
            task_id=task_id,
            name=name,
            orchestrator=orchestrator,
            attempt=attempt,
            deliveries=deliveries + 1,
            input=input_,
        )
        for instance_id, execution_id, task_id, name, orchestrator, attempt, deliveries, input_ in rows
    ]
    _update_work(tx, "is_claimed = 1, deliveries = deliveries + 1", (each.receipt for each in items))
    is_all = len(items) < limit and not tx.execute("SELECT 1 FROM work WHERE is_claimed = 0 LIMIT 1").fetchone()
    return Claimed(items, is_all)


def release_work(tx: Transaction, receipts: Sequence[WorkReceipt]) -> None:
    """Take back a claim and its count."""
    _update_work(tx, "is_claimed = 0, deliveries = max(deliveries - 1, 0)", receipts)


def complete_work(tx: Transaction, receipt: WorkReceipt, outcome: Outgoing) -> list[Stored]:
    """Replace a work item by the message with its outcome. Nothing if it is gone: then nobody waits for it."""
    if not _delete_work(tx, [receipt]):
        return []
    return _store_messages(tx, [outcome])


def _work_row(item: WorkItem, now: int) -> Row:
    return (
        item.instance_id,
        item.execution_id,
        item.task_id,
        item.name,
        item.orchestrator,
        item.attempt,
        item.deliveries,
        1 if item.deliveries else 0,
        now,
        item.input,
    )


def _delete_work(tx: Transaction, receipts: list[WorkReceipt]) -> int:
    return sum(
        tx.execute(
            f"DELETE FROM work WHERE instance_id = ? AND execution_id = ? AND task_id {_one_or_many(ids)}",
            (instance_id, execution_id, _one_or_json(ids)),
        ).rowcount
        for (instance_id, execution_id), ids in _by_execution(receipts)
    )


def _update_work(tx: Transaction, change: str, receipts: Iterable[WorkReceipt]) -> None:
    for (instance_id, execution_id), ids in _by_execution(receipts):
        tx.execute(
            f"UPDATE work SET {change} WHERE instance_id = ? AND execution_id = ? AND task_id {_one_or_many(ids)}",
            (instance_id, execution_id, _one_or_json(ids)),
        )


def _by_execution(receipts: Iterable[WorkReceipt]) -> Iterable[tuple[tuple[str, str], list[int]]]:
    groups: dict[tuple[str, str], list[int]] = {}
    for each in receipts:
        groups.setdefault((each.instance_id, each.execution_id), []).append(each.task_id)
    return groups.items()


# --- the host's own ----------------------------------------------------------------------------------


def take_over(tx: Transaction, owner: str, now: int) -> bool:
    """Become the host. Counts what a host that died had in hand. Returns whether its shutdown had been clean."""
    (closed_cleanly,) = tx.execute("SELECT closed_cleanly FROM hub").fetchone()
    if not closed_cleanly:
        tx.execute("UPDATE inbox SET deaths = deaths + 1 WHERE visible_at <= ?", (now,))
    # A call that has seen a process die before goes to the end of the line. Otherwise the same one would be at hand
    # again whenever the next process dies early, and be blamed for what comes from outside.
    tx.execute(
        "UPDATE work SET is_claimed = 0, queued_at = CASE WHEN deliveries > 1 THEN ? ELSE queued_at END "
        "WHERE is_claimed = 1",
        (now,),
    )
    tx.execute("UPDATE hub SET owner = ?, closed_cleanly = 0", (owner,))
    review_deaths(tx)
    return bool(closed_cleanly)


def say_goodbye(tx: Transaction) -> None:
    """Nobody hosts the hub any more, and nobody died."""
    tx.execute("UPDATE hub SET owner = NULL, closed_cleanly = 1")


def review_deaths(tx: Transaction) -> None:
    """Look whether any message in the inbox still carries deaths."""
    tx.deaths_on_record = tx.execute("SELECT 1 FROM inbox WHERE deaths > 0 LIMIT 1").fetchone() is not None


# --- many rows in few statements ---------------------------------------------------------------------

_INSERT_MESSAGE = "INSERT INTO inbox (id, instance_id, execution_id, visible_at, event) VALUES "
_INSERT_WORK = (
    "INSERT INTO work (instance_id, execution_id, task_id, name, orchestrator, attempt, deliveries, is_claimed, "
    "queued_at, input) VALUES "
)
# After a rewind the same task is asked for again while its former call may still be about: kept once, and claimed if
# either is.
_IF_STORED = (
    " ON CONFLICT (instance_id, execution_id, task_id) DO UPDATE SET "
    "is_claimed = max(is_claimed, excluded.is_claimed), deliveries = max(deliveries, excluded.deliveries)"
)
_INSERT_LETTER = "INSERT INTO dead_letters (kind, instance_id, name, payload, reason, created_at) VALUES "


def insert_rows(tx: Transaction, insert: str, rows: Sequence[Row], otherwise: str = "") -> None:
    """Insert rows of equal length, many to a statement.

    The sqlite3 module gives up the interpreter lock around every step of every statement, and beside a busy event
    loop each time waits up to five milliseconds to get it back. So a thousand rows must not be a thousand steps.
    """
    start = 0
    # A few fixed sizes, so that every statement is found in the connection's cache.
    for size in (64, 8, 1):
        while len(rows) - start >= size:
            statement = _values(insert, size, len(rows[0])) + otherwise
            tx.execute(statement, tuple(chain.from_iterable(rows[start : start + size])))
            start += size


@lru_cache
def _values(insert: str, rows: int, columns: int) -> str:
    return insert + ", ".join(["(" + ", ".join("?" * columns) + ")"] * rows)


def _one_or_many(ids: list[int]) -> str:
    return "= ?" if len(ids) == 1 else "IN (SELECT value FROM json_each(?))"


def _one_or_json(ids: list[int]) -> int | str:
    return ids[0] if len(ids) == 1 else _json(ids)


def _json(values: list[Any]) -> str:
    return msgspec.json.encode(values).decode()


def _letter_row(letter: DeadLetter) -> Row:
    return (
        letter.kind,
        letter.instance_id,
        letter.name,
        letter.payload,
        letter.reason,
        to_micros(letter.created_at),
    )
