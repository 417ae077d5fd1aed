"""Runs turns: load what is committed, decide, commit, and only then let it take effect.

Nothing of a turn has an effect before its commit, so a worker may die anywhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from time import perf_counter

import msgspec

from durable_ext.clock import Clock
from durable_ext.errors import DurableError, VersionConflictError, storable, text_of
from durable_ext.history import ExecutionStarted
from durable_ext.messages import WorkItem
from durable_ext.runtime.activities import Activities
from durable_ext.runtime.calls import BLOCKING, Calls
from durable_ext.runtime.decide import Decision, TurnInput, decide
from durable_ext.runtime.errands import Errands
from durable_ext.runtime.instances import CachedInstance
from durable_ext.runtime.logs import log_drop, log_turn
from durable_ext.runtime.program import Program
from durable_ext.runtime.quarantine import OrchestratorProcessLostError, Quarantine, TurnBrokenInChildError
from durable_ext.runtime.register import Register
from durable_ext.runtime.state import Arrival, InstanceState, LocalOutcome
from durable_ext.runtime.watchdog import TurnTooLongError
from durable_ext.storage.contract import Commit, Delivery, Snapshot, StatusChange, Store, Version

logger = logging.getLogger(__name__)

MAX_FAULTS = 3
"""After so many turns that broke down in our own code, the instance fails."""

PARK_FOR = timedelta(minutes=2)
"""How long what this app does not know is left to other workers of a shared hub before it fails."""


class TurnBrokenError(DurableError):
    """A turn broke down outside user code; the same turn would do so again."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"{type(error).__name__}: {storable(text_of(error))}")


class BelongsApartError(DurableError):
    """The turn is under suspicion of killing its process, and is not to be run in this one."""


class UnknownHereError(DurableError):
    """The hub's other workers may know the orchestrator; this one does not."""


