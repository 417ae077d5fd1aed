"""The host's view of the work table: whether anything waits there, and who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from durable_ext.errors import StoreError
from durable_ext.messages import WorkItem
from durable_ext.storage.sqlite.statements import Claimed, claim_work, release_work
from durable_ext.storage.sqlite.writer import Writer


class Workload:
    """What this host has to run. Work items stay in the table until somebody has a use for them."""

    def __init__(self, writer: Writer, now: Callable[[], int]) -> None:
        self._writer, self._now = writer, now
        self._may_be_waiting = True
        self._offered = asyncio.Event()
        self._closed: Exception | None = None

    def close(self, reason: Exception) -> None:
        """Wake everybody who waits, with an error."""
        self._closed = reason
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

    async def _claim(self, limit: int) -> list[WorkItem]:
        claim = self._writer.submit(partial(claim_work, limit=limit, now=self._now()), self._settle)
        try:
            return (await asyncio.shield(claim)).items
        except asyncio.CancelledError:
            # Shielded: should the caller be cancelled once more, this goes on without it.
            await asyncio.shield(asyncio.ensure_future(self._release(claim)))
            raise

    async def _release(self, claim: asyncio.Future[Claimed]) -> None:
        """What was claimed for a caller who is gone is offered again, uncounted."""
        try:
            items = (await claim).items
            await self._writer.submit(partial(release_work, receipts=[each.receipt for each in items]))
        except StoreError:
            return  # nothing was claimed; or the file is out of order, and the next host frees all claims
        self.offer()

    def _settle(self, claimed: Claimed) -> None:
        # In commit order: whatever is offered after this claim sets it again.
        self._may_be_waiting = not claimed.is_all
