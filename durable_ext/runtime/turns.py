"""One turn of one instance, from what is committed to the next commit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from time import perf_counter
from typing import Any, ParamSpec, TypeVar

import msgspec

from durable_ext.codec import Codec
from durable_ext.engine.orchestration import OrchestrationSession
from durable_ext.engine.turn import EngineOptions, Turn
from durable_ext.errors import DurableError, FunctionNotFoundError
from durable_ext.history import HistoryEvent, TaskCompleted, TaskFailed
from durable_ext.messages import WorkItem
from durable_ext.registry import Registry
from durable_ext.runtime.activities import BLOCKING, Activities
from durable_ext.runtime.admission import Admission, Standing, admit
from durable_ext.runtime.damage import assess, fail_before_start
from durable_ext.runtime.logs import log_drop, log_turn
from durable_ext.runtime.residents import Resident
from durable_ext.runtime.verdicts import MAX_DEATHS, OrchestratorProcessLostError, condemn, orchestrator_letter
from durable_ext.storage.contract import Commit, DeadLetter, Delivery, Opening, Receipt, Snapshot, StatusChange, Store

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

STATUS_INTERVAL = timedelta(seconds=10)
"""The status row is written this often while turns are committed, changed or not."""

MAX_FAULTS = 3
"""After so many turns that broke down in our own code, the instance fails."""


class LocalOutcome(Delivery, frozen=True, kw_only=True):
    """The outcome of an activity that ran here, on its way into a turn without having been stored first."""

    event: TaskCompleted | TaskFailed
    item: WorkItem
    letter: DeadLetter | None = None


class TurnBrokenError(DurableError):
    """A turn broke down outside user code; the same turn would do so again."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"{type(error).__name__}: {error}")


