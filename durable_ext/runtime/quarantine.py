"""The quarantine: what may have killed a process runs where its death is a verdict about it alone.

What the registers of dead processes name runs in a child process from then on, one call or turn at a time. If that
dies over it twice, it fails, saying by which signal or exit code; if it comes out well, nothing was the matter with
it. Nobody else stops, waits or is blamed meanwhile.

Where an app cannot be loaded a second time (it was built in memory, or its import fails in a child), a suspect runs
in this process with nothing beside it. If the process dies then, it was that; after `MOST_ALONE` such deaths it fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Hashable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from durable_ext.clock import Clock, wait
from durable_ext.errors import DurableError
from durable_ext.messages import WorkItem, WorkReceipt
from durable_ext.runtime.calls import Calls, Outcome, Running
from durable_ext.runtime.children import ChildDiedError, Children, ChildUnavailableError
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
    as_meant,
    as_sent,
    begin_call,
    decode_answer,
    encode,
)
from durable_ext.runtime.register import Register
from durable_ext.runtime.suspicion import Suspicion, is_one_of

logger = logging.getLogger(__name__)

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
        times = {1: "once", 2: "twice"}.get(len(deaths), f"{len(deaths)} times")
        super().__init__(
            f"{who} killed its process {times}: {_how(deaths)}. It is not tried again; look for what ends the "
            f"process there (memory, os._exit, a native crash)."
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
    """Deciding a turn raised in a child, as it would here."""

    def __init__(self, instance_id: str, error: str) -> None:
        super().__init__(f"the turn of instance '{instance_id}' broke down in a process of its own: {error}")
        self.instance_id, self.error = instance_id, error


class _KilledError(Exception):
    """What was to run killed its process, so often that it is not tried again."""

    def __init__(self, deaths: Sequence[str]) -> None:
        super().__init__(*deaths)
        self.deaths, self.how = tuple(deaths), _how(deaths)


class _NoChildError(Exception):
    """It has to run in this process."""


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
        self.suspicion = Suspicion(register, clock)
        self._running: dict[asyncio.Task[Any], WorkReceipt] = {}

    # --- who is held ---------------------------------------------------------------------------------

    def take_over(self, sole: bool) -> None:
        """Hold what the registers of dead processes name, and learn whom neighbours have convicted.

        To be called once this worker is a host, before it receives anything; on a store that others may host too once
        a second as well. `sole`: see `Register.take_over`.
        """
        self.suspicion.take_over(sole)

    def holds_call(self, item: WorkItem) -> bool:
        """Whether this call must not run beside others."""
        return self.suspicion.of_call(item) is not None

    def holds_turn(self, instance_id: str, name: str) -> bool:
        """Whether the next turn of this instance, of this orchestrator, must not run in this process."""
        return self.suspicion.of_turn(instance_id, name) is not None

    def clear_turn(self, instance_id: str) -> None:
        """A turn of this instance is committed: there is nothing to suspect any more."""
        self.suspicion.clear(instance_id)

    def cancel(self, instance_id: str, task_ids: Collection[int] | None) -> None:
        """Nobody waits for these calls of an instance any more (None: for any): cancel whoever runs them here."""
        for task, receipt in self._running.items():
            if is_one_of(receipt, instance_id, task_ids):
                task.cancel()
        self.suspicion.clear_calls(instance_id, task_ids)

    # --- running -------------------------------------------------------------------------------------

    async def call(self, item: WorkItem) -> tuple[Outcome, str | None]:
        """Run a call that is held. Return its outcome, and why it is given up if it is: then it kills its process.

        Cancelled, it ends the child that runs the call, and that says nothing about it.
        """
        why = self.suspicion.of_call(item)
        logger.warning("activity '%s' of %s runs apart from all others: %s", item.name, item.instance_id, why)
        reason = None
        task = asyncio.current_task()
        assert task is not None
        self._running[task] = item.receipt
        try:
            outcome = await self._call(item)
        except _KilledError as killed:
            self.suspicion.convict("activity", item.name, killed.how)
            error = ActivityProcessLostError(item.name, killed.deaths)
            outcome, reason = self._calls.failed(item, error, is_final=True), str(error)
        finally:
            del self._running[task]
        # Not only once it is stored: should this process die before, a killer is held by its name, as it is convicted.
        self.suspicion.clear(item.receipt)
        return outcome, reason

    async def _call(self, item: WorkItem) -> Outcome:
        answer: Answer | None = None
        with contextlib.suppress(_NoChildError):
            answer = await self._ask(CallRequest(item))
        if answer is None:  # not while the error is handled: it would be taken for a cause of what user code raises
            return await self._call_alone(item)
        if not isinstance(answer, CallOutcome):
            raise RuntimeError(f"a call was answered by a {type(answer).__name__}")
        return answer.event

    async def decide(self, turn: TurnInput, name: str) -> Decision:
        """Decide a turn, of the orchestrator of this name, that is held.

        Raises `OrchestratorProcessLostError` if it kills its process. Whatever else it raises says that the turn breaks
        down, as it would here. Cancelled, it ends the child that runs it.
        """
        instance_id = turn.snapshot.instance_id
        why = self.suspicion.of_turn(instance_id, name) or "it was under suspicion when it was put here"
        logger.warning("a turn of %s ('%s') runs apart from all others: %s", instance_id, name, why)
        answer: Answer | None = None
        try:
            with contextlib.suppress(_NoChildError):
                answer = await self._ask(TurnRequest(as_sent(turn)), TURN_LIMIT)
            if answer is None:
                return await self._decide_alone(turn, name)
        except _KilledError as killed:
            self.suspicion.convict("orchestrator", name, killed.how)
            raise OrchestratorProcessLostError(instance_id, killed.deaths) from None
        if isinstance(answer, TurnBroken):
            logger.error("a turn of %s broke down in a process of its own:\n%s", instance_id, answer.report)
            raise TurnBrokenInChildError(instance_id, answer.error)
        if not isinstance(answer, TurnDecision):
            raise RuntimeError(f"a turn was answered by a {type(answer).__name__}")
        return as_meant(answer.decision, turn.arrivals)

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

    async def close(self) -> None:
        """End the children. Whoever still waits for a call or a turn is to be cancelled before."""
        if self._children is not None:
            await self._children.close()

    # --- with nothing beside it ----------------------------------------------------------------------

    async def _call_alone(self, item: WorkItem) -> Outcome:
        times = self._next_time_alone(item.receipt)
        if item.tries > MOST_TRIES_ALONE:
            raise _KilledError(["how is not known"] * (item.tries - 1))
        on_thread = not self._calls.is_async(item.name)
        async with self._one_alone, self._alone():
            slot = self._register.enter(item, on_thread, times)
            running = Running(item, self._calls.activity(item.name), slot)
            call = begin_call(self._calls, running)
            call.add_done_callback(lambda _: self._register.leave(slot))
            try:
                if await wait(self._clock, [call], ALONE_LIMIT):
                    logger.warning("activity '%s' of %s takes long; the others go on", item.name, item.instance_id)
            except asyncio.CancelledError:
                _give_up(running, call)
                raise
            finally:
                if not call.done():
                    self._register.beside(slot, item, on_thread)
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            _give_up(running, call)
            raise

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
        times = self.suspicion.times_alone(key)
        if times >= MOST_ALONE:
            raise _KilledError(["it ran alone, and nobody was left to say how"] * times)
        return times + 1


def _give_up(running: Running, call: asyncio.Future[Outcome]) -> None:
    running.is_given_up = True
    call.cancel()


def _how(deaths: Sequence[str]) -> str:
    return ", then ".join(dict.fromkeys(deaths))
