"""The host's view of the work table: whether anything waits there, and who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from durable_ext.clock import Alarm, Clock
from durable_ext.errors import StoreError
from durable_ext.messages import WorkItem
from durable_ext.storage.sqlite.inbox import LONGEST_NAP
from durable_ext.storage.sqlite.schema import to_micros
from durable_ext.storage.sqlite.work_rows import Claimed, claim_work, release_work
from durable_ext.storage.sqlite.writer import Writer


class Workload:
    """What this host has to run. Work items stay in the table until somebody has a use for them."""

    def __init__(self, writer: Writer, clock: Clock) -> None:
        self._writer, self._clock = writer, clock
        self._may_be_waiting = True
        self._offered = asyncio.Event()
        self._timer: Alarm | None = None
        self._closed: Exception | None = None

    def close(self, reason: Exception) -> None:
        """Wake everybody who waits, with an error."""
        self._closed = reason
        self._forget_timer()
        self._offered.set()

    def offer(self) -> None:
        """Work items were added to the table, or may have been."""
        self._may_be_waiting = True
        self._offered.set()

    async def take(self, limit: int) -> list[WorkItem]:
        """Claim the next work items, at least one."""
        while True:
            if self._closed is not None:
                raise self._closed
            if self._may_be_waiting:
                items = await self._claim(limit)
                if items:
                    return items
            else:
                self._offered.clear()
                await self._offered.wait()

    async def give_back(self, items: Sequence[WorkItem], delay: float) -> None:
        """Offer items again after so many seconds, their last try uncounted."""
        due_at = to_micros(self._clock.now()) + round(delay * 1_000_000) if delay > 0 else 0
        receipts = [each.receipt for each in items]
        await self._writer.submit(partial(release_work, receipts=receipts, due_at=due_at), lambda _: self.offer())

    async def _claim(self, limit: int) -> list[WorkItem]:
        now = to_micros(self._clock.now())
        claim = self._writer.submit(partial(claim_work, limit=limit, now=now), self._settle)
        try:
            return (await asyncio.shield(claim)).items
        except asyncio.CancelledError:
            # Shielded: should the caller be cancelled once more, this goes on without it.
            await asyncio.shield(asyncio.ensure_future(self._release(claim)))
            raise

    async def _release(self, claim: asyncio.Future[Claimed]) -> None:
        """What was claimed for a caller who is gone is offered again, uncounted."""
        try:
            if items := (await claim).items:
                await self.give_back(items, 0)
        except StoreError:
            return  # nothing was claimed; or the file is out of order, and the next host frees all claims

    def _settle(self, claimed: Claimed) -> None:
        # In commit order: whatever is offered after this claim sets it again.
        self._may_be_waiting = claimed.next_due == 0
        self._forget_timer()
        if claimed.next_due:
            delay = (claimed.next_due - to_micros(self._clock.now())) / 1_000_000
            self._timer = self._clock.call_later(min(max(delay, 0), LONGEST_NAP), self.offer)

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
