"""The host's view of the work table: whether anything waits there, and who waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial

from durable_ext.messages import WorkItem, WorkReceipt
from durable_ext.storage.sqlite.statements import Claimed, claim_work
from durable_ext.storage.sqlite.writer import Writer


class Workload:
    """What this host has to run. Work items stay in the table until somebody has a use for them."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._may_be_waiting = True
        self._offered = asyncio.Event()
        # Claimed for a caller who was cancelled meanwhile; the next one gets them.
        self._spare: deque[WorkItem] = deque()
        self._closed: Exception | None = None

    def close(self, reason: Exception) -> list[WorkReceipt]:
        """Wake everybody who waits, with an error. Returns what is claimed and was handed to nobody."""
        self._closed = reason
        self._offered.set()
        return [each.receipt for each in self._spare]

    def offer(self) -> None:
        """Work items were added to the table, or may have been."""
        self._may_be_waiting = True
        self._offered.set()

    async def take(self, limit: int) -> list[WorkItem]:
        """Claim the next work items, at least one."""
        while True:
            if self._closed is not None:
                raise self._closed
            if self._spare:
                return [self._spare.popleft() for _ in range(min(limit, len(self._spare)))]
            if self._may_be_waiting:
                items = await self._claim(limit)
                if items:
                    return items
            else:
                self._offered.clear()
                await self._offered.wait()

    async def _claim(self, limit: int) -> list[WorkItem]:
        claim = self._writer.submit(partial(claim_work, limit=limit), self._settle)
        try:
            return (await asyncio.shield(claim)).items
        except asyncio.CancelledError:
            claim.add_done_callback(self._keep)
            raise

    def _settle(self, claimed: Claimed) -> None:
        # In commit order: whatever is offered after this claim sets it again.
        self._may_be_waiting = not claimed.is_all

    def _keep(self, claim: asyncio.Future[Claimed]) -> None:
        if not claim.cancelled() and claim.exception() is None:
            self._spare.extend(claim.result().items)
            self._offered.set()
