"""The activity slots of a worker: which calls run here, on the event loop or on threads, and which wait for a slot."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator
from contextvars import Context
from typing import Any

from durable_ext.clock import Clock, wait
from durable_ext.messages import WorkItem
from durable_ext.runtime.calls import Calls, Outcome, Running
from durable_ext.runtime.logs import current_activity
from durable_ext.runtime.register import Register
from durable_ext.runtime.threads import NoThreadError, Threads, end_thread

logger = logging.getLogger(__name__)

STUCK_AFTER = 60.0
"""Seconds after which a call that keeps others waiting is named in the log, and again after each so many."""


class Activities:
    """Runs calls in at most `limit` slots.

    A slot is taken by `reserve` (for calls that a commit is about to claim) or by `start`; what finds no slot waits
    here in order. `settle` hears each outcome once, on the loop, and says whether the slot is to stay taken for what
    follows from the outcome; then somebody is to `run` another call in it, or to `release` it. `divert` says whether
    it takes a call that is not to run here; `give_back` takes calls that cannot be run now.
    """

    def __init__(
        self,
        calls: Calls,
        limit: int,
        clock: Clock,
        register: Register,
        settle: Callable[[WorkItem, Outcome], bool],
        give_back: Callable[[list[WorkItem]], None],
        divert: Callable[[WorkItem], bool],
    ) -> None:
        self._calls, self._limit, self._clock, self._register = calls, limit, clock, register
        self._settle, self._give_back, self._divert = settle, give_back, divert
        self._loop = asyncio.get_running_loop()
        self._taken = 0
        self._waiting: deque[WorkItem] = deque()
        self._running: set[Running] = set()
        self._threads: Threads | None = None
        self._finished: deque[tuple[Running, Outcome]] = deque()
        self._bell_rung = False
        self._is_starting = False
        self._is_open = True  # calls may be claimed
        self._is_held = False  # no call is begun, whoever asks for it
        self._watchers: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._told_at = clock.monotonic()

    # --- slots ---------------------------------------------------------------------------------------

    @property
    def free(self) -> int:
        """Slots that a call could take now."""
        return max(0, self._limit - self._taken - len(self._waiting)) if self._is_open else 0

    @property
    def is_quiet(self) -> bool:
        """Whether no call runs or is about to; some may wait until `open`."""
        return not self._taken

    @property
    def is_idle(self) -> bool:
        """Whether no call runs, is about to, or waits for a slot."""
        return not self._taken and not self._waiting

    def reserve(self, wanted: int) -> int:
        """Take up to so many slots; return how many. None while closed."""
        granted = min(wanted, self.free)
        self._taken += granted
        return granted

    def release(self, slots: int) -> None:
        """Give back slots unused."""
        self._taken -= slots
        self._next()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition, about slots, holds."""
        while not condition():
            watcher = self._loop.create_future()
            self._watchers.append((condition, watcher))
            await watcher

    def shut(self) -> list[WorkItem]:
        """Have no slot free until `go_on`; return what still waited for one. What is started all the same runs."""
        self._is_open = False
        unstarted = list(self._waiting)
        self._waiting.clear()
        return unstarted

    def hold(self) -> list[WorkItem]:
        """Begin no call until `go_on`; return what still waited for a slot."""
        self._is_held = True
        return self.shut()

    def go_on(self, *, claim: bool) -> None:
        """Begin calls again, and with `claim` have slots free again."""
        self._is_held, self._is_open = False, claim
        self._next()

    def _next(self) -> None:
        if self._is_starting:
            return  # a call ended while it was started: the loop below goes on by itself
        self._is_starting = True
        try:
            while self._waiting and self._taken < self._limit and not self._is_held:
                self._taken += 1
                self.run(self._waiting.popleft())
        finally:
            self._is_starting = False
        if self._watchers:
            self._tell_watchers()

    def _tell_watchers(self) -> None:
        still = []
        for condition, watcher in self._watchers:
            if condition() and not watcher.done():
                watcher.set_result(None)
            elif not watcher.done():
                still.append((condition, watcher))
        self._watchers = still

    # --- running -------------------------------------------------------------------------------------

    def start(self, items: Iterable[WorkItem]) -> None:
        """Run these as slots come free."""
        self._waiting.extend(items)
        self._next()

    def run(self, item: WorkItem) -> None:
        """Run a call in a slot taken for it."""
        known = self._calls.find(item.name)
        if self._divert(item):
            self._free_slot()
        elif known is None:
            self._settled(item, self._calls.unknown(item))
        elif known.is_async:
            self._run_on_loop(Running(item, known.activity))
        else:
            self._run_in_thread(Running(item, known.activity))

    def of_instance(self, instance_id: str) -> Iterator[Running]:
        """The calls of one instance that run here."""
        return (each for each in self._running if each.item.instance_id == instance_id)

    def _run_on_loop(self, running: Running) -> None:
        item = running.item
        context = Context()
        context.run(current_activity.set, item)
        task = running.task = _spawn(self._loop, self._calls.run_async(running), context)
        if task.done() and not task.cancelled() and task.exception() is None:
            self._settled(item, task.result())
        else:
            running.slot, running.began = self._register.enter(item, in_thread=False), self._clock.monotonic()
            self._running.add(running)
            task.add_done_callback(lambda task: self._task_done(running, task))

    def _task_done(self, running: Running, task: asyncio.Task[Outcome]) -> None:
        self._running.discard(running)
        self._register.leave(running.slot)
        if running.is_given_up:
            if not task.cancelled():
                task.exception()  # seen
            return
        # Cancelled by something that cancels every task there is, or interrupted: the process is about to end.
        if task.cancelled() or isinstance(task.exception(), KeyboardInterrupt):
            self._free_slot()
        else:
            self._settled(running.item, task.result())

    def _run_in_thread(self, running: Running) -> None:
        item = running.item
        if self._threads is None:
            self._threads = Threads(self._limit)
        running.slot, running.began = self._register.enter(item, in_thread=True), self._clock.monotonic()
        self._running.add(running)
        try:
            self._threads.submit(lambda: self._call_in_thread(running))
        except NoThreadError as error:
            self._running.discard(running)
            self._register.leave(running.slot)
            logger.error("activity '%s' of %s is given back: %s", item.name, item.instance_id, error)
            self._give_back([item])
            self._free_slot()

    def _call_in_thread(self, running: Running) -> None:
        if running.is_given_up:  # before it began
            end_thread()
        self._finished.append((running, Context().run(self._calls.run_sync, running)))
        # One wake-up serves all that finish before the loop comes round. The flag is lowered before the queue is
        # emptied, so whoever sees it up has its outcome fetched.
        if not self._bell_rung:
            self._bell_rung = True
            try:
                self._loop.call_soon_threadsafe(self._fetch_finished)
            except RuntimeError:
                item = running.item
                logger.warning("activity '%s' of %s ended after its worker", item.name, item.instance_id)
        if running.is_given_up:
            end_thread()

    def _fetch_finished(self) -> None:
        self._bell_rung = False
        while self._finished:
            running, outcome = self._finished.popleft()
            self._register.leave(running.slot)
            if not running.is_given_up:
                self._running.discard(running)
                self._settled(running.item, outcome)

    def _settled(self, item: WorkItem, outcome: Outcome) -> None:
        if not self._settle(item, outcome):
            self._free_slot()

    def _free_slot(self) -> None:
        self._taken -= 1
        if self._waiting or self._watchers:
            self._next()

    # --- giving up -----------------------------------------------------------------------------------

    def cancel(self, instance_id: str, task_ids: Collection[int] | None, why: str) -> list[WorkItem]:
        """Give up calls of an instance, by default all of them, and return them: their slots are free at once.

        An async one is cancelled. A thread cannot be: it is named in the log and left to itself.
        """
        given_up = [each for each in self._waiting if each.instance_id == instance_id and _is_one_of(each, task_ids)]
        if given_up:  # first, or they would take the slots
            self._waiting = deque(each for each in self._waiting if each not in given_up)
        for running in [each for each in self.of_instance(instance_id) if _is_one_of(each.item, task_ids)]:
            given_up.append(running.item)
            self._give_up(running)
            if running.task is None:
                logger.warning(
                    "activity '%s' of %s does not end although %s; its thread is left to itself, and its slot is free",
                    running.item.name,
                    instance_id,
                    why,
                )
            self._taken -= 1
        self._next()
        return given_up

    def _give_up(self, running: Running) -> None:
        running.is_given_up = True
        self._running.discard(running)
        if running.task is not None:
            running.task.cancel()
        elif self._threads is not None:
            self._threads.let_go()

    def tell_of_stuck(self) -> None:
        """Name in the log what has taken every slot for long."""
        now = self._clock.monotonic()
        if self._taken < self._limit or now - self._told_at < STUCK_AFTER:
            return
        stuck = sorted((each for each in self._running if now - each.began > STUCK_AFTER), key=lambda each: each.began)
        if not stuck:
            return
        self._told_at = now
        named = ", ".join(
            f"'{each.item.name}' of {each.item.instance_id} ({now - each.began:.0f} s)" for each in stuck[:5]
        )
        logger.warning(
            "all %d activity slots are taken, %d of them by calls older than %.0f s: %s%s. Give such calls a timeout, "
            "terminate their instances, or raise maxConcurrentActivityFunctions",
            self._limit,
            len(stuck),
            STUCK_AFTER,
            named,
            " ..." if len(stuck) > 5 else "",
        )

    async def close(self, grace: float) -> list[WorkItem]:
        """Wait up to `grace` seconds for what runs; return the calls that did not end and were not begun.

        Async activities are cancelled then. Threads cannot be: theirs run on, and what they return is not used.
        """
        unstarted = self.hold()
        for running in self._running:
            running.is_last = True
        over = asyncio.ensure_future(self.until(lambda: not self._running))
        if await wait(self._clock, [over], grace):
            over.cancel()
            self._fetch_finished()  # a thread may have ended this instant, and its outcome exists
        late = list(self._running)
        for running in late:
            item = running.item
            logger.warning("activity '%s' of %s did not end in time%s", item.name, item.instance_id, _what_now(running))
            self._give_up(running)
            self._taken -= 1
        cancelled = [each.task for each in late if each.task is not None]
        ignoring = await wait(self._clock, cancelled, 1.0)
        for running in late:
            if running.task in ignoring:
                logger.warning(
                    "activity '%s' of %s ignores its cancellation", running.item.name, running.item.instance_id
                )
        if self._threads is not None:
            self._threads.close()
        return [each.item for each in late] + unstarted


def _is_one_of(item: WorkItem, task_ids: Collection[int] | None) -> bool:
    return task_ids is None or item.task_id in task_ids


def _what_now(running: Running) -> str:
    return "; its thread is left" if running.task is None else ", and is cancelled"


if sys.version_info >= (3, 12):

    def _spawn(
        loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Outcome], context: Context
    ) -> asyncio.Task[Outcome]:
        """A task that has run up to its first suspension: most activities in a chain never wait for the loop."""
        return asyncio.Task(coroutine, loop=loop, context=context, eager_start=True)

else:

    def _spawn(
        loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Outcome], context: Context
    ) -> asyncio.Task[Outcome]:
        return loop.create_task(coroutine, context=context)
