"""The worker: takes messages from the store, runs turns, commits them, and runs the activities they call.

One instance has one turn at a time; whatever arrives meanwhile goes together into the next. A turn is: begin (what is
committed, what is news), admit (what of it counts), advance (user code), commit, and only then start the activities
the commit claimed. Nothing of a turn has an effect before its commit, so a worker may die anywhere.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from durable_ext.codec import Codec
from durable_ext.engine.turn import EngineOptions
from durable_ext.errors import VersionConflictError
from durable_ext.history import TaskCompleted, TaskFailed
from durable_ext.messages import WorkItem
from durable_ext.registry import Registry
from durable_ext.runtime import backoff
from durable_ext.runtime.activities import MAX_DELIVERIES, Activities
from durable_ext.runtime.fetcher import Fetcher
from durable_ext.runtime.residents import Resident, Residents
from durable_ext.runtime.turns import LocalOutcome, TurnBrokenError, Turns
from durable_ext.settings import Settings
from durable_ext.storage.contract import SUSPECT_DELIVERIES, DeadLetter, Delivery, Store

logger = logging.getLogger(__name__)

SUSPECT_DEATHS = 3
"""Once this many workers died over a message, its instance's turn runs with nothing beside it."""

TRIAL_DEATHS = 6
"""From here on the messages of other suspects are out of reach while it runs."""

TRIAL_SECONDS = 30.0
"""How long they are: enough for a process to die and be started again."""

MAX_CONFLICTS = 5
"""Lost version checks in a row after which the messages are left to whoever wins."""

SWEEP_INTERVAL = 5.0
"""Seconds between two sweeps."""

TURNS_IN_FLIGHT = 256
"""Turns begun and not yet committed, at most. Most of them wait for the store, which commits many at once."""

BUFFERED_INSTANCES = 2_000
"""With this many instances waiting for a turn, nothing more is received."""


