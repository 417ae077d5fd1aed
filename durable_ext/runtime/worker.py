"""The worker: takes messages and activity calls from the store, and keeps every instance in its round.

One instance has one turn at a time; whatever arrives meanwhile goes together into the next. What a turn does is in
`turns`; what may be in memory, and where it is in its round, in `instances`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from durable_ext.clock import Clock, sleep, wait
from durable_ext.errors import VersionConflictError
from durable_ext.history import ExecutionStarted
from durable_ext.messages import WorkItem
from durable_ext.runtime import backoff
from durable_ext.runtime.activities import Activities
from durable_ext.runtime.calls import Calls, Outcome
from durable_ext.runtime.errands import Errands, spawn, wait_or_cancel
from durable_ext.runtime.instances import CachedInstance, InstanceCache, Place
from durable_ext.runtime.program import Program
from durable_ext.runtime.quarantine import Quarantine
from durable_ext.runtime.register import Register
from durable_ext.runtime.state import Arrival, LocalOutcome
from durable_ext.runtime.turns import PARK_FOR, BelongsApartError, TurnBrokenError, Turns, UnknownHereError
from durable_ext.settings import Settings
from durable_ext.storage.contract import DeadLetter, Store

logger = logging.getLogger(__name__)

MAX_CONFLICTS = 5
"""Lost version checks in a row after which the messages are left to whoever wins."""

SWEEP_INTERVAL = 5.0
"""Seconds between two sweeps."""

NEIGHBOUR_INTERVAL = 1.0
"""Seconds between two looks whether another process of this machine has died."""

TURNS_IN_FLIGHT = 256
"""Turns begun and not yet committed, at most. Most of them wait for the store, which commits many at once."""

TURNS_APART = 2
"""Turns that run in processes of their own at a time."""

BUFFERED_INSTANCES = 2_000
"""With this many instances waiting for a turn, nothing more is received."""

PARK_DELAY = 5.0
"""Seconds until what is not known here is offered again to all workers of the hub."""

QUIET_BEFORE_ALONE = 10.0
"""Seconds that what runs gets to end before a suspect runs with nothing beside it: it may wait for what is held."""

LAST_WORDS = 5.0
"""Seconds beyond the grace that a stop gives the store to take what there is to store."""


class Worker:
    """Drives the instances of one store with the functions of one app, from `start` to `stop`.

    `warm_instances` bounds the orchestrators kept in memory while they wait. Without `fetch_work` it runs only the
    activity calls that its own turns make and those that are handed to `perform`. `quarantine_command` starts a
    process that runs what may be what killed this one before.
    """

    def __init__(
        self,
        store: Store,
        program: Program,
        settings: Settings,
        clock: Clock,
        *,
        warm_instances: int = 1_000,
        fetch_work: bool = True,
        quarantine_command: Sequence[str] | None = None,
    ) -> None:
        self._store, self._program, self._settings, self._clock = store, program, settings, clock
        self._traits = store.traits
        self._fetches_work, self._quarantine_command = fetch_work, quarantine_command
        self._errands = Errands(store, clock)
        self._instances = InstanceCache(warm_instances, settings.extended_session_idle_timeout_in_seconds, clock)
        self._due: deque[CachedInstance] = deque()
        self._apart: deque[CachedInstance] = deque()
        self._runners: set[asyncio.Task[None]] = set()
        self._runners_apart: set[asyncio.Task[None]] = set()
        self._calls_apart: set[asyncio.Task[None]] = set()
        self._services: list[asyncio.Task[None]] = []
        self._room: asyncio.Future[None] | None = None
        self._stirs = 0
        self._is_started = self._is_stopping = self._is_held = False
        self._end: asyncio.Task[None] | None = None

    # --- life ----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Become the store's host and begin to work. Raises `StoreInUseError` if it has one already."""
        self._loop = asyncio.get_running_loop()
        await self._store.host(f"process {os.getpid()} on {socket.gethostname()}", self._lost_some)
        traits, settings = self._traits, self._settings
        self._register = Register(traits.directory)
        self._quarantine = Quarantine(self._register, self._program, self._clock, self._quarantine_command, self._alone)
        self._quarantine.take_over(sole=not traits.is_shared)
        calls = Calls(self._program, self._clock, self._register)
        self._activities = Activities(
            calls,
            settings.max_concurrent_activity_functions,
            self._clock,
            self._register,
            self._settle,
            self._errands.give_work_back,
            self._divert,
        )
        self._turns = Turns(
            self._store,
            self._program,
            self._clock,
            calls,
            self._activities,
            self._register,
            self._quarantine,
            settings.max_concurrent_orchestrator_functions,
            self._errands,
        )
        self._housekeeping = [self._loop.create_task(self._sweep(), name="durable: sweep")]
        if traits.is_shared and traits.directory is not None:
            neighbours = self._look_after_neighbours()
            self._housekeeping.append(self._loop.create_task(neighbours, name="durable: look after neighbours"))
        self._is_started = True
        self.resume()

    def resume(self) -> None:
        """Take messages and activity calls again. No effect while that is being done."""
        if self._services or not self._is_started or self._is_stopping:
            return
        if not self._is_held:
            self._activities.go_on(claim=True)
        serve = [("receive messages", self._receive)]
        if self._fetches_work:
            serve.append(("fetch activity calls", self._fetch))
        self._services = [
            self._loop.create_task(backoff.serve_forever(what, once, self._clock), name=f"durable: {what}")
            for what, once in serve
        ]

    async def pause(self) -> None:
        """Take no more messages and activity calls. Turns that are due, sessions and running activities go on."""
        services, self._services = self._services, []
        for service in services:
            service.cancel()
        if services:
            await asyncio.wait(services)
            if unstarted := self._activities.shut():
                self._errands.give_work_back(unstarted)

    async def until_idle(self, quiet: float, deadline: float) -> bool:
        """Wait until nothing was due or running for `quiet` seconds; False if `deadline` seconds pass before."""
        end = self._clock.monotonic() + deadline
        while (left := end - self._clock.monotonic()) > 0:
            seen = self._stirs
            await sleep(self._clock, min(quiet, left))
            if seen == self._stirs and self._is_idle:
                return True
        return False

    @property
    def _is_idle(self) -> bool:
        is_calling = self._calls_apart or not self._activities.is_idle
        return self._instances.is_quiet and not is_calling and self._errands.is_idle

    async def perform(self, item: WorkItem) -> bool:
        """Run an activity call that was not fetched from the store, also while paused.

        True once its outcome is stored; False if none will come from here: its instance has ended, or it was given
        back to the store, as the worker stops or cannot run it now.
        """
        stored = self._errands.expect(item)
        self._activities.start([item])
        return await stored

    async def stop(self, grace: float) -> None:
        """Stop taking work, give turns and activities `grace` seconds, and return the rest to the store.

        Outcomes that exist are stored; calls without one are offered again, uncounted. Calling it again waits for
        the first call.
        """
        if not self._is_started:
            return
        if self._end is None:
            self._end = self._loop.create_task(self._stop(grace), name="durable: stop")
        await asyncio.shield(self._end)

    async def _stop(self, grace: float) -> None:
        self._is_stopping = True
        end = self._clock.monotonic() + grace
        await self.pause()
        await wait_or_cancel(self._clock, self._runners | self._runners_apart, grace, LAST_WORDS)
        unfinished = await self._activities.close(max(0.0, end - self._clock.monotonic()))
        await wait_or_cancel(self._clock, self._calls_apart, max(0.0, end - self._clock.monotonic()), LAST_WORDS)
        await self._quarantine.close()
        for task in self._housekeeping:
            task.cancel()
        if unfinished:
            self._errands.give_work_back(unfinished)
        for instance in self._instances:
            arrivals, instance.inbox = instance.inbox, []
            self._errands.give_back(arrivals, 0.0)
        await self._errands.finish(LAST_WORDS)
        self._instances.clear()
        self._register.close()

    def disown(self) -> None:
        """The process ends now, on purpose: what runs is not to blame for it. To be called from any thread."""
        self._register.disown()

    # --- services ------------------------------------------------------------------------------------

    async def _receive(self) -> None:
        for each in await self._store.receive():
            self._deliver(each)
        if len(self._due) >= BUFFERED_INSTANCES:
            self._room = self._loop.create_future()
            await self._room

    async def _fetch(self) -> None:
        await self._activities.until(lambda: self._activities.free > 0)
        self._activities.start(await self._store.receive_work(self._activities.free))
        self._stirs += 1

    async def _sweep(self) -> None:
        while True:
            await sleep(self._clock, SWEEP_INTERVAL)
            self._instances.evict_idle()
            self._activities.tell_of_stuck()
            try:
                await self._store.sweep()
            except Exception:
                logger.exception("cannot sweep; next try in %.0f s", SWEEP_INTERVAL)

    async def _look_after_neighbours(self) -> None:
        while True:
            await sleep(self._clock, NEIGHBOUR_INTERVAL)
            self._quarantine.take_over(sole=False)

    def _lost_some(self) -> None:
        self._instances.evict(lambda instance_id: not self._store.is_local(instance_id))

    # --- what arrives --------------------------------------------------------------------------------

    def _deliver(self, arrival: Arrival) -> None:
        self._stirs += 1
        instance = self._instances.get(arrival.instance_id)
        instance.inbox.append(arrival)
        if instance.place is Place.RESTING or instance.place is Place.GATHERING:
            self._line_up_or_gather(instance)

    def _line_up_or_gather(self, instance: CachedInstance) -> None:
        """Something has arrived: its turn is due, unless more outcomes are worth a short wait."""
        if not self._traits.gather or not self._is_worth_waiting(instance):
            self._line_up(instance)
        elif instance.place is not Place.GATHERING:
            instance.place = Place.GATHERING
            instance.alarm = self._clock.call_later(self._traits.gather, self._line_up, instance)

    def _is_worth_waiting(self, instance: CachedInstance) -> bool:
        if not all(type(each) is LocalOutcome for each in instance.inbox):
            return False
        return any(self._activities.of_instance(instance.instance_id))

    def _settle(self, item: WorkItem, outcome: Outcome) -> bool:
        """An activity has ended: its outcome goes into the next turn, or to wherever that is run.

        True if its slot stays taken for what that turn calls. On a shared hub a call that finds none goes through the
        store, which costs more than a slot that is idle while the turn is committed.
        """
        if self._housekeeping[0].cancelling():  # as every task is: the event loop ends, and that is no outcome
            return False
        if self._is_stopping or self._errands.is_expected(item) or not self._store.is_local(item.instance_id):
            self._errands.complete(item, outcome)
            return False
        self._deliver(LocalOutcome(item, outcome))
        keeps_slot = self._traits.is_shared and not self._is_held
        if keeps_slot:
            self._instances.get(item.instance_id).slots += 1
        return keeps_slot

    # --- calls that are not run here -----------------------------------------------------------------

    def _divert(self, item: WorkItem) -> bool:
        """Take a call that is not to run in this process."""
        if self._traits.is_shared and self._is_for_others(item):
            self._errands.give_work_back([item], PARK_DELAY)
            return True
        if self._quarantine.holds_call(item):
            if len(self._calls_apart) < self._settings.max_concurrent_activity_functions:
                spawn(self._call_apart(item), self._calls_apart)
            else:
                self._errands.give_work_back([item], PARK_DELAY)
            return True
        return False

    def _is_for_others(self, item: WorkItem) -> bool:
        """Whether another worker of the hub may know the activity, and has had too little time to say so."""
        if item.name in self._program.registry.activities:
            return False
        return item.queued_at is None or self._clock.now() - item.queued_at < PARK_FOR

    async def _call_apart(self, item: WorkItem) -> None:
        try:
            outcome, reason = await self._quarantine.call(item)
        except asyncio.CancelledError:
            self._errands.give_work_back([item])
            raise
        except Exception:
            logger.exception(
                "activity '%s' of %s cannot be run apart, and is offered again", item.name, item.instance_id
            )
            self._errands.give_work_back([item], PARK_DELAY)
            return
        self._stirs += 1
        if self._is_stopping or self._errands.is_expected(item):
            self._errands.complete(item, outcome)
        else:
            dead_letter = _dead_letter(item, outcome, reason) if reason is not None else None
            self._deliver(LocalOutcome(item, outcome, dead_letter))

    # --- turns ---------------------------------------------------------------------------------------

    def _line_up(self, instance: CachedInstance) -> None:
        if instance.alarm is not None:
            instance.alarm.cancel()
            instance.alarm = None
        instance.place = Place.DUE
        self._due.append(instance)
        self._start_runner()

    def _line_up_apart(self, instance: CachedInstance) -> None:
        instance.place = Place.APART
        self._apart.append(instance)
        if len(self._runners_apart) < TURNS_APART and not self._is_stopping:
            spawn(self._run_apart(), self._runners_apart)

    def _start_runner(self) -> None:
        if self._is_held or self._is_stopping or len(self._runners) >= TURNS_IN_FLIGHT:
            return
        runner = self._loop.create_task(self._run(), name="durable: turns")
        self._runners.add(runner)
        runner.add_done_callback(self._runner_done)

    def _runner_done(self, runner: asyncio.Task[None]) -> None:
        self._runners.discard(runner)
        if not runner.cancelled() and (error := runner.exception()) is not None:
            logger.error("a runner of turns broke down; another takes over", exc_info=error)
        if self._due:
            self._start_runner()

    async def _run(self) -> None:
        due = self._due
        while due and not self._is_held and not self._is_stopping:
            instance = due.popleft()
            if self._room is not None and not self._room.done() and len(due) < BUFFERED_INSTANCES // 2:
                self._room.set_result(None)
            await self._turn(instance)

    async def _run_apart(self) -> None:
        while self._apart and not self._is_stopping:
            await self._turn(self._apart.popleft(), apart=True)
            if self._due:
                self._start_runner()

    async def _turn(self, instance: CachedInstance, *, apart: bool = False) -> None:
        if not apart:
            instance.place = Place.IN_TURN
        arrivals = self._take_inbox(instance)
        try:
            run = self._turns.run_apart if apart else self._turns.run
            deferred = await run(instance, arrivals)
        except Exception as error:
            self._went_wrong(instance, arrivals, error)
        except BaseException:
            instance.forget()
            instance.inbox = [*arrivals, *instance.inbox]
            raise
        else:
            self._went_well(instance, deferred)

    def _take_inbox(self, instance: CachedInstance) -> list[Arrival]:
        arrivals, most = instance.inbox, self._traits.turn_size
        instance.inbox = []
        if most is not None and len(arrivals) > most:
            # A start must not stay behind what came before it, which can only be put off until the start has been.
            arrivals.sort(key=lambda each: type(each.event) is not ExecutionStarted)
            arrivals, instance.inbox = arrivals[:most], arrivals[most:]
        return arrivals

    def _went_well(self, instance: CachedInstance, deferred: Sequence[Arrival]) -> None:
        instance.clear()
        if deferred:
            instance.deferrals += 1
            self._put_off(instance, deferred, backoff.delay(instance.deferrals))
            return
        instance.deferrals = 0
        if instance.inbox and not (self._traits.gather and self._is_worth_waiting(instance)):
            instance.place = Place.DUE
            self._due.append(instance)  # whoever runs this turn goes on with what is due
        elif instance.inbox:
            self._line_up_or_gather(instance)
        else:
            self._instances.rest(instance)

    def _went_wrong(self, instance: CachedInstance, arrivals: Sequence[Arrival], error: Exception) -> None:
        # Taken away before they are released: a call that starts in one may end at once and leave another.
        slots, instance.slots = instance.slots, 0
        self._activities.release(slots)
        match error:
            case BelongsApartError():
                instance.inbox = [*arrivals, *instance.inbox]
                self._line_up_apart(instance)
            case UnknownHereError():
                self._leave_to_others(instance, arrivals, PARK_DELAY)
            case VersionConflictError():
                self._lost_to_another(instance, arrivals)
            case TurnBrokenError():
                instance.faults += 1
                instance.fault = error
                logger.error(
                    "a turn of %s broke down (failure %d)", instance.instance_id, instance.faults, exc_info=error
                )
                self._put_off(instance, arrivals, backoff.delay(instance.faults))
            case _:
                instance.failures += 1
                pause = backoff.delay(instance.failures)
                logger.error(
                    "cannot store the turn of %s; next try in %.1f s", instance.instance_id, pause, exc_info=error
                )
                self._put_off(instance, arrivals, pause)

    def _lost_to_another(self, instance: CachedInstance, arrivals: Sequence[Arrival]) -> None:
        """Somebody else moved the instance: read it anew, or leave it to them if that keeps happening."""
        instance.conflicts += 1
        logger.debug("turn of %s lost its version check (%d)", instance.instance_id, instance.conflicts)
        if instance.conflicts < MAX_CONFLICTS:
            self._put_off(instance, arrivals, backoff.delay(instance.conflicts, first=0.005))
            return
        logger.warning("turns of %s keep losing their version check; its messages go back", instance.instance_id)
        self._leave_to_others(instance, arrivals, 1.0)

    def _leave_to_others(self, instance: CachedInstance, arrivals: Sequence[Arrival], pause: float) -> None:
        instance.forget()
        instance.clear()
        waiting, instance.inbox = [*arrivals, *instance.inbox], []
        self._errands.give_back(waiting, pause)
        self._instances.rest(instance)

    def _put_off(self, instance: CachedInstance, arrivals: Sequence[Arrival], pause: float) -> None:
        """Try these again later, ahead of what arrives meanwhile: messages keep their order."""
        instance.forget()
        instance.inbox = [*arrivals, *instance.inbox]
        instance.place = Place.PUT_OFF
        instance.alarm = self._clock.call_later(pause, self._line_up, instance)

    # --- nothing beside ------------------------------------------------------------------------------

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Within this nothing else is started; entered once what runs has ended, or has been waited for long enough."""
        self._is_held = True
        if unstarted := self._activities.hold():
            self._errands.give_work_back(unstarted)
        for instance in self._instances:
            if instance.place is not Place.IN_TURN:  # its turn waits, and so would whoever waits for its slots
                self._activities.release(instance.slots)
                instance.slots = 0
        quiet = asyncio.ensure_future(self._activities.until(lambda: self._activities.is_quiet))
        try:
            if quiet in await wait(self._clock, [quiet, *self._runners], QUIET_BEFORE_ALONE):
                quiet.cancel()
            yield
        finally:
            self._is_held = False
            self._activities.go_on(claim=bool(self._services))
            for _ in range(len(self._due)):
                self._start_runner()


def _dead_letter(item: WorkItem, outcome: Outcome, reason: str) -> DeadLetter:
    return DeadLetter(
        kind="activity",
        instance_id=item.instance_id,
        name=item.name,
        payload=item.input,
        reason=reason,
        created_at=outcome.timestamp,
    )
