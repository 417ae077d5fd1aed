"""What the dictionaries hold."""

from __future__ import annotations

import asyncio
import string
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias

import msgspec

from durable_ext.history import ExecutionStarted, HistoryEvent, TimerFired
from durable_ext.messages import Message, WorkItem, WorkReceipt
from durable_ext.storage.contract import Delivery, InstanceQuery, InstanceRecord, Receipt, StatusChange
from durable_ext.storage.watching import Changes

ENTITY = "@"
"""The ids of entities begin with it; they are listed only to those who ask for them."""

_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


@dataclass(slots=True, eq=False)
class Instance:
    """An instance: its status row, and the history of its current execution."""

    row: InstanceRecord
    start_id: str
    version: int
    history: list[HistoryEvent] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Connection:
    """A store object, as its hub knows it.

    Of a host: `number` tells it from the others, `ready` is what waits for it, `lost` tells it that instances are gone.
    """

    changes: Changes
    is_open: bool = False
    number: int = 0
    ready: deque[StoredMessage] = field(default_factory=deque)
    messages_came: asyncio.Event = field(default_factory=asyncio.Event)
    work_came: asyncio.Event = field(default_factory=asyncio.Event)
    lost: Callable[[], None] = lambda: None


@dataclass(slots=True, eq=False)
class StoredMessage:
    """A message: in the hands of its `holder`, or kept with its instance, or waiting for somebody, or gone."""

    receipt: int
    message: Message
    tries: int = 0
    holder: Connection | None = None
    is_kept: bool = False
    is_gone: bool = False

    @property
    def is_waiting(self) -> bool:
        """Whether it is to be delivered."""
        return self.holder is None and not self.is_kept and not self.is_gone

    def as_delivery(self) -> Delivery:
        """The message as a worker sees it."""
        return Delivery(
            receipt=self.receipt,
            instance_id=self.message.instance_id,
            event=self.message.event,
            execution_id=self.message.execution_id,
            tries=max(self.tries, 1),
            is_kept=self.is_kept,
        )


@dataclass(slots=True, eq=False)
class StoredWork:
    """A work item: claimed by its `holder`, or waiting, or gone."""

    item: WorkItem
    holder: Connection | None = None
    is_gone: bool = False

    @property
    def is_waiting(self) -> bool:
        """Whether it is to be handed out."""
        return self.holder is None and not self.is_gone

    def count_try(self, change: int) -> None:
        """Count that it is handed out, or uncount it."""
        self.item = msgspec.structs.replace(self.item, tries=max(self.item.tries + change, 0))

    def count_waiting_from(self, now: datetime) -> None:
        """Note when it began to wait, if it has not waited before."""
        if self.item.queued_at is None:
            self.item = msgspec.structs.replace(self.item, queued_at=now)


Stored: TypeAlias = StoredMessage | StoredWork


@dataclass(slots=True)
class Belongings:
    """What is stored for one instance id, in the order in which it was stored."""

    messages: dict[Receipt, StoredMessage] = field(default_factory=dict)
    work: dict[WorkReceipt, StoredWork] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Stored]:
        yield from self.messages.values()
        yield from self.work.values()

    def timers(self) -> Iterator[tuple[StoredMessage, TimerFired]]:
        """The messages of durable timers."""
        for each in self.messages.values():
            if isinstance(each.message.event, TimerFired):
                yield each, each.message.event

    def remove_message(self, receipt: Receipt) -> None:
        """It goes, if it is there."""
        found = self.messages.pop(receipt, None)
        if found is not None:
            found.is_gone = True

    def remove_work(self, receipt: WorkReceipt) -> None:
        """It goes, if it is there."""
        found = self.work.pop(receipt, None)
        if found is not None:
            found.is_gone = True


def first_row(start: ExecutionStarted, execution_id: str, status: StatusChange) -> InstanceRecord:
    """The status row of an execution that begins."""
    return InstanceRecord(
        instance_id=start.instance_id,
        execution_id=execution_id,
        name=start.name,
        runtime_status=status.runtime_status,
        created_at=start.timestamp.astimezone(UTC),
        updated_at=status.updated_at.astimezone(UTC),
        input=start.input,
        output=status.output,
        custom_status=None if status.custom_status is msgspec.UNSET else status.custom_status,
        version=start.version,
        parent_instance_id=start.parent.instance_id if start.parent else None,
        tags=dict(start.tags),
    )


def next_row(instance: Instance, execution_id: str, status: StatusChange) -> InstanceRecord:
    """The status row after a commit."""
    row = instance.row
    if status.started is None:
        changed = msgspec.structs.replace(
            row,
            execution_id=execution_id,
            runtime_status=status.runtime_status,
            updated_at=status.updated_at.astimezone(UTC),
            output=status.output,
        )
    else:
        changed = first_row(status.started, execution_id, status)
        if status.started.start_id != instance.start_id:
            return changed
        changed = msgspec.structs.replace(changed, created_at=row.created_at)
    custom_status = row.custom_status if status.custom_status is msgspec.UNSET else status.custom_status
    return msgspec.structs.replace(changed, custom_status=custom_status)


def matches(query: InstanceQuery, row: InstanceRecord) -> bool:
    """Whether a row is among those the query asks for, on whichever page."""
    prefix = query.instance_id_prefix or ""
    return (
        row.instance_id.startswith(prefix)
        and (prefix.startswith(ENTITY) or not row.instance_id.startswith(ENTITY))
        and (query.created_from is None or row.created_at >= query.created_from)
        and (query.created_to is None or row.created_at <= query.created_to)
        and (not query.statuses or row.runtime_status in query.statuses)
        and (query.name is None or row.name.translate(_LOWER) == query.name.translate(_LOWER))
    )
