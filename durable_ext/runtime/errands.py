"""What must reach the store in the end, and is done in the background: outcomes, and what is given back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any

from durable_ext.clock import Clock, wait
from durable_ext.messages import WorkItem, WorkReceipt
from durable_ext.runtime import backoff
from durable_ext.runtime.calls import Outcome
from durable_ext.runtime.state import Arrival, LocalOutcome
from durable_ext.storage.contract import Delivery, Store

logger = logging.getLogger(__name__)


def spawn(coroutine: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]], name: str | None = None) -> None:
    """A task that is one of `tasks` until it is done."""
    task = asyncio.get_running_loop().create_task(coroutine, name=name)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def wait_or_cancel(clock: Clock, tasks: Iterable[asyncio.Task[None]], patience: float, last_words: float) -> None:
    """Wait so long for tasks to end; cancel the rest, and give them `last_words` seconds to notice."""
    awaited = set(tasks)
    unfinished = await wait(clock, awaited, patience)
    late = {each for each in awaited if each in unfinished}
    for task in late:
        logger.warning("%s does not come to an end; what it holds is delivered again", task.get_name())
        task.cancel()
    await wait(clock, late, last_words)


class Errands:
    """Calls of the store that are made until they succeed, and that a stop waits for."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._under_way: set[asyncio.Task[None]] = set()
        self._expected: dict[WorkReceipt, asyncio.Future[bool]] = {}

    @property
    def is_idle(self) -> bool:
        """Whether none is under way."""
        return not self._under_way

    def expect(self, item: WorkItem) -> asyncio.Future[bool]:
        """True once the outcome of this call is stored as a message, False once there will be none from here."""
        return self._expected.setdefault(item.receipt, asyncio.get_running_loop().create_future())

    def is_expected(self, item: WorkItem) -> bool:
        """Whether somebody waits until the outcome of this call is stored."""
        return bool(self._expected) and item.receipt in self._expected

    def complete(self, item: WorkItem, outcome: Outcome) -> None:
        """Store an outcome, for whoever runs the instance."""
        self._until_done(
            f"store the outcome of activity '{item.name}' of {item.instance_id}", partial(self._complete, item, outcome)
        )

    async def _complete(self, item: WorkItem, outcome: Outcome) -> None:
        await self._store.complete_work(item, outcome)
        self._tell(item, is_stored=True)

    def _tell(self, item: WorkItem, *, is_stored: bool) -> None:
        expecting = self._expected.pop(item.receipt, None)
        if expecting is not None and not expecting.done():
            expecting.set_result(is_stored)

    def give_work_back(self, items: Sequence[WorkItem], pause: float = 0.0) -> None:
        """Leave calls to whoever has a slot for them."""
        for each in items:
            self._tell(each, is_stored=False)
        self._until_done("give activity calls back", partial(self._store.give_back_work, list(items), pause))

    def give_back(self, arrivals: Iterable[Arrival], pause: float) -> None:
        """Leave what arrived to a later turn, here or elsewhere."""
        messages: list[Delivery] = []
        for each in arrivals:
            if isinstance(each, LocalOutcome):
                self.complete(each.item, each.event)
            else:
                messages.append(each)
        if messages:
            self._until_done("give messages back", partial(self._store.give_back, messages, pause))

    async def finish(self, patience: float) -> None:
        """Wait for all of them, up to `patience` seconds."""
        await wait_or_cancel(self._clock, self._under_way, patience, patience)

    def _until_done(self, what: str, call: Callable[[], Awaitable[None]]) -> None:
        spawn(backoff.retry_forever(what, call, self._clock), self._under_way, f"durable: {what}")