def utcnow() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class Worker:
    """Drives the instances of one store with the functions of one app, from `start` to `stop`.

    `warm_instances` bounds the orchestrators kept in memory while they wait.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        settings: Settings,
        codec: Codec,
        options: EngineOptions,
        clock: Callable[[], datetime] = utcnow,
        *,
        warm_instances: int = 1_000,
    ) -> None:
        self._store, self._registry, self._settings, self._codec = store, registry, settings, codec
        self._options, self._clock = options, clock
        self._residents = Residents(warm_instances, settings.extended_session_idle_timeout_in_seconds)
        self._due: deque[Resident] = deque()
        self._suspects: deque[Resident] = deque()
        self._runners: set[asyncio.Task[None]] = set()
        self._isolation: asyncio.Task[None] | None = None
        self._is_trial_over = False
        self._is_quiet = False  # no turn may start: a suspect's runs, or is next
        self._runners_gone: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._chores: set[asyncio.Task[None]] = set()
        self._services: list[asyncio.Task[None]] = []
        self._is_stopping = False
        self._end: asyncio.Task[None] | None = None

    # --- life ----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Become the store's host and begin to work. Raises `StoreInUseError` if it has one already."""
        self._loop = asyncio.get_running_loop()
        await self._store.host(f"process {os.getpid()} on {socket.gethostname()}")
        self._activities = Activities(
            self._registry.activities,
            self._codec,
            self._settings.max_concurrent_activity_functions,
            self._clock,
            self._settle,
        )
        self._fetcher = Fetcher(self._store, self._activities, self._chore)
        self._turns = Turns(
            self._store,
            self._registry,
            self._codec,
            self._options,
            self._clock,
            self._claim,
            self._activities,
            self._settings.max_concurrent_orchestrator_functions,
        )
        self._services = [
            self._loop.create_task(self._receive(), name="durable: receive messages"),
            self._loop.create_task(self._sweep(), name="durable: sweep"),
        ]
        self._start_fetching()

    def _start_fetching(self) -> None:
        self._fetching = self._loop.create_task(self._fetcher.run(), name="durable: fetch activity calls")

    async def stop(self, grace: float) -> None:
        """Stop taking work, let turns commit, give activities `grace` seconds, and return the rest to the store.

        Outcomes that exist are stored; calls without one are offered again, uncounted. Calling it again waits for
        the first call.
        """
        if not self._services:
            return
        if self._end is None:
            self._end = self._loop.create_task(self._stop(grace), name="durable: stop")
        await asyncio.shield(self._end)

    async def _stop(self, grace: float) -> None:
        self._is_stopping = True
        services = [*self._services, self._fetching]
        for service in services:
            service.cancel()
        await asyncio.wait(services)
        if self._isolation is not None:
            self._isolation.cancel()
            await asyncio.wait([self._isolation])
        patience = max(grace, 5.0)
        await self._wait_or_cancel(self._runners, patience)
        unfinished = await self._activities.close(grace)
        if unfinished:
            self._chore(backoff.insist("give activity calls back", partial(self._store.give_back_work, unfinished)))
        for resident in self._residents:
            if resident.inbox:
                self._return(resident.inbox, 0.0)
                resident.inbox = []
        await self._wait_or_cancel(self._chores, patience)
        self._residents.clear()

    async def _wait_or_cancel(self, tasks: set[asyncio.Task[None]], patience: float) -> None:
        if not tasks:
            return
        _, late = await asyncio.wait(set(tasks), timeout=patience)
        for task in late:
            logger.warning("%s does not come to an end; what it holds is delivered again", task.get_name())
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=patience)

    def _chore(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Do something in the background that the stop waits for."""
        task = self._loop.create_task(coroutine)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    # --- services ------------------------------------------------------------------------------------

    async def _receive(self) -> None:
        failures = 0
        while True:
            try:
                deliveries = await self._store.receive()
                failures = 0
            except Exception:
                failures += 1
                pause = backoff.delay(failures)
                logger.exception("cannot receive messages; next try in %.1f s", pause)
                await asyncio.sleep(pause)
                continue
            for each in deliveries:
                self._deliver(each)
            if len(self._due) >= BUFFERED_INSTANCES:
                self._room = self._loop.create_future()
                await self._room

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            self._residents.evict_idle()
            try:
                await self._store.sweep()
            except Exception:
                logger.exception("cannot sweep; next try in %.0f s", SWEEP_INTERVAL)

    # --- what arrives --------------------------------------------------------------------------------

    def _deliver(self, delivery: Delivery) -> None:
        resident = self._residents.get(delivery.instance_id)
        resident.inbox.append(delivery)
        if delivery.deaths:
            resident.deaths = max(resident.deaths, delivery.deaths)
        if not resident.is_queued:
            resident.is_queued = True
            self._line_up(resident)

    def _settle(self, item: WorkItem, outcome: TaskCompleted | TaskFailed) -> None:
        """An activity has ended: its outcome goes into the next turn, or to wherever that is run."""
        gave_up = item.deliveries > MAX_DELIVERIES
        # The outcome of a suspect becomes a message of its own first. Should the turn it leads to be what kills the
        # process, then that is what is counted, and the activity is not blamed for it.
        is_suspect = item.deliveries >= SUSPECT_DELIVERIES and not gave_up
        if is_suspect or self._is_stopping or not self._store.is_local(item.instance_id):
            self._complete(item, outcome)
            return
        letter = None
        if gave_up and isinstance(outcome, TaskFailed):
            letter = DeadLetter(
                kind="activity",
                instance_id=item.instance_id,
                name=item.name,
                payload=item.input,
                reason=outcome.reason,
                created_at=outcome.timestamp,
            )
        self._deliver(
            LocalOutcome(
                receipt=item.receipt,
                instance_id=item.instance_id,
                execution_id=item.execution_id,
                event=outcome,
                item=item,
                letter=letter,
            )
        )

    def _complete(self, item: WorkItem, outcome: TaskCompleted | TaskFailed) -> None:
        self._chore(
            backoff.insist(
                f"store the outcome of activity '{item.name}' of {item.instance_id}",
                lambda: self._store.complete_work(item, outcome),
            )
        )

    def _return(self, deliveries: Sequence[Delivery], delay: float) -> None:
        """Leave these to a later turn, here or elsewhere."""
        messages = []
        for each in deliveries:
            if isinstance(each, LocalOutcome):
                self._complete(each.item, each.event)
            else:
                messages.append(each)
        if messages:
            self._chore(backoff.insist("give messages back", lambda: self._store.give_back(messages, delay)))

    def _claim(self, wanted: int) -> int:
        """Slots for activities of a turn that is about to commit."""
        if self._is_stopping or self._fetcher.is_wary:
            return 0
        return self._activities.reserve(wanted)

    # --- turns ---------------------------------------------------------------------------------------

    def _line_up(self, resident: Resident) -> None:
        if resident.deaths >= SUSPECT_DEATHS:
            self._suspects.append(resident)
            if self._isolation is None and not self._is_stopping:
                self._isolation = self._loop.create_task(self._isolate(), name="durable: isolated turns")
            return
        self._due.append(resident)
        self._start_runner()

    def _start_runner(self) -> None:
        if self._is_quiet or self._is_stopping or len(self._runners) >= TURNS_IN_FLIGHT:
            return
        runner = self._loop.create_task(self._run(), name="durable: turns")
        self._runners.add(runner)
        runner.add_done_callback(self._runner_done)

    def _runner_done(self, runner: asyncio.Task[None]) -> None:
        self._runners.discard(runner)
        if not runner.cancelled() and (error := runner.exception()) is not None:
            logger.error("a runner of turns broke down; another takes over", exc_info=error)
        if self._runners_gone is not None and not self._runners and not self._runners_gone.done():
            self._runners_gone.set_result(None)
        if self._due:
            self._start_runner()

    async def _run(self) -> None:
        due = self._due
        while due and not self._is_quiet and not self._is_stopping:
            resident = due.popleft()
            if self._room is not None and not self._room.done() and len(due) < BUFFERED_INSTANCES // 2:
                self._room.set_result(None)
            if resident.deaths >= SUSPECT_DEATHS:
                self._line_up(resident)
            else:
                await self._turn(resident)

    async def _isolate(self) -> None:
        """Run the turns of suspects, each with no activity and no other turn beside it."""
        try:
            while self._suspects:
                self._activities.bar()
                self._fetching.cancel()
                await asyncio.wait([self._fetching])
                if unstarted := self._activities.withdraw():
                    await backoff.insist("give activity calls back", partial(self._store.give_back_work, unstarted))
                await self._activities.until(lambda: self._activities.is_quiet)
                self._is_quiet = True
                if self._runners:
                    self._runners_gone = self._loop.create_future()
                    await self._runners_gone
                    self._runners_gone = None
                    if not self._activities.is_quiet:  # the last turns claimed some
                        self._end_quiet()
                        continue
                await self._store_outcomes()
                suspect = self._suspects.popleft()
                logger.warning(
                    "workers died over instance %s; its turn runs with nothing beside it", suspect.instance_id
                )
                if suspect.deaths >= TRIAL_DEATHS and not self._is_trial_over:
                    await self._hide_other_suspects()
                await self._turn(suspect)
                self._is_trial_over = True
                self._end_quiet()
        finally:
            self._isolation = None
            self._activities.unbar()
            self._end_quiet()
            if not self._is_stopping and self._fetching.done():
                self._start_fetching()

    async def _store_outcomes(self) -> None:
        """Make the outcomes durable that no turn has taken yet.

        Should the process die of the next turn, the activities they come from are not blamed for it.
        """
        for resident in self._residents:
            kept = []
            for each in resident.inbox:
                if isinstance(each, LocalOutcome) and each.letter is None:
                    self._complete(each.item, each.event)
                else:
                    kept.append(each)
            resident.inbox = kept
        while self._chores:
            await asyncio.wait(self._chores)

    async def _hide_other_suspects(self) -> None:
        """See that a death during the next turn is counted against that one only.

        A death counts against every message in hand, and who waits behind a killer would be condemned with it. Only
        before the first of a worker's life: if that goes well, the others are not what it died of before; if not,
        the killer is the first of the next life.
        """
        others, hidden = list(self._suspects), []
        self._suspects.clear()
        for each in others:
            hidden += each.inbox
            each.inbox = []
            each.clear()
            each.is_queued = False
            self._residents.rest(each)
        if hidden:
            await backoff.insist("hide messages", partial(self._store.give_back, hidden, TRIAL_SECONDS))

    def _end_quiet(self) -> None:
        self._is_quiet = False
        for _ in range(len(self._due)):
            self._start_runner()

    async def _turn(self, resident: Resident) -> None:
        deliveries, resident.inbox = resident.inbox, []
        try:
            deferred = await self._turns.run(resident, deliveries)
        except VersionConflictError:
            self._lost(resident, deliveries)
        except TurnBrokenError as fault:
            resident.faults += 1
            resident.fault = fault
            logger.exception("a turn of %s broke down (failure %d)", resident.instance_id, resident.faults)
            self._put_off(resident, deliveries, backoff.delay(resident.faults))
        except Exception:
            resident.failures += 1
            pause = backoff.delay(resident.failures)
            logger.exception("cannot store the turn of %s; next try in %.1f s", resident.instance_id, pause)
            self._put_off(resident, deliveries, pause)
        except BaseException:
            resident.forget()
            resident.inbox = deliveries + resident.inbox
            raise
        else:
            resident.clear()
            if deferred:
                resident.deferrals += 1
                self._put_off(resident, deferred, backoff.delay(resident.deferrals))
                return
            resident.deferrals = 0
            if resident.inbox:
                self._due.append(resident)  # whoever runs this turn goes on with what is due
            else:
                resident.is_queued = False
                self._residents.rest(resident)

    def _lost(self, resident: Resident, deliveries: list[Delivery]) -> None:
        """Somebody else moved the instance: read it anew, or leave it to them if that keeps happening."""
        resident.conflicts += 1
        logger.debug("turn of %s lost its version check (%d)", resident.instance_id, resident.conflicts)
        if resident.conflicts < MAX_CONFLICTS:
            self._put_off(resident, deliveries, backoff.delay(resident.conflicts, first=0.005))
            return
        resident.forget()
        resident.clear()
        waiting, resident.inbox = [*deliveries, *resident.inbox], []
        logger.warning("turns of %s keep losing their version check; its messages go back", resident.instance_id)
        self._return(waiting, 1.0)
        resident.is_queued = False
        self._residents.rest(resident)

    def _put_off(self, resident: Resident, deliveries: Sequence[Delivery], delay: float) -> None:
        """Try these again later, ahead of what arrives meanwhile: messages keep their order."""
        resident.forget()
        resident.inbox = [*deliveries, *resident.inbox]
        self._loop.call_later(delay, self._line_up, resident)
