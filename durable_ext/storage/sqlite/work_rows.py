"""The operations on the work table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from durable_ext.messages import WorkItem, WorkReceipt
from durable_ext.storage.sqlite.bulk import Row, Statement, any_of, insert_rows
from durable_ext.storage.sqlite.message_rows import Outgoing, Stored, store_messages
from durable_ext.storage.sqlite.schema import from_micros
from durable_ext.storage.sqlite.writer import Transaction


class Claimed(NamedTuple):
    """Work items now claimed. `next_due`: when there is more, 0 for at once, None if nothing waits."""

    items: list[WorkItem]
    next_due: int | None


_FIELDS = (
    "instance_id",
    "execution_id",
    "task_id",
    "asked",
    "name",
    "orchestrator",
    "attempt",
    "tries",
    "queued_at",
    "input",
)
_INSERT = f"INSERT INTO work ({', '.join(_FIELDS)}, due_at) VALUES "
_REPLACE = (
    f"UPDATE OR IGNORE work SET {', '.join(f'{each} = ?' for each in _FIELDS)}, due_at = ? "
    "WHERE instance_id = ? AND execution_id = ? AND task_id = ? AND asked = ?"
)
_CLAIM = (
    f"SELECT {', '.join(_FIELDS)} FROM work WHERE due_at IS NOT NULL AND due_at <= ? "
    "ORDER BY queued_at, task_id LIMIT ?"
)

_NAMED = "instance_id = ? AND execution_id = ? AND asked = ? AND task_id {}"
_TAKE = Statement(f"UPDATE work SET due_at = NULL, tries = tries + 1 WHERE {_NAMED}")
_RELEASE = Statement(f"UPDATE work SET due_at = ?, tries = max(tries - 1, 0) WHERE {_NAMED} AND due_at IS NULL")
_DELETE = Statement(f"DELETE FROM work WHERE {_NAMED}")
_DELETE_CALLS = Statement("DELETE FROM work WHERE instance_id = ? AND execution_id = ? AND task_id {}")


def queued_row(item: WorkItem, now: int) -> Row:
    """A work item for whoever receives work."""
    return _row(item, item.tries, now, 0)


def claimed_row(item: WorkItem, now: int) -> Row:
    """A work item that the committing worker runs. So it has been handed out once at least."""
    return _row(item, item.tries or 1, now, None)


def _row(item: WorkItem, tries: int, now: int, due_at: int | None) -> Row:
    return (
        item.instance_id,
        item.execution_id,
        item.task_id,
        item.asked,
        item.name,
        item.orchestrator,
        item.attempt,
        tries,
        now,
        item.input,
        due_at,
    )


def insert_work(tx: Transaction, rows: Sequence[Row]) -> None:
    """Add work items. One that is there already stays as it is."""
    insert_rows(tx, _INSERT, rows, " ON CONFLICT (instance_id, execution_id, task_id, asked) DO NOTHING")


def replace_work(tx: Transaction, receipt: WorkReceipt, row: Row) -> bool:
    """Put a work item in the place of another. False if the other is gone or the new one there: nothing is done."""
    named = (receipt.instance_id, receipt.execution_id, receipt.task_id, receipt.asked)
    return tx.execute(_REPLACE, (*row, *named)).rowcount == 1


def claim_work(tx: Transaction, limit: int, now: int) -> Claimed:
    """Claim the work items that wait longest, and count the try."""
    rows = tx.execute(_CLAIM, (now, limit)).fetchall()
    items = [_item(row) for row in rows]
    for (instance_id, execution_id, asked), task_ids in _by_execution(items):
        tx.execute(
            _TAKE.about(task_ids),
            (instance_id, execution_id, asked, any_of(task_ids)),
        )
    if len(items) == limit:
        return Claimed(items, 0)
    (next_due,) = tx.execute("SELECT min(due_at) FROM work INDEXED BY work_waiting WHERE due_at IS NOT NULL").fetchone()
    return Claimed(items, next_due)


def _item(row: Row) -> WorkItem:
    instance_id, execution_id, task_id, asked, name, orchestrator, attempt, tries, queued_at, input_ = row
    return WorkItem(
        instance_id=instance_id,
        execution_id=execution_id,
        task_id=task_id,
        asked=asked,
        name=name,
        orchestrator=orchestrator,
        attempt=attempt,
        tries=tries + 1,
        queued_at=from_micros(queued_at),
        input=input_,
    )


def release_work(tx: Transaction, receipts: Sequence[WorkReceipt], due_at: int) -> None:
    """Take back a claim and its count. `due_at` 0: the items are due at once."""
    for (instance_id, execution_id, asked), task_ids in _by_execution(receipts):
        tx.execute(
            _RELEASE.about(task_ids),
            (due_at, instance_id, execution_id, asked, any_of(task_ids)),
        )


def complete_work(tx: Transaction, receipt: WorkReceipt, outcome: Outgoing) -> list[Stored]:
    """Replace a work item by the message with its outcome. Nothing if it is gone: then nobody waits for it."""
    if not delete_work(tx, [receipt]):
        return []
    return store_messages(tx, [outcome])


def delete_work(tx: Transaction, receipts: Sequence[WorkReceipt]) -> int:
    """Remove these; return how many there were."""
    return sum(
        tx.execute(
            _DELETE.about(task_ids),
            (instance_id, execution_id, asked, any_of(task_ids)),
        ).rowcount
        for (instance_id, execution_id, asked), task_ids in _by_execution(receipts)
    )


def delete_calls(tx: Transaction, instance_id: str, execution_id: str, task_ids: Sequence[int]) -> None:
    """Remove these calls of an execution, however often they were asked for."""
    tx.execute(
        _DELETE_CALLS.about(task_ids),
        (instance_id, execution_id, any_of(task_ids)),
    )


def delete_all_work(tx: Transaction, instance_id: str) -> None:
    """Remove every call of an instance."""
    tx.execute("DELETE FROM work WHERE instance_id = ?", (instance_id,))


def _by_execution(calls: Iterable[WorkItem | WorkReceipt]) -> Iterable[tuple[tuple[str, str, int], list[int]]]:
    groups: dict[tuple[str, str, int], list[int]] = {}
    for each in calls:
        groups.setdefault((each.instance_id, each.execution_id, each.asked), []).append(each.task_id)
    return groups.items()