class Turns:
    """Runs turns. At most `max_concurrent` orchestrators are being read and run at a time."""

    def __init__(
        self,
        store: Store,
        program: Program,
        clock: Clock,
        calls: Calls,
        activities: Activities,
        register: Register,
        quarantine: Quarantine,
        max_concurrent: int,
        errands: Errands,
    ) -> None:
        self._store, self._program, self._clock, self._calls = store, program, clock, calls
        self._activities, self._register, self._quarantine = activities, register, quarantine
        self._slots = asyncio.Semaphore(max_concurrent)
        self._errands = errands
        self._traits = store.traits

    async def run(self, instance: CachedInstance, arrivals: Sequence[Arrival]) -> Sequence[Arrival]:
        """Take a turn; return what came too early for any.

        Raises `BelongsApartError` and `UnknownHereError`, having done nothing, `TurnBrokenError` if the turn breaks
        down, `VersionConflictError` if it does not count, and whatever the store raises; then nothing of it is known
        to be durable, and what is in memory is not to be used.
        """
        if instance.version is not None and _are_local(arrivals):
            # Nothing to read: it is decided at once, and one at a time anyway.
            now = self._clock.now()
            return await self._carry_out(instance, self._decide_here(instance, None, arrivals, now), now)
        # The limit is for orchestrators that are read and run. A turn that waits for its commit holds nobody up.
        async with self._slots:
            snapshot, news = await self._load(instance, arrivals)
            if not news:
                self._leave_unread(instance, snapshot)
                return ()
            now = self._clock.now()
            decision = self._decide_here(instance, snapshot, news, now)
        return await self._carry_out(instance, decision, now)

    async def run_apart(self, instance: CachedInstance, arrivals: Sequence[Arrival]) -> Sequence[Arrival]:
        """Take a turn in a process of its own; the rest is as `run` has it."""
        instance.forget()
        snapshot, news = await self._load(instance, arrivals)
        if not news:
            self._leave_unread(instance, snapshot)
            return ()
        assert snapshot is not None, "what was forgotten is read again"
        instance.memory.state = InstanceState.of(snapshot)
        now = self._clock.now()
        decision = await self._decide_apart(instance, snapshot, news, now)
        deferred = await self._carry_out(instance, decision, now)
        self._quarantine.clear_turn(instance.instance_id)
        instance.forget()
        return deferred

    # --- load ----------------------------------------------------------------------------------------

    async def _load(
        self, instance: CachedInstance, arrivals: Sequence[Arrival]
    ) -> tuple[Snapshot | None, Sequence[Arrival]]:
        """What is committed, if it is to be taken up, and what of the arrivals is news."""
        deliveries = [each for each in arrivals if type(each) is Delivery]
        loaded = await self._store.begin(instance.instance_id, instance.version, deliveries)
        if loaded.snapshot is not None:
            instance.version = loaded.snapshot.version
        if len(deliveries) == len(arrivals):
            return loaded.snapshot, loaded.deliveries
        return loaded.snapshot, _in_order(arrivals, loaded.deliveries)

    def _leave_unread(self, instance: CachedInstance, snapshot: Snapshot | None) -> None:
        """There is no turn: what was read is not taken up, so its version must not stand for what is in memory."""
        if snapshot is not None:
            instance.forget()

    # --- decide --------------------------------------------------------------------------------------

    def _decide_here(
        self, instance: CachedInstance, snapshot: Snapshot | None, news: Sequence[Arrival], now: datetime
    ) -> Decision:
        if self._traits.is_shared or self._quarantine.suspicion.is_active:
            self._check_that_it_belongs_here(instance, snapshot, news, now)
        return self._decide(instance, snapshot, news, now)

    def _check_that_it_belongs_here(
        self, instance: CachedInstance, snapshot: Snapshot | None, news: Sequence[Arrival], now: datetime
    ) -> None:
        name = _orchestrator_name(instance, snapshot, news)
        if self._quarantine.holds_turn(instance.instance_id, name):
            raise BelongsApartError(f"instance '{instance.instance_id}' is to run in a process of its own")
        is_foreign = self._traits.is_shared and name and name not in self._program.registry.orchestrators
        if is_foreign and now - max(each.event.timestamp for each in news) < PARK_FOR:
            raise UnknownHereError(f"orchestrator '{name}' is not known here")

    def _decide(
        self, instance: CachedInstance, snapshot: Snapshot | None, news: Sequence[Arrival], now: datetime
    ) -> Decision:
        memory = instance.memory
        fault = instance.fault if instance.faults >= MAX_FAULTS else None
        name = memory.state.name if snapshot is None else _orchestrator_name(instance, snapshot, news)
        self._register.mark_turn(instance.instance_id, name)
        began = perf_counter()
        try:
            return decide(memory, snapshot, news, self._program, now, fault)
        except TurnTooLongError as error:
            instance.faults = MAX_FAULTS  # it would take as long again
            raise TurnBrokenError(error) from error
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # nothing of an interrupted turn is stored
            raise TurnBrokenError(error) from error
        finally:
            self._register.clear()
            if (took := perf_counter() - began) > BLOCKING:
                _warn_of_blocking(instance, name, took, is_replay=snapshot is not None and bool(snapshot.history))

    async def _decide_apart(
        self, instance: CachedInstance, snapshot: Snapshot, news: Sequence[Arrival], now: datetime
    ) -> Decision:
        if instance.faults < MAX_FAULTS:
            name = _orchestrator_name(instance, snapshot, news)
            try:
                decision = await self._quarantine.decide(TurnInput(snapshot=snapshot, arrivals=news, now=now), name)
            except OrchestratorProcessLostError as killed:
                instance.fault, instance.faults = killed, MAX_FAULTS
            except TurnBrokenInChildError as error:
                raise TurnBrokenError(error) from error
            else:
                if decision.turn is not None:
                    instance.memory.state = instance.memory.state.after(decision.turn)
                return decision
        return self._decide(instance, snapshot, news, now)  # which fails the instance, and runs none of its code

    # --- commit, and what follows from it ------------------------------------------------------------

    async def _carry_out(self, instance: CachedInstance, decision: Decision, now: datetime) -> Sequence[Arrival]:
        if decision.is_empty:
            self._release(instance, 0)
        else:
            inline, queued = self._share_out(instance, decision)
            status = self._status(instance, decision, now)
            instance.version = await self._commit(_commit_of(instance, decision, inline, queued, status))
            if status is not None:
                instance.status_written = now
            self._apply(instance, decision, inline)
        for drop in decision.drops:
            log_drop(instance.instance_id, instance.memory.state.name, drop)
        return decision.deferred

    def _share_out(self, instance: CachedInstance, decision: Decision) -> tuple[Sequence[WorkItem], Sequence[WorkItem]]:
        """The calls that are to run here as soon as the turn is committed, and those for whoever has a free slot."""
        work = decision.turn.work if decision.turn is not None else ()
        # What a rewind asks for again may be under way somewhere: leave it to the store to offer it, or not.
        if not work or decision.rewinds:
            return (), work
        here: Sequence[WorkItem] = work
        elsewhere: Sequence[WorkItem] = ()
        if self._traits.is_shared:
            here = [each for each in work if self._calls.knows(each.name)]
            elsewhere = [each for each in work if not self._calls.knows(each.name)]
        if (more := len(here) - instance.slots) > 0:
            instance.slots += self._activities.reserve(more)
        inline = [msgspec.structs.replace(each, tries=1) for each in here[: instance.slots]]
        return inline, [*here[len(inline) :], *elsewhere]

    def _status(self, instance: CachedInstance, decision: Decision, now: datetime) -> StatusChange | None:
        turn = decision.turn
        if turn is None:
            return None
        # A rewound execution may fail again at once: in the same status, for another reason.
        is_due = turn.status_changed or decision.rewinds
        if not is_due and now - instance.status_written < self._traits.status_interval:
            return None
        return StatusChange(
            runtime_status=turn.runtime_status,
            updated_at=now,
            custom_status=turn.custom_status,
            output=turn.output,
            started=turn.started,
        )

    async def _commit(self, commit: Commit) -> Version:
        try:
            return await self._store.commit(commit)
        except VersionConflictError:
            raise
        except (ValueError, TypeError, msgspec.MsgspecError) as error:
            raise TurnBrokenError(error) from error  # something in it cannot be stored, today or later
        except BaseException:
            # Perhaps it took effect all the same. Then these are claimed by a worker that will never start them.
            if commit.inline:
                self._errands.give_work_back(commit.inline)
            raise

    def _apply(self, instance: CachedInstance, decision: Decision, inline: Sequence[WorkItem]) -> None:
        turn = decision.turn
        if turn is not None:
            if decision.cancels_all or turn.cancelled:
                why = "its instance has ended" if decision.cancels_all else "its timeout has passed"
                task_ids = None if decision.cancels_all else turn.cancelled
                self._quarantine.cancel(instance.instance_id, task_ids)
                if given_up := self._activities.cancel(instance.instance_id, task_ids, why):
                    # The store has forgotten them, but for those that came here after the commit: somebody waits for
                    # those again, or for the first time.
                    self._errands.give_work_back(given_up)
            log_turn(instance.instance_id, instance.memory.state.name, turn)
            if turn.runtime_status.is_terminal:
                instance.forget()
        self._release(instance, len(inline))
        for each in inline:
            self._activities.run(each)

    def _release(self, instance: CachedInstance, used: int) -> None:
        spare, instance.slots = instance.slots - used, 0
        if spare:
            self._activities.release(spare)


