"""The operations on the inbox table.

What is encoded from records is encoded before, on the caller's side: the write lock is held for SQL only.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from typing import NamedTuple

import msgspec

from durable_ext.history import GenericEvent, HistoryEvent, TimerFired, decode_event, encode_event
from durable_ext.messages import Message
from durable_ext.storage.contract import Delivery, Receipt
from durable_ext.storage.sqlite.bulk import Row, Statement, any_of, as_json, insert_rows
from durable_ext.storage.sqlite.schema import from_micros, to_micros
from durable_ext.storage.sqlite.tables import KEPT, NOW
from durable_ext.storage.sqlite.writer import Transaction


class Outgoing(NamedTuple):
    """A message ready to be stored. `visible_at` is a time still to come, or NOW."""

    message: Message
    visible_at: int
    encoded: bytes


class Stored(NamedTuple):
    """A message as the table now has it."""

    message_id: int
    outgoing: Outgoing


def outgoing(message: Message, now: int) -> Outgoing:
    """Encode a message. What is due already is stored as due at once, so that it keeps its place in the order."""
    visible_at = to_micros(message.visible_at) if message.visible_at is not None else NOW
    return Outgoing(message, visible_at if visible_at > now else NOW, encode_event(message.event))


_FIELDS = "instance_id, execution_id, visible_at, task_id, event"
_INSERT = f"INSERT INTO inbox ({_FIELDS}) VALUES "
_DELETE = Statement("DELETE FROM inbox WHERE id {}")
_DELETE_TIMERS = Statement("DELETE FROM inbox WHERE instance_id = ? AND task_id {} AND execution_id = ?")
_KEEP = Statement(f"UPDATE inbox SET visible_at = {KEPT} WHERE id {{}}")


def store_messages(tx: Transaction, messages: Sequence[Outgoing]) -> list[Stored]:
    """Add messages in this order."""
    last = insert_rows(tx, _INSERT, [_row(each) for each in messages])
    # Nobody else writes meanwhile, so the ids have no gap.
    return [Stored(number, each) for number, each in enumerate(messages, last - len(messages) + 1)]


def store_message_if(tx: Transaction, message: Outgoing, statuses: Sequence[str]) -> list[Stored]:
    """Add a message if its instance is in one of these statuses."""
    added = tx.execute(_insert_if(len(statuses)), (*_row(message), message.message.instance_id, *statuses))
    return [Stored(added.lastrowid, message)] if added.rowcount == 1 and added.lastrowid is not None else []


@cache
def _insert_if(statuses: int) -> str:
    # CASE, not IN: that would build a table of its own for these few.
    is_one = f"CASE runtime_status {'WHEN ? THEN 1 ' * statuses}END"
    return f"INSERT INTO inbox ({_FIELDS}) SELECT ?, ?, ?, ?, ? FROM instances WHERE instance_id = ? AND {is_one}"


def _row(outgoing: Outgoing) -> Row:
    message, visible_at, encoded = outgoing
    task_id = message.event.timer_id if type(message.event) is TimerFired else None
    return (message.instance_id, message.execution_id, visible_at, task_id, encoded)


def delete_messages(tx: Transaction, message_ids: Sequence[int]) -> None:
    """Remove what was consumed."""
    tx.execute(_DELETE.about(message_ids), (any_of(message_ids),))


def delete_with_later(tx: Transaction, message_ids: Sequence[int], instance_id: str, now: int) -> None:
    """Remove what was consumed, and an instance's messages for later. What was kept or has come stays."""
    tx.execute(
        "DELETE FROM inbox WHERE id IN (SELECT value FROM json_each(?)) OR (instance_id = ? AND visible_at > ?)",
        (as_json(message_ids), instance_id, now),
    )


def delete_timers(tx: Transaction, instance_id: str, execution_id: str, task_ids: Sequence[int]) -> None:
    """Remove the messages that these timers of an execution fire."""
    tx.execute(_DELETE_TIMERS.about(task_ids), (instance_id, any_of(task_ids), execution_id))


def keep_messages(tx: Transaction, message_ids: Sequence[int]) -> None:
    """Make messages wait with their instance."""
    tx.execute(_KEEP.about(message_ids), (any_of(message_ids),))


# --- as the runtime sees them ------------------------------------------------------------------------

FIELDS = "id, instance_id, execution_id, CAST(event AS BLOB)"


def delivery(row: Row, now: int, *, is_kept: bool = False) -> Delivery:
    """A message with these FIELDS."""
    number, instance_id, execution_id, stored = row
    event: HistoryEvent
    unreadable = None
    try:
        event = decode_event(stored)
    except msgspec.DecodeError as error:
        # One message that cannot be read must not keep all others from being delivered.
        unreadable = str(error)
        event = GenericEvent(timestamp=from_micros(now), data=stored.decode(errors="backslashreplace"))
    return Delivery(
        receipt=number,
        instance_id=instance_id,
        event=event,
        execution_id=execution_id,
        is_kept=is_kept,
        unreadable=unreadable,
    )


def delivery_of(stored: Stored) -> Delivery:
    """A message just stored."""
    message = stored.outgoing.message
    return Delivery(
        receipt=stored.message_id,
        instance_id=message.instance_id,
        event=message.event,
        execution_id=message.execution_id,
    )


def message_ids(receipts: Collection[Receipt]) -> list[int]:
    """The ids behind receipts of this store."""
    for each in receipts:
        if not isinstance(each, int):
            raise TypeError(f"{each!r} is not a receipt of this store; pass on those of the deliveries")
    return list(receipts)  # type: ignore[arg-type]  # just checked