class Turns:
    """Runs turns. `claim` grants slots for activities that are to run here as soon as the turn is committed.

    At most `max_concurrent` orchestrators are being read and run at a time.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        codec: Codec,
        options: EngineOptions,
        clock: Callable[[], datetime],
        claim: Callable[[int], int],
        activities: Activities,
        max_concurrent: int,
    ) -> None:
        self._store, self._orchestrators, self._codec, self._options = store, registry.orchestrators, codec, options
        self._slots = asyncio.Semaphore(max_concurrent)
        self._clock, self._claim, self._activities = clock, claim, activities

    async def run(self, resident: Resident, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Take a turn; return the deliveries that came too early for any.

        Raises `TurnBrokenError` if the turn breaks down, `VersionConflictError` if it does not count, and whatever the
        store raises; then nothing of it is durable, and what the resident holds is not to be used.
        """
        if resident.deaths or any(each.damage is not None for each in deliveries):
            resident.forget()  # a verdict needs the history, and must not rest on anything half known
        # The limit is for orchestrators that run. A turn that waits for its commit holds nobody up.
        async with self._slots:
            opening = await self._store.begin(resident.instance_id, resident.version, deliveries)
            if not opening.deliveries:
                return ()
            now = self._clock()
            try:
                admission, turn, letters = self._compute(resident, opening, now)
            except (Exception, SystemExit) as error:
                raise TurnBrokenError(error) from error
        for drop in admission.drops:
            log_drop(resident.instance_id, resident.standing.name, drop)
        consumed = [each.receipt for each in opening.deliveries]
        if admission.deferred:
            early = {each.receipt for each in admission.deferred}
            consumed = [each for each in consumed if each not in early]
        if turn is not None:
            await self._commit_turn(resident, turn, admission, consumed, letters, now)
        elif consumed:
            await self._commit_drops(resident, admission, consumed, letters)
        return admission.deferred

    # --- compute -------------------------------------------------------------------------------------

    def _compute(
        self, resident: Resident, opening: Opening, now: datetime
    ) -> tuple[Admission, Turn | None, list[DeadLetter]]:
        news, verdict = opening.deliveries, _verdict(resident, opening.deliveries)
        if opening.snapshot is not None:
            self._adopt(resident, opening.snapshot, replay=verdict is None)
        awaits = resident.session.awaits if resident.session is not None else _anything
        admission = admit(resident.standing, news, awaits, now)
        letters = [each.letter for each in news if type(each) is LocalOutcome and each.letter is not None]
        damage = assess(resident.standing, admission, news, now)
        if damage is not None:
            letters += damage.letters
            verdict = verdict or damage.error
            if damage.error is not None and damage.lost_start is not None:
                return admission, fail_before_start(damage.lost_start, damage.error), letters
        if not admission.events and (damage is None or damage.error is None):
            return admission, None, letters
        history = opening.snapshot.history if opening.snapshot is not None else ()
        if verdict is None:
            return admission, self._advance(resident, admission, history, now), letters
        if admission.events:
            letters.append(orchestrator_letter(resident.standing, admission, verdict, now))
        return admission, condemn(resident.standing, admission, history, verdict, now), letters

    def _adopt(self, resident: Resident, snapshot: Snapshot, *, replay: bool) -> None:
        """Go by what the store has instead of what was known."""
        resident.forget()
        resident.version, resident.standing = snapshot.version, Standing.of(snapshot)
        if replay and resident.standing.started is not None and not resident.standing.has_ended:
            resident.session = self._session(resident.standing.name)
            self._timed(resident, "replay", resident.session.replay, snapshot.history)

    def _advance(
        self, resident: Resident, admission: Admission, history: Sequence[HistoryEvent], now: datetime
    ) -> Turn:
        session = resident.session
        if admission.begins is not None:
            if session is not None:
                session.close()
            session = resident.session = self._session(admission.begins.name)
        elif admission.rewinds:
            session = resident.session = self._session(resident.standing.name)
            self._timed(resident, "replay", session.replay, history)
        if session is None:
            raise RuntimeError(f"events were admitted to {resident.instance_id}, which has no session")
        return self._timed(resident, "turn", session.advance, now, admission.events)

    def _session(self, name: str) -> OrchestrationSession:
        try:
            orchestrator = self._orchestrators.get(name)
        except FunctionNotFoundError as error:
            return OrchestrationSession(_raiser(error), codec=self._codec, options=self._options)
        return OrchestrationSession(
            orchestrator.function, codec=self._codec, options=self._options, input_type=orchestrator.input_type
        )

    def _timed(self, resident: Resident, what: str, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        began = perf_counter()
        result = call(*args, **kwargs)
        if (took := perf_counter() - began) > BLOCKING:
            logger.warning(
                "a %s of orchestrator '%s' (instance %s) held up the event loop for %.1f s: "
                "work belongs into activities, and long histories are cut with continue_as_new",
                what,
                (resident.session and resident.session.name) or resident.standing.name,
                resident.instance_id,
                took,
            )
        return result

    # --- commit --------------------------------------------------------------------------------------

    async def _commit_turn(
        self,
        resident: Resident,
        turn: Turn,
        admission: Admission,
        consumed: Sequence[Receipt],
        letters: Sequence[DeadLetter],
        now: datetime,
    ) -> None:
        status = None
        if turn.status_changed or now - resident.status_written >= STATUS_INTERVAL:
            status = StatusChange(
                runtime_status=turn.runtime_status,
                updated_at=now,
                custom_status=turn.custom_status,
                output=turn.output,
                started=turn.started,
            )
        work: Sequence[WorkItem] = turn.work
        # What a rewind asks for again may be under way somewhere: leave it to the store to offer it, or not.
        slots = self._claim(len(work)) if work and not admission.rewinds else 0
        if slots:
            work = [*(msgspec.structs.replace(each, deliveries=1) for each in work[:slots]), *work[slots:]]
        try:
            await self._commit(
                resident,
                Commit(
                    instance_id=resident.instance_id,
                    execution_id=turn.execution_id,
                    version=resident.version,
                    events=turn.events,
                    replaces_history=turn.replaces_history
                    or (admission.begins is not None and resident.standing.execution_id is not None),
                    messages=[*turn.messages, *admission.replies] if admission.replies else turn.messages,
                    work=work,
                    status=status,
                    consumed=consumed,
                    dead_letters=letters,
                ),
            )
        except BaseException:
            self._activities.release(slots)
            raise
        if status is not None:
            resident.status_written = now
        self._committed(resident, turn)
        for each in work[:slots]:
            self._activities.run(each)

    async def _commit_drops(
        self, resident: Resident, admission: Admission, consumed: Sequence[Receipt], letters: Sequence[DeadLetter]
    ) -> None:
        await self._commit(
            resident,
            Commit(
                instance_id=resident.instance_id,
                execution_id=resident.standing.execution_id or "",
                version=resident.version,
                messages=admission.replies,
                consumed=consumed,
                dead_letters=letters,
            ),
        )

    async def _commit(self, resident: Resident, commit: Commit) -> None:
        try:
            resident.version = await self._store.commit(commit)
        except (ValueError, TypeError, msgspec.MsgspecError) as error:
            raise TurnBrokenError(error) from error  # something in it cannot be stored, today or later

    def _committed(self, resident: Resident, turn: Turn) -> None:
        started = turn.started
        if started is not None:
            resident.standing = Standing(resident.instance_id, turn.runtime_status, started)
        elif turn.runtime_status is not resident.standing.status:
            resident.standing = replace(resident.standing, status=turn.runtime_status, completed=None)
        log_turn(resident.instance_id, resident.standing.name, turn)
        if turn.runtime_status.is_terminal:
            resident.forget()


def _verdict(resident: Resident, news: Sequence[Delivery]) -> Exception | None:
    """Why the instance is not to be run any more, if so."""
    if resident.fault is not None and resident.faults >= MAX_FAULTS:
        return resident.fault
    deaths = max(each.deaths for each in news) if resident.deaths else 0
    if deaths >= MAX_DEATHS:
        return OrchestratorProcessLostError(resident.instance_id, deaths)
    return None


def _anything(event: HistoryEvent) -> bool:
    return True


def _raiser(error: FunctionNotFoundError) -> Callable[[Any], Any]:
    def not_found(context: Any) -> Any:
        raise error

    return not_found
