"""A live orchestrator and its position in the event stream.

Feeding recorded events rebuilds it (`replay`); feeding new ones moves it on and says what that changed (`advance`).
Both take the events one at a time, with user code at rest after each, so that how messages were batched never shows.

The order of a turn:

1. A session that was replayed with other code than its history knows fails the instance, and nothing else happens.
   One that has failed takes a rewind: it is replayed as the marker says, and goes on with step 3.
2. The start, if this is the first turn. What was sent with it to terminate, suspend or resume the instance comes
   before its code: the code of a suspended one begins with the resume.
3. Calls that were added to the code behind all that is recorded.
4. Events of the backlog that the code waits for by now, oldest first; then the next event of the inbox; and so on.
   An external event that nobody waits for goes into the backlog. After a number of external events the turn is cut:
   what is left of them is kept for the next turn, which a message to the instance itself brings.
5. When the code is done or the inbox is empty, the calls that it made; then its end. If it continues as new, the
   next generation begins and goes on with step 4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from durable_ext import ids
from durable_ext.codec import Codec
from durable_ext.engine import ends
from durable_ext.engine.builder import TurnBuilder
from durable_ext.engine.execution import Continuation, Execution
from durable_ext.engine.feeding import Feeder
from durable_ext.engine.intake import Intake
from durable_ext.engine.rewind import RewoundHistory, failed_tasks
from durable_ext.engine.turn import EngineOptions, Turn
from durable_ext.errors import NonDeterminismError
from durable_ext.history import (
    EventRaised,
    ExecutionCompleted,
    ExecutionRewound,
    ExecutionStarted,
    HistoryEvent,
    OrchestrationRuntimeStatus,
    OrchestratorCompleted,
    OrchestratorStarted,
    ParentInstance,
)
from durable_ext.messages import answer_to_parent

_S = OrchestrationRuntimeStatus

_LONG_AGO = datetime.min.replace(tzinfo=UTC)

# A generation that continues as new without waiting for anything runs on in the same turn. This many in a row
# that take nothing from outside are an endless loop, which would hold up everything else.
_MAX_IDLE_GENERATIONS = 10_000


class OrchestrationSession:
    """One orchestrator in memory: a `Session`."""

    def __init__(
        self,
        function: Callable[[Any], Any],
        *,
        codec: Codec,
        options: EngineOptions,
        input_type: Any = None,
    ) -> None:
        self._function, self._codec, self._options, self._input_type = function, codec, options, input_type
        self._now = _LONG_AGO
        self._intake = Intake()
        self._feeder: Feeder | None = None
        self._end: ExecutionCompleted | None = None
        self._broken: NonDeterminismError | None = None

    # --- facts ----------------------------------------------------------------------------------------

    @property
    def started(self) -> ExecutionStarted | None:
        """How the current execution began, or None before that."""
        return self._feeder.execution.started if self._feeder is not None else None

    @property
    def execution_id(self) -> str | None:
        """The current execution, once begun."""
        return self.started.execution_id if self.started is not None else None

    @property
    def name(self) -> str | None:
        """The orchestrator's name, once begun."""
        return self.started.name if self.started is not None else None

    @property
    def parent(self) -> ParentInstance | None:
        """Whom this instance answers, if anybody."""
        return self.started.parent if self.started is not None else None

    @property
    def runtime_status(self) -> OrchestrationRuntimeStatus:
        """Where the instance is, as of the last event fed."""
        if self._end is not None:
            return self._end.orchestration_status
        if self._feeder is None:
            return _S.Pending
        return _S.Suspended if self._feeder.suspension.is_on else _S.Running

    @property
    def is_finished(self) -> bool:
        """Whether the instance has ended."""
        return self._end is not None

    @property
    def non_determinism(self) -> NonDeterminismError | None:
        """How the code differs from the history it replayed, if it does. The next `advance` fails the instance."""
        return self._broken

    def is_open(self, task_id: int, outcome: HistoryEvent) -> bool:
        """Whether a task waits for this outcome, which would be the first it gets."""
        return self._feeder is not None and self._feeder.is_open(task_id, outcome)

    # --- replay ---------------------------------------------------------------------------------------

    def replay(self, history: Sequence[HistoryEvent]) -> None:
        """Rebuild from the recorded events of one execution, from its first.

        User errors and non-determinism do not raise here; they surface in the Turn of the next `advance`.
        """
        feeder = self._replay(RewoundHistory.of(history))
        self._intake.expect_after(history)
        if self.runtime_status is not _S.Failed:
            feeder.history.events = []  # kept for a rewind only

    def _replay(self, history: RewoundHistory) -> Feeder:
        events = history.events
        at, started = next((at, event) for at, event in enumerate(events) if isinstance(event, ExecutionStarted))
        for event in events[:at]:
            if isinstance(event, OrchestratorStarted):
                self._now = event.timestamp
        feeder = self._feeder = self._new_feeder(started, history)
        feeder.execution.replaying = True
        self._broken = None
        try:
            feeder.replay(events[at + 1 :])
            self._end = feeder.end
        except NonDeterminismError as error:
            self._broken = error
            self._end = next((event for event in events if isinstance(event, ExecutionCompleted)), None)
        self._now = feeder.execution.now
        feeder.execution.cancelled = []  # long ago
        return feeder

    def _new_feeder(self, started: ExecutionStarted, history: RewoundHistory) -> Feeder:
        execution = Execution(started, self._now, self._codec, self._options)
        return Feeder(self._function, execution, self._input_type, history)

    # --- a turn ---------------------------------------------------------------------------------------

    def advance(self, now: datetime, inbox: Sequence[HistoryEvent]) -> Turn:
        """Feed new events and return what follows from them.

        The turn's time is `now`, or the previous turn's if the clock went back. Outcomes nobody awaits, and whatever
        but external events comes after the end, are left out of the Turn. A finished session takes an
        ExecutionRewound, if it failed.
        """
        self._now = max(now, self._now)
        turn = TurnBuilder(self._now, inbox)
        feeder, status_before = self._feeder, self.runtime_status
        custom_status_before = feeder.execution.custom_status if feeder is not None else msgspec.UNSET
        if feeder is None:
            self._begin_line(turn)
        elif self._end is not None:
            self._rewind(feeder, turn)
        elif self._broken is not None:
            self._finish(feeder, turn, ends.broken(feeder.execution, self._broken, turn.now))
        else:
            self._live(feeder, turn)
        if turn.inbox:
            self._intake.keep_rest(turn)
        return self._sum_up(turn, status_before, custom_status_before)

    def _begin_line(self, turn: TurnBuilder) -> None:
        """Record the start. What came with it to control the instance goes ahead of its code."""
        started = turn.inbox.popleft()
        assert isinstance(started, ExecutionStarted), "an execution begins with its start"
        feeder = self._begin_execution(turn, started)
        if (stop := turn.find_stop()) is not None:
            turn.record_stop(stop)
        else:
            self._intake.take_controls(feeder, turn)
            if not feeder.suspension.is_on:
                feeder.begin()
        self._live(feeder, turn)

    def _begin_execution(self, turn: TurnBuilder, started: ExecutionStarted) -> Feeder:
        started = msgspec.structs.replace(started, python=self._options.python)
        turn.begin(started)
        feeder = self._feeder = self._new_feeder(started, RewoundHistory([]))
        return feeder

    def _live(self, feeder: Feeder, turn: TurnBuilder) -> None:
        """Run this generation, and those that follow in the same turn, until one waits or the instance ends."""
        execution = feeder.execution
        execution.replaying, execution.now = False, turn.now
        while True:
            if not feeder.has_begun:
                self._intake.take_before_begin(feeder, turn)
            feeder.sandbox.run(self._intake.take, feeder, turn)
            turn.take_calls(feeder.execution)
            continuation = self._finish_code(feeder, turn)
            if continuation is None:
                return
            if turn.idle_generations >= _MAX_IDLE_GENERATIONS:
                end = ends.endless(feeder.execution, turn.idle_generations + 1, turn.now)
                self._finish(feeder, turn, end)
                return
            feeder = self._next_generation(feeder, turn, continuation)

    def _finish_code(self, feeder: Feeder, turn: TurnBuilder) -> Continuation | None:
        """Record the end, if it came to one; return how the instance goes on as new, if it does."""
        driver, execution = feeder.driver, feeder.execution
        if turn.stop is None and not driver.done:
            return None
        if turn.stop is None and driver.error is None and execution.continuation is not None:
            stop = turn.find_stop()
            if stop is None:
                return execution.continuation
            turn.record_stop(stop)  # it beats a concurrent continue-as-new
        if turn.stop is not None:
            turn.messages += ends.stops_of_children(execution, turn.stop)
            end = ends.terminated(execution, turn.stop, turn.now)
        elif driver.error is not None:
            end = ends.failed(execution, driver.error, turn.now)
        else:
            end = ends.completed(execution, driver.value, turn.now)
        self._finish(feeder, turn, end)
        return None

    def _next_generation(self, feeder: Feeder, turn: TurnBuilder, continuation: Continuation) -> Feeder:
        """Close this generation and begin the next, with the events that were fed to this one but not read."""
        old, carried = feeder.execution, []
        if continuation.save_events:
            carried = old.mailbox.unread()
        else:
            self._intake.drop_backlog(turn)
        turn.begin_generation(old.custom_status)
        feeder.close()  # after that: nothing counts that its code does on its way out
        started = msgspec.structs.replace(
            old.started,
            timestamp=turn.now,
            execution_id=ids.next_execution_id(old.started.execution_id),
            input=continuation.input,
            rewinds=feeder.rewinds,
        )
        feeder = self._begin_execution(turn, started)
        turn.records += carried
        feeder.begin()
        feeder.sandbox.run(feeder.feed_all, carried)
        return feeder

    def _finish(self, feeder: Feeder, turn: TurnBuilder, end: ExecutionCompleted) -> None:
        """Record the end, and tell the parent."""
        self._end = end
        turn.records.append(end)
        if (answer := answer_to_parent(feeder.execution.started, end, feeder.rewinds)) is not None:
            turn.send(answer)

    # --- rewind ---------------------------------------------------------------------------------------

    def _rewind(self, failed: Feeder, turn: TurnBuilder) -> None:
        """Begin again from before the failure, and ask again for whatever was open then."""
        request = next((event for event in turn.inbox if isinstance(event, ExecutionRewound)), None)
        if request is None or self.runtime_status is not _S.Failed:
            return
        assert failed.history.events, "a session is rewound after replaying the history that ends in the failure"
        error = failed.driver.error if self._broken is None else None
        marker = msgspec.structs.replace(request, task_ids=failed_tasks(error), parent=None, asked=0)
        ahead: list[HistoryEvent] = []  # what came before the request was for an instance that had ended
        while (event := turn.inbox.popleft()) is not request:
            if isinstance(event, EventRaised):
                ahead.append(event)
        turn.inbox.extendleft(reversed(ahead))
        failed.history.events += turn.records
        turn.record(marker)
        failed.close()
        feeder = self._replay(failed.history.rewound(marker))
        if self._broken is not None:
            self._finish(feeder, turn, ends.broken(feeder.execution, self._broken, turn.now))
            return
        execution = feeder.execution
        unanswered = execution.open.keys() - execution.pending.keys() - feeder.suspension.answered
        self._live(feeder, turn)
        if self._feeder is feeder and self._end is None:
            for task_id, call in execution.open.items():
                if task_id in unanswered:
                    turn.send(feeder.history.ask_again(call.action, execution.started, marker.reason, turn.now))

    # --- result ---------------------------------------------------------------------------------------

    def _sum_up(
        self,
        turn: TurnBuilder,
        status_before: OrchestrationRuntimeStatus,
        custom_status_before: str | msgspec.UnsetType | None,
    ) -> Turn:
        feeder, status = self._feeder, self.runtime_status
        assert feeder is not None
        execution = feeder.execution
        custom_status = execution.custom_status
        cancelled, execution.cancelled = execution.cancelled, []
        if turn.cut is not None:
            turn.records.append(turn.cut)
        turn.records.append(OrchestratorCompleted(timestamp=turn.now))
        return Turn(
            execution_id=execution.started.execution_id,
            events=turn.records,
            replaces_history=turn.replaces_history,
            messages=turn.messages,
            work=turn.work,
            runtime_status=status,
            custom_status=turn.custom_status if custom_status is msgspec.UNSET else custom_status,
            output=self._end.result if self._end is not None else feeder.suspension.reason,
            started=turn.started,
            status_changed=(
                turn.started is not None or custom_status is not custom_status_before or status is not status_before
            ),
            unread=list(turn.unread.values()),
            read=turn.read,
            cancelled=cancelled,
        )

    def close(self) -> None:
        """Unload: user code ends within a bound, `finally` blocks may run, and nothing is scheduled by them."""
        if self._feeder is not None:
            self._feeder.close()
