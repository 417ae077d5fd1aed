"""The host's view of the inbox table: what goes to `receive`, in which order, and when.

Messages just committed go straight to the receiver. Beyond a bound that stops, and the table is read on in pages,
in the order of ids, from the last message taken into memory. Messages for later are not kept in memory at all: one
timer waits for the earliest of them, and then they are read in pages too, in the order of their times.

Everything here runs on the event loop, in commit order (see `writer`), so it is never ahead of the table and never
behind an acknowledged commit.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import accumulate
from operator import itemgetter
from typing import Any, NamedTuple

from durable_ext.clock import Alarm, Clock
from durable_ext.storage.contract import Delivery, Receipt
from durable_ext.storage.sqlite.message_rows import FIELDS, Stored, delivery, delivery_of
from durable_ext.storage.sqlite.schema import to_micros
from durable_ext.storage.sqlite.tables import KEPT, NOW
from durable_ext.storage.sqlite.writer import Transaction, Writer

READY_LIMIT = 4096
LOW_WATER = 1024
PAGE = 1024
BATCH = 512

# The loop's timers run on another clock than the times in messages, which can be set or sleep: look again now and then.
LONGEST_NAP = 30.0

logger = logging.getLogger(__name__)


class Cursor(NamedTuple):
    """How far the table was read: up to a message id, and among the messages for later up to a time and id."""

    message_id: int
    due: tuple[int, int]


class _Page(NamedTuple):
    asked: Cursor
    deliveries: list[Delivery]
    cursor: Cursor
    is_all_at_once: bool
    next_due: int | None


class Inbox:
    """What this host has to receive."""

    def __init__(self, writer: Writer, clock: Clock) -> None:
        self._writer, self._clock = writer, clock
        self._ready: deque[Delivery] = deque()
        # All messages in memory: ready, waiting after they were given back, or handed out; and of them the last.
        self._in_hand: set[Receipt] = set()
        self._handed_out: set[Receipt] = set()
        self._given_back: set[Alarm] = set()
        self._arrived = asyncio.Event()
        self._cursor = Cursor(0, (0, 0))
        self._is_behind = True
        self._is_reading = False
        self._next_due: int | None = None
        self._timer: Alarm | None = None
        self._naps_until = 0
        self._closed: Exception | None = None

    def start(self) -> None:
        """Read what is there."""
        self._next_due = 0
        self._refill()

    def close(self, reason: Exception) -> None:
        """Wake everybody who waits, with an error."""
        self._closed = reason
        for alarm in (self._timer, *self._given_back):
            if alarm is not None:
                alarm.cancel()
        self._arrived.set()

    async def take(self) -> list[Delivery]:
        """The next messages, at least one."""
        while True:
            batch: list[Delivery] = []
            while self._ready and len(batch) < BATCH:
                each = self._ready.popleft()
                if each.receipt in self._in_hand:  # else its instance was purged or replaced meanwhile
                    batch.append(each)
            self._refill()
            if batch:
                self._handed_out.update(each.receipt for each in batch)
                return batch
            if self._closed is not None:
                raise self._closed
            self._arrived.clear()
            await self._arrived.wait()

    def in_hand(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Those whose message was neither consumed, kept nor removed, as far as this process knows; each once."""
        unique = {each.receipt: each for each in deliveries if each.receipt in self._in_hand}
        return list(unique.values())

    def give_back(self, deliveries: Sequence[Delivery], delay: float) -> None:
        """Offer again, after so many seconds, what was handed out.

        Only memory knows: this works with a disk that is full, and whatever opens the file next need not wait.
        """
        returned = [each for each in self.in_hand(deliveries) if each.receipt in self._handed_out]
        self._handed_out.difference_update(each.receipt for each in returned)
        if delay <= 0:
            self._offer_again(returned)
            return

        def time_is_up() -> None:
            self._given_back.discard(alarm)
            self._offer_again(returned)

        alarm = self._clock.call_later(delay, time_is_up)
        self._given_back.add(alarm)

    def _offer_again(self, returned: Sequence[Delivery]) -> None:
        self._ready.extend(returned)
        self._arrived.set()

    # --- what has become durable ---------------------------------------------------------------------------

    def stored(self, messages: Sequence[Stored]) -> None:
        """Messages were added to the table by this process."""
        for each in messages:
            visible_at = each.outgoing.visible_at
            if visible_at:
                self._expect(visible_at)
            if self._is_behind:
                continue
            # A gap in the ids: another process has stored messages in between, and they come first.
            if each.message_id != self._cursor.message_id + 1 or len(self._ready) >= READY_LIMIT:
                self._is_behind = True
                continue
            self._cursor = Cursor(each.message_id, self._cursor.due)
            if not visible_at:
                self._push(delivery_of(each))
        self._refill()

    def gone(self, message_ids: Iterable[int]) -> None:
        """Messages are no longer in the table, or no longer to be delivered."""
        gone = list(message_ids)
        self._in_hand.difference_update(gone)
        self._handed_out.difference_update(gone)

    def others_wrote(self) -> None:
        """Another process has changed the table."""
        self._is_behind = True
        self._next_due = 0
        self._refill()

    def sweep(self) -> None:
        """Look whether everything that should be in memory is."""
        self._writer.submit(partial(_covered, cursor=self._cursor), self._compare).add_done_callback(_log_failure)
        self._refill()

    # --- reading on --------------------------------------------------------------------------------------

    def _refill(self) -> None:
        if self._is_reading or self._closed is not None or len(self._ready) >= LOW_WATER:
            return
        if not self._is_behind and self._next_due is None:
            self._forget_nap()
            return
        now = to_micros(self._clock.now())
        if self._is_behind or (self._next_due is not None and self._next_due <= now):
            self._is_reading = True
            reading = self._writer.submit(partial(_read_page, cursor=self._cursor, now=now), self._add)
            reading.add_done_callback(self._on_read)
        else:
            self._nap(now)

    def _on_read(self, reading: asyncio.Future[_Page]) -> None:
        # After a failure the next sweep tries again.
        self._is_reading = False
        if not _log_failure(reading):
            self._refill()

    def _add(self, page: _Page) -> None:
        for each in page.deliveries:
            self._push(each)
        # Whoever stepped back since the page was asked for has a reason, and the page cannot know it.
        stepped_back = self._cursor.message_id < page.asked.message_id
        if not stepped_back:
            self._cursor = self._cursor._replace(message_id=page.cursor.message_id)
        self._is_behind = stepped_back or not page.is_all_at_once
        if self._cursor.due < page.asked.due:
            self._next_due = 0
        else:
            self._cursor = self._cursor._replace(due=page.cursor.due)
            self._next_due = page.next_due

    def _push(self, each: Delivery) -> None:
        if each.receipt not in self._in_hand:
            self._in_hand.add(each.receipt)
            self._ready.append(each)
            self._arrived.set()

    def _compare(self, covered: list[tuple[int, int]]) -> None:
        """Rows the cursor has passed. Any that is not in memory slipped through: step back and read it again."""
        for number, visible_at in covered:
            if number in self._in_hand:
                continue
            if visible_at and (visible_at, number) <= self._cursor.due:
                self._cursor = self._cursor._replace(due=(visible_at, number - 1))
                self._next_due = 0
            elif not visible_at and number <= self._cursor.message_id:
                self._cursor = self._cursor._replace(message_id=number - 1)
                self._is_behind = True
            else:
                continue
            logger.warning("message %d was in no one's hands; it is offered again", number)
        self._refill()

    # --- waiting for a time --------------------------------------------------------------------------------

    def _expect(self, visible_at: int) -> None:
        """A message is due at this time."""
        if visible_at <= self._cursor.due[0]:
            self._cursor = self._cursor._replace(due=(visible_at - 1, 0))
        if self._next_due is None or visible_at < self._next_due:
            self._next_due = visible_at

    def _nap(self, now: int) -> None:
        assert self._next_due is not None
        if self._timer is not None and self._naps_until == self._next_due:
            return
        self._forget_nap()
        delay = min((self._next_due - now) / 1_000_000, LONGEST_NAP)
        self._timer, self._naps_until = self._clock.call_later(delay, self._wake), self._next_due

    def _wake(self) -> None:
        self._timer = None
        self._refill()

    def _forget_nap(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


# As the index has it.
_FOR_LATER = f"visible_at > {KEPT}"


def _read_page(tx: Transaction, cursor: Cursor, now: int) -> _Page:
    at_once = tx.execute(
        f"SELECT {FIELDS} FROM inbox WHERE id > ? AND visible_at = {NOW} ORDER BY id LIMIT ?",
        (cursor.message_id, PAGE),
    ).fetchall()
    is_all_at_once = len(at_once) < PAGE
    later = tx.execute(
        f"SELECT {FIELDS}, visible_at FROM inbox WHERE {_FOR_LATER} AND (visible_at, id) > (?, ?) "
        f"AND visible_at <= ? ORDER BY visible_at, id LIMIT ?",
        (*cursor.due, now, PAGE),
    ).fetchall()
    if len(later) == PAGE:
        next_due = 0
    else:
        (next_due,) = tx.execute(
            f"SELECT min(visible_at) FROM inbox WHERE {_FOR_LATER} AND visible_at > ?", (now,)
        ).fetchone()
    return _Page(
        asked=cursor,
        deliveries=_in_time(
            [delivery(row, now) for row in at_once], [(row[-1], delivery(row[:-1], now)) for row in later]
        ),
        cursor=Cursor(
            message_id=_last_message_id(tx) if is_all_at_once else at_once[-1][0],
            due=(later[-1][-1], later[-1][0]) if later else cursor.due,
        ),
        is_all_at_once=is_all_at_once,
        next_due=next_due,
    )


def _in_time(at_once: Sequence[Delivery], later: Sequence[tuple[int, Delivery]]) -> list[Delivery]:
    """Both in the order in which they became due: after downtime a timer that was due first comes first.

    What is for at once keeps its order, whatever the clocks of those who sent it say.
    """
    times = accumulate((to_micros(each.event.timestamp) for each in at_once), max)
    return [each for _, each in heapq.merge(zip(times, at_once, strict=True), later, key=itemgetter(0))]


def _last_message_id(tx: Transaction) -> int:
    """The highest message id ever given."""
    row = tx.execute("SELECT seq FROM sqlite_sequence WHERE name = 'inbox'").fetchone()
    return row[0] if row else 0


def _covered(tx: Transaction, cursor: Cursor) -> list[tuple[int, int]]:
    at_once = tx.execute(
        f"SELECT id, {NOW} FROM inbox WHERE visible_at = {NOW} AND id <= ?", (cursor.message_id,)
    ).fetchall()
    later = tx.execute(
        f"SELECT id, visible_at FROM inbox WHERE {_FOR_LATER} AND (visible_at, id) <= (?, ?)", cursor.due
    ).fetchall()
    return at_once + later


def _log_failure(future: asyncio.Future[Any]) -> bool:
    if future.cancelled() or future.exception() is None:
        return False
    logger.error("reading the inbox failed; the next sweep tries again", exc_info=future.exception())
    return True