def _commit_of(
    instance: CachedInstance,
    decision: Decision,
    inline: Sequence[WorkItem],
    queued: Sequence[WorkItem],
    status: StatusChange | None,
) -> Commit:
    turn = decision.turn
    if turn is None:  # nothing moves: there is only something to remove
        return Commit(
            instance_id=instance.instance_id,
            execution_id=instance.memory.state.execution_id or "",
            version=instance.version,
            messages=decision.replies,
            consumed=decision.consumed,
            kept=decision.kept,
            completed=decision.completed,
            dead_letters=decision.dead_letters,
        )
    return Commit(
        instance_id=instance.instance_id,
        execution_id=turn.execution_id,
        version=instance.version,
        events=turn.events,
        replaces_history=decision.replaces_history,
        messages=[*turn.messages, *decision.replies] if decision.replies else turn.messages,
        queued=queued,
        inline=inline,
        status=status,
        consumed=decision.consumed,
        kept=decision.kept,
        completed=decision.completed,
        cancelled=turn.cancelled,
        cancels_all=decision.cancels_all,
        dead_letters=decision.dead_letters,
    )


def _are_local(arrivals: Sequence[Arrival]) -> bool:
    for each in arrivals:  # noqa: SIM110 - all() would make a generator for what is one arrival, mostly
        if type(each) is not LocalOutcome:
            return False
    return True


def _in_order(arrivals: Sequence[Arrival], news: Sequence[Delivery]) -> list[Arrival]:
    """News and local outcomes as they arrived; ahead of them what is kept, and what was not asked about."""
    asked = {each.receipt for each in arrivals if type(each) is Delivery}
    ordered: list[Arrival] = [each for each in news if each.is_kept or each.receipt not in asked]
    answered = {each.receipt: each for each in news if not each.is_kept}
    for each in arrivals:
        if type(each) is LocalOutcome:
            ordered.append(each)
        elif type(each) is Delivery and (found := answered.pop(each.receipt, None)) is not None:
            ordered.append(found)
    return ordered


def _orchestrator_name(instance: CachedInstance, snapshot: Snapshot | None, news: Sequence[Arrival]) -> str:
    """The orchestrator whose code the turn would run, empty if there is none."""
    start = next((each.event for each in news if isinstance(each.event, ExecutionStarted)), None)
    if snapshot is None:
        state = instance.memory.state
        return start.name if start is not None and state.has_ended else state.name
    started = next((each for each in snapshot.history if isinstance(each, ExecutionStarted)), None)
    has_ended = snapshot.status is not None and snapshot.status.is_terminal
    if start is not None and (started is None or has_ended):
        return start.name
    return started.name if started is not None else ""


def _warn_of_blocking(instance: CachedInstance, name: str, took: float, *, is_replay: bool) -> None:
    logger.warning(
        "a %s of orchestrator '%s' (instance %s) held up the event loop for %.1f s: "
        "work belongs into activities, and long histories are cut with continue_as_new",
        "replay" if is_replay else "turn",
        name,
        instance.instance_id,
        took,
    )
