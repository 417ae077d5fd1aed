"""The quarantine: what may have killed a process runs where its death is a verdict about it alone.

What the registers of dead processes name runs in a child process from then on, one call or turn at a time. If that
dies over it twice, it fails, saying by which signal or exit code; if it comes out well, nothing was the matter with
it. Nobody else stops, waits or is blamed meanwhile.

Where an app cannot be loaded a second time (it was built in memory, or its import fails in a child), a suspect runs
in this process with nothing beside it. If the process dies then, it was that; after `MOST_ALONE` such deaths it fails.

Who is held
    What a register names, until it has an outcome. For `WARY` seconds after a register was read also whatever else
    runs a function it names, so that many calls of one killer do not take a process each. Functions that were
    convicted in the last half hour. And a call that was handed out more than `MOST_TRIES` times without an outcome:
    whatever became of the registers, nothing retries for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Hashable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from durable_ext.clock import Clock, wait
from durable_ext.errors import DurableError
from durable_ext.history import ExecutionStarted
from durable_ext.messages import WorkItem, WorkReceipt
from durable_ext.runtime.calls import Calls, Outcome
from durable_ext.runtime.children import ChildDiedError, Children, ChildUnavailableError
from durable_ext.runtime.convictions import Convictions, Kind
from durable_ext.runtime.decide import Decision, TurnInput, decide_cold
from durable_ext.runtime.program import Program
from durable_ext.runtime.quarantined import (
    Answer,
    CallOutcome,
    CallRequest,
    Request,
    TurnBroken,
    TurnDecision,
    TurnRequest,
    begin_call,
    decode_answer,
    encode,
    is_async,
)
from durable_ext.runtime.register import Register, RunningTurn, Suspect
from durable_ext.runtime.state import Arrival
from durable_ext.storage.contract import Delivery, Receipt

logger = logging.getLogger(__name__)

WARY = 10.0
"""Seconds for which a function is held because one of its calls or turns is suspect."""

MOST_TRIES = 3
"""Times a call may be handed out without an outcome before it is held."""

MOST_DEATHS = 2
"""Children that may die over a call or turn."""

MOST_ALONE = 3
"""Deaths of a host over a call or turn that ran alone in it."""

ALONE_LIMIT = 10.0
"""Seconds for which everything else waits for a call that runs alone. It may be that it waits for something itself."""

MOST_TRIES_ALONE = 10
"""Times a call may be handed out where neither a child nor a register is to be had."""

TURN_LIMIT = 120.0
"""Seconds a turn may take in a child. One that never comes back would hold up the next suspects."""


class _ProcessLostError(DurableError):
    def __init__(self, who: str, deaths: Sequence[str]) -> None:
        how = ", then ".join(dict.fromkeys(deaths))
        times = {1: "once", 2: "twice"}.get(len(deaths), f"{len(deaths)} times")
        super().__init__(
            f"{who} killed its process {times}: {how}. It is not tried again; look for what ends the process there "
            f"(memory, os._exit, a native crash)."
        )
        self.deaths = tuple(deaths)


class ActivityProcessLostError(_ProcessLostError):
    """An activity call killed its process, each time it ran with nothing beside it."""

    def __init__(self, name: str, deaths: Sequence[str]) -> None:
        super().__init__(f"activity '{name}'", deaths)
        self.name = name


class OrchestratorProcessLostError(_ProcessLostError):
    """A turn of an instance killed its process, each time it ran with nothing beside it."""

    def __init__(self, instance_id: str, deaths: Sequence[str]) -> None:
        super().__init__(f"the turn of instance '{instance_id}'", deaths)
        self.instance_id = instance_id


class TurnBrokenInChildError(DurableError):
    """Deciding a turn raised in a child, as it would here. `report` is the traceback."""

    def __init__(self, instance_id: str, report: str) -> None:
        super().__init__(f"the turn of instance '{instance_id}' broke down in a process of its own:\n{report}")
        self.instance_id, self.report = instance_id, report


class _KilledError(Exception):
    """What was to run killed its process, so often that it is not tried again."""

    def __init__(self, deaths: Sequence[str]) -> None:
        super().__init__(*deaths)
        self.deaths = tuple(deaths)


class _NoChildError(Exception):
    """It has to run in this process."""


@dataclass(slots=True)
class _Wariness:
    """A function of which something is suspect."""

    until: float
    keys: set[Hashable] = field(default_factory=set)


class Quarantine:
    """Where suspects of this worker run. Everything is to be called on the event loop.

    `command` starts a child that has loaded the app; None if there is none. `alone` gives a context in which nothing
    else of this worker runs user code; it may wait for that, within a bound.
    """

    def __init__(
        self,
        register: Register,
        program: Program,
        clock: Clock,
        command: Sequence[str] | None,
        alone: Callable[[], AbstractAsyncContextManager[None]],
    ) -> None:
        self._register, self._program, self._clock, self._alone = register, program, clock, alone
        self._calls = Calls(program, clock, register)
        self._children = Children(command, clock) if command is not None else None
        self._one_alone = asyncio.Lock()
        self._convictions = Convictions(register.directory, clock)
        self._suspects: dict[Hashable, Suspect] = {}
        self._wary: dict[tuple[Kind, str], _Wariness] = {}
        self._running: dict[WorkReceipt, asyncio.Task[Any]] = {}

    # --- who is held ---------------------------------------------------------------------------------

    def take_over(self, sole: bool) -> None:
        """Suspect what the registers of dead processes name, and learn whom neighbours have convicted.

        To be called once this worker is a host, before it receives anything; on a store that others may host too once
        a second as well. `sole`: see `Register.take_over`.
        """
        self._convictions.refresh()
        for each in self._register.take_over(sole):
            self._suspects[each.key] = each
            until = self._clock.monotonic() + WARY
            wariness = self._wary.setdefault(_function(each), _Wariness(until))
            wariness.until = until
            wariness.keys.add(each.key)

    @property
    def is_active(self) -> bool:
        """Whether anybody is under suspicion, or was convicted lately."""
        return bool(self._suspects) or bool(self._convictions)

    def holds_call(self, item: WorkItem) -> bool:
        """Whether this call must not run beside others."""
        if item.tries > MOST_TRIES:
            return True
        return self.is_active and self._why(item.receipt, "activity", item.name) is not None

    def holds_turn(self, instance_id: str, name: str) -> bool:
        """Whether the next turn of this instance, of this orchestrator, must not run beside anything."""
        return self.is_active and self._why(instance_id, "orchestrator", name) is not None

    def _why(self, key: Hashable, kind: Kind, name: str) -> str | None:
        if key in self._suspects:
            return "it ran when a process died"
        if conviction := self._convictions.find(kind, name):
            return f"its function killed its process: {conviction.how}"
        function = (kind, name.casefold())
        if wariness := self._wary.get(function):
            if wariness.until > self._clock.monotonic():
                return "its function ran when a process died"
            del self._wary[function]
        return None

    def clear_turn(self, instance_id: str) -> None:
        """A turn of this instance is committed: there is nothing to suspect any more."""
        if self._suspects:
            self._clear(instance_id)

    def _clear(self, key: Hashable) -> None:
        suspect = self._suspects.pop(key, None)
        if suspect is None:
            return
        self._register.settle(key)
        function = _function(suspect)
        if wariness := self._wary.get(function):
            wariness.keys.discard(key)
            if not wariness.keys:
                del self._wary[function]

    # --- running -------------------------------------------------------------------------------------

    async def call(self, item: WorkItem) -> tuple[Outcome, str | None]:
        """Run a call that is held. Return its outcome, and why it is given up if it is: then it kills its process.

        Cancelled, it ends the child that runs the call, and that says nothing about it.
        """
        why = self._why(item.receipt, "activity", item.name) or f"it was begun {item.tries - 1} times without an end"
        logger.warning("activity '%s' of %s runs apart from all others: %s", item.name, item.instance_id, why)
        reason = None
        task = asyncio.current_task()
        assert task is not None
        self._running[item.receipt] = task
        try:
            outcome = await self._call(item)
        except _KilledError as killed:
            self._convict("activity", item.name, killed.deaths)
            error = ActivityProcessLostError(item.name, killed.deaths)
            outcome, reason = self._calls.failed(item, error, is_final=True), str(error)
        finally:
            del self._running[item.receipt]
        # Not only once it is stored: should this process die before, a killer is held by its name, as it is convicted.
        self._clear(item.receipt)
        return outcome, reason

    async def _call(self, item: WorkItem) -> Outcome:
        try:
            answer = await self._ask(CallRequest(item))
        except _NoChildError:
            return await self._call_alone(item)
        if not isinstance(answer, CallOutcome):
            raise RuntimeError(f"a call was answered by a {type(answer).__name__}")
        return answer.event

    def cancel(self, instance_id: str, task_ids: Collection[int] | None) -> None:
        """Nobody waits for these calls of an instance any more (None: for any): cancel whoever runs them here."""
        for receipt, task in self._running.items():
            if _is_one_of(receipt, instance_id, task_ids):
                task.cancel()
        if self._suspects:  # they are not coming any more, so there is nothing to hold
            for key in [each for each in self._suspects if _is_one_of(each, instance_id, task_ids)]:
                self._clear(key)

    async def decide(self, turn: TurnInput) -> Decision:
        """Decide a turn that is held. Raises `OrchestratorProcessLostError` if it kills its process.

        Whatever else it raises says that the turn breaks down, as it would here. Cancelled, it ends the child that
        runs it.
        """
        instance_id, name = turn.snapshot.instance_id, _orchestrator(turn)
        why = self._why(instance_id, "orchestrator", name) or "it was under suspicion when it was put here"
        logger.warning("a turn of %s ('%s') runs apart from all others: %s", instance_id, name, why)
        try:
            try:
                answer = await self._ask(TurnRequest(_sendable(turn)), TURN_LIMIT)
            except _NoChildError:
                return await self._decide_alone(turn, name)
        except _KilledError as killed:
            self._convict("orchestrator", name, killed.deaths)
            raise OrchestratorProcessLostError(instance_id, killed.deaths) from None
        if isinstance(answer, TurnBroken):
            raise TurnBrokenInChildError(instance_id, answer.report)
        if not isinstance(answer, TurnDecision):
            raise RuntimeError(f"a turn was answered by a {type(answer).__name__}")
        return _received(answer.decision, turn.arrivals)

    async def _ask(self, request: Request, limit: float | None = None) -> Answer:
        if self._children is None:
            raise _NoChildError
        try:
            payload = encode(request)
        except (ValueError, TypeError) as error:  # what the store took, but MessagePack does not
            logger.warning("it cannot be sent to another process, so it runs in this one: %s", error)
            raise _NoChildError from error
        deaths: list[str] = []
        while len(deaths) < MOST_DEATHS:
            try:
                answer: Answer = decode_answer(await self._children.ask(payload, fresh=bool(deaths), limit=limit))
                return answer
            except ChildDiedError as death:
                deaths.append(death.how)
            except ChildUnavailableError as error:
                logger.error("%s. What was to run there runs in this process, with nothing beside it", error)
                raise _NoChildError from error
        raise _KilledError(deaths)

    def _convict(self, kind: Kind, name: str, deaths: Sequence[str]) -> None:
        how = ", then ".join(dict.fromkeys(deaths))
        logger.error("%s '%s' kills its process: %s", kind, name, how)
        self._convictions.add(kind, name, how)

    async def close(self) -> None:
        """End the children. Whoever still waits for a call or a turn is to be cancelled before."""
        if self._children is not None:
            await self._children.close()

    # --- with nothing beside it ----------------------------------------------------------------------

    async def _call_alone(self, item: WorkItem) -> Outcome:
        times = self._next_time_alone(item.receipt)
        if item.tries > MOST_TRIES_ALONE:
            raise _KilledError(["how is not known"] * (item.tries - 1))
        on_thread, task = not is_async(self._calls, item), self._running[item.receipt]
        async with self._one_alone, self._alone():
            slot = self._register.enter(item, on_thread, times)
            call = begin_call(self._calls, item, slot, lambda: task.cancelling() > 0)
            call.add_done_callback(lambda _: self._register.leave(slot))
            try:
                if await wait(self._clock, [call], ALONE_LIMIT):
                    logger.warning("activity '%s' of %s takes long; the others go on", item.name, item.instance_id)
            except asyncio.CancelledError:
                call.cancel()
                raise
            finally:
                if not call.done():
                    self._register.beside(slot, item, on_thread)
        return await call

    async def _decide_alone(self, turn: TurnInput, name: str) -> Decision:
        instance_id = turn.snapshot.instance_id
        times = self._next_time_alone(instance_id)
        async with self._one_alone, self._alone():
            self._register.mark_turn(instance_id, name, times)
            try:
                return decide_cold(self._program, turn)
            finally:
                self._register.clear()

    def _next_time_alone(self, key: Hashable) -> int:
        suspect = self._suspects.get(key)
        times = suspect.alone if suspect is not None else 0
        if times >= MOST_ALONE:
            raise _KilledError(["it ran alone, and nobody was left to say how"] * times)
        return times + 1


def _is_one_of(key: Hashable, instance_id: str, task_ids: Collection[int] | None) -> bool:
    """Whether it is the receipt of one of these calls."""
    if not isinstance(key, WorkReceipt) or key.instance_id != instance_id:
        return False
    return task_ids is None or key.task_id in task_ids


def _function(suspect: Suspect) -> tuple[Kind, str]:
    kind: Kind = "orchestrator" if isinstance(suspect, RunningTurn) else "activity"
    return kind, suspect.name.casefold()


def _orchestrator(turn: TurnInput) -> str:
    """The name of the orchestrator that a turn will run, as far as that can be told beforehand."""
    events = [*(each.event for each in turn.arrivals), *turn.snapshot.history]
    return next((each.name for each in events if isinstance(each, ExecutionStarted)), "")


def _sendable(turn: TurnInput) -> TurnInput:
    """The turn without what only its store understands. Receipts become positions."""
    replace = msgspec.structs.replace
    arrivals = [
        replace(each, receipt=position) if isinstance(each, Delivery) else each
        for position, each in enumerate(turn.arrivals)
    ]
    return replace(turn, snapshot=replace(turn.snapshot, version=None), arrivals=arrivals)


def _received(decision: Decision, arrivals: Sequence[Arrival]) -> Decision:
    """The decision in terms of what arrived here."""
    sent: dict[Hashable, Arrival] = {}
    receipts: dict[Hashable, Receipt] = {}
    for position, each in enumerate(arrivals):
        if isinstance(each, Delivery):
            sent[position], receipts[position] = each, each.receipt
        else:
            sent[each.item.receipt] = each
    return msgspec.structs.replace(
        decision,
        consumed=[receipts[position] for position in decision.consumed],
        kept=[receipts[position] for position in decision.kept],
        deferred=[
            sent[each.receipt if isinstance(each, Delivery) else each.item.receipt] for each in decision.deferred
        ],
    )
