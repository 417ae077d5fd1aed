"""Takes activity calls out of the store as slots come free, and keeps suspects apart from the rest."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from durable_ext.messages import WorkItem
from durable_ext.runtime import backoff
from durable_ext.runtime.activities import MAX_DELIVERIES, Activities
from durable_ext.storage.contract import SUSPECT_DELIVERIES, Store

logger = logging.getLogger(__name__)


class Fetcher:
    """The loop that feeds `Activities` from the store.

    A call that came back too often runs alone: what else came with it is given back uncounted, what runs is waited
    for, and nothing is fetched or claimed until it has ended. So it kills at most itself, and an innocent call that
    happened to run beside a killer is cleared by the same treatment instead of being condemned with it.
    """

    def __init__(
        self, store: Store, activities: Activities, chore: Callable[[Coroutine[Any, Any, None]], None]
    ) -> None:
        self._store, self._activities, self._chore = store, activities, chore
        self.is_wary = False

    async def run(self) -> None:
        """Fetch until cancelled. It may be run again after that."""
        failures = 0
        while True:
            try:
                await self._fetch()
                failures = 0
            except Exception:
                failures += 1
                pause = backoff.delay(failures)
                logger.exception("cannot fetch activity calls; next try in %.1f s", pause)
                await asyncio.sleep(pause)

    async def _fetch(self) -> None:
        activities = self._activities
        if self.is_wary:
            await activities.until(lambda: activities.is_idle and not activities.is_barred)
            items = await self._store.receive_work(1)
        else:
            if not activities.free:
                await activities.until(lambda: activities.free > 0)
            items = await self._store.receive_work(activities.free)
        suspects = [each for each in items if SUSPECT_DELIVERIES <= each.deliveries <= MAX_DELIVERIES]
        if not suspects:
            self.is_wary = False
            activities.start(items)
        elif len(items) == 1 and activities.is_idle:
            await self._run_alone(suspects[0])
        else:
            self._set_apart(items, suspects)

    def _set_apart(self, items: list[WorkItem], suspects: list[WorkItem]) -> None:
        self.is_wary = True
        self._activities.start([each for each in items if each not in suspects])
        # Not awaited: nobody would have them if this were cancelled in between.
        self._chore(backoff.insist("give suspect activity calls back", lambda: self._store.give_back_work(suspects)))

    async def _run_alone(self, suspect: WorkItem) -> None:
        self.is_wary = True
        logger.warning(
            "activity '%s' of %s was started %d times and never ended; now no other activity runs beside it",
            suspect.name,
            suspect.instance_id,
            suspect.deliveries - 1,
        )
        self._activities.start([suspect])
        await self._activities.until(lambda: self._activities.is_idle)
