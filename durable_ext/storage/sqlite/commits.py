"""A commit: prepared outside the transaction, then carried out inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from durable_ext.errors import VersionConflictError
from durable_ext.history import encode_events
from durable_ext.messages import WorkReceipt
from durable_ext.storage.contract import Commit, DeadLetter, StatusChange
from durable_ext.storage.sqlite.bulk import Row, insert_rows
from durable_ext.storage.sqlite.instance_rows import UNKNOWN, At, insert_instance, instance_row, update_status
from durable_ext.storage.sqlite.message_rows import (
    Outgoing,
    Stored,
    delete_messages,
    delete_timers,
    delete_with_later,
    keep_messages,
    message_ids,
    outgoing,
    store_messages,
)
from durable_ext.storage.sqlite.schema import to_micros
from durable_ext.storage.sqlite.work_rows import (
    claimed_row,
    delete_all_work,
    delete_calls,
    delete_work,
    insert_work,
    queued_row,
    replace_work,
)
from durable_ext.storage.sqlite.writer import Transaction


class EncodedCommit(msgspec.Struct, frozen=True, kw_only=True):
    """A `Commit` as the tables take it. `now` is when it was made."""

    instance_id: str
    execution_id: str
    version: At
    now: int
    events: bytes | None
    replaces_history: bool
    messages: list[Outgoing]
    work: list[Row]
    offers_work: bool
    status: StatusChange | None
    instance: Row | None
    consumed: list[int]
    kept: list[int]
    completed: Sequence[WorkReceipt]
    cancelled: list[int]
    cancels_all: bool
    dead_letters: list[Row]


class Committed(NamedTuple):
    """What a commit did, for those who keep count in memory."""

    version: At
    stored: list[Stored]


def encode_commit(commit: Commit, now: int) -> EncodedCommit:
    """Everything of a commit that can be prepared outside the transaction: the write lock is held for SQL only."""
    version, status = commit.version, commit.status
    if not isinstance(version, At):
        raise TypeError(f"{version!r} is not a version of this store; pass on what begin or commit returned")
    if version == UNKNOWN and commit.events and (status is None or status.started is None):
        raise ValueError(f"the first commit of instance '{commit.instance_id}' needs a status with its start event")
    work = [queued_row(each, now) for each in commit.queued]
    if commit.inline:
        work += [claimed_row(each, now) for each in commit.inline]
    return EncodedCommit(
        instance_id=commit.instance_id,
        execution_id=commit.execution_id,
        version=version,
        now=now,
        events=encode_events(list(commit.events)) if _moves(commit) else None,
        replaces_history=commit.replaces_history,
        messages=[outgoing(each, now) for each in commit.messages],
        work=work,
        offers_work=bool(commit.queued),
        status=status,
        instance=instance_row(status, commit.execution_id) if status is not None and status.started else None,
        consumed=message_ids(commit.consumed) if commit.consumed else [],
        kept=message_ids(commit.kept) if commit.kept else [],
        completed=tuple(commit.completed),
        cancelled=list(commit.cancelled),
        cancels_all=commit.cancels_all,
        dead_letters=[_letter_row(each) for each in commit.dead_letters],
    )


def _moves(commit: Commit) -> bool:
    return bool(commit.events or commit.status is not None or commit.messages or commit.queued or commit.inline)


def carry_out(tx: Transaction, commit: EncodedCommit) -> Committed:
    """The heart of the store. Raises `VersionConflictError`."""
    version = _advance(tx, commit)
    if commit.status is not None and commit.version != UNKNOWN:
        update_status(tx, version.key, commit.execution_id, commit.status, commit.instance)
    stored = store_messages(tx, commit.messages) if commit.messages else []
    if commit.kept:
        keep_messages(tx, commit.kept)
    if commit.cancels_all:  # before the work of this commit is added, which is not meant
        delete_all_work(tx, commit.instance_id)
        delete_with_later(tx, commit.consumed, commit.instance_id, commit.now)
        insert_work(tx, commit.work)
    else:
        _exchange(tx, commit)
    if commit.dead_letters:
        insert_rows(tx, _INSERT_LETTER, commit.dead_letters)
    return Committed(version, stored)


def _exchange(tx: Transaction, commit: EncodedCommit) -> None:
    """What was answered or cancelled goes, and the work of this commit comes."""
    if commit.cancelled:
        delete_calls(tx, commit.instance_id, commit.execution_id, commit.cancelled)
        delete_timers(tx, commit.instance_id, commit.execution_id, commit.cancelled)
    if commit.consumed:
        delete_messages(tx, commit.consumed)
    completed, work = commit.completed, commit.work
    # One call after the other is the most frequent step there is.
    if len(completed) == len(work) == 1 and replace_work(tx, completed[0], work[0]):
        return
    if completed:
        delete_work(tx, completed)
    if work:
        insert_work(tx, work)


def _advance(tx: Transaction, commit: EncodedCommit) -> At:
    """The version check, and the history."""
    key, newest = commit.version
    if commit.version == UNKNOWN:
        return _begin(tx, commit)
    if commit.events is None:
        if tx.execute(_IS_NEWEST, (key, newest, key, newest)).fetchone() is None:
            raise VersionConflictError(commit.instance_id)
        return commit.version
    # OR IGNORE: the turn after ours exists already. WHERE EXISTS: ours exists still.
    inserted = tx.execute(_APPEND_TURN, (key, newest + 1, commit.events, key, newest)).rowcount
    if inserted != 1:
        raise VersionConflictError(commit.instance_id)
    if commit.replaces_history:
        tx.execute("DELETE FROM turns WHERE key = ? AND turn <= ?", (key, newest))
    return At(key, newest + 1)


def _begin(tx: Transaction, commit: EncodedCommit) -> At:
    """The version check, and the history, of an instance that is not to be there yet."""
    if commit.events is not None and commit.instance is not None:
        version = insert_instance(tx, commit.instance, commit.events)
        if version is not None:
            return version
    elif not tx.execute("SELECT 1 FROM instances WHERE instance_id = ?", (commit.instance_id,)).fetchone():
        return UNKNOWN
    raise VersionConflictError(commit.instance_id)


_IS_NEWEST = (
    "SELECT 1 FROM turns WHERE key = ? AND turn = ? AND NOT EXISTS (SELECT 1 FROM turns WHERE key = ? AND turn > ?)"
)
_APPEND_TURN = (
    "INSERT OR IGNORE INTO turns (key, turn, events) "
    "SELECT ?, ?, ? WHERE EXISTS (SELECT 1 FROM turns WHERE key = ? AND turn = ?)"
)
_INSERT_LETTER = "INSERT INTO dead_letters (kind, instance_id, name, payload, reason, created_at) VALUES "


def _letter_row(letter: DeadLetter) -> Row:
    return (
        letter.kind,
        letter.instance_id,
        letter.name,
        letter.payload,
        letter.reason,
        to_micros(letter.created_at),
    )
