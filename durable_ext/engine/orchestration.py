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
   what is left of them goes into the backlog, and a message to the instance itself brings the next turn.
5. When the code is done or the inbox is empty, the calls that it made; then its end. If it continues as new, the
   next generation begins and goes on with step 4.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from durable_ext import ids
from durable_ext.codec import Codec
from durable_ext.engine.actions import CallSubOrchestrator
from durable_ext.engine.backlog import Backlog
from durable_ext.engine.execution import Continuation, Execution
from durable_ext.engine.feeding import Feeder
from durable_ext.engine.rewind import RewoundHistory, failed_tasks
from durable_ext.engine.turn import MAX_EVENTS_PER_TURN, EngineOptions, Turn, TurnBuilder
from durable_ext.errors import CodecError, DurableError, FailureDetails, NonDeterminismError, describe, text_of
from durable_ext.history import (
    EventRaised,
    ExecutionCompleted,
    ExecutionResumed,
    ExecutionRewound,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
    GenericEvent,
    HistoryEvent,
    OrchestrationRuntimeStatus,
    OrchestratorCompleted,
    OrchestratorStarted,
    ParentInstance,
    outcome_task_id,
)
from durable_ext.messages import Message, answer_to_parent
from durable_ext.tracebacks import user_traceback

_S = OrchestrationRuntimeStatus

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
        self._now = datetime.min.replace(tzinfo=UTC)
        self._backlog = Backlog()
        self._feeder: Feeder | None = None
        self._history = RewoundHistory([])  # the events are kept for a rewind, if what was replayed ends in a failure
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

    def awaits(self, event: HistoryEvent) -> bool:
        """Whether an outcome answers an open call, as the first to do so. True for whatever is no outcome."""
        task_id = outcome_task_id(event)
        if task_id is None:
            return True
        feeder = self._feeder
        return (
            feeder is not None
            and task_id in feeder.execution.open
            and task_id not in feeder.suspension.answered
            and self._history.counts(event, task_id)
        )

    # --- replay ---------------------------------------------------------------------------------------

    def replay(self, history: Sequence[HistoryEvent]) -> None:
        """Rebuild from the recorded events of one execution, from its first.

        User errors and non-determinism do not raise here; they surface in the Turn of the next `advance`.
        """
        self._replay(RewoundHistory.of(history))
        if self.runtime_status is not _S.Failed:
            self._history.events = []

    def _replay(self, history: RewoundHistory) -> None:
        self._history, self._end, self._broken = history, None, None
        events = history.events
        at, started = next((at, event) for at, event in enumerate(events) if isinstance(event, ExecutionStarted))
        for event in events[:at]:
            if isinstance(event, OrchestratorStarted):
                self._now = event.timestamp
        feeder = self._feeder = self._new_feeder(started)
        feeder.execution.replaying = True
        try:
            feeder.replay(events[at + 1 :])
        except NonDeterminismError as error:
            self._broken = error
        self._now = feeder.execution.now
        self._end = feeder.end
        if self._broken is not None:
            self._end = next((event for event in events if isinstance(event, ExecutionCompleted)), None)

    def _new_feeder(self, started: ExecutionStarted) -> Feeder:
        execution = Execution(started, self._now, self._codec, self._options)
        return Feeder(self._function, execution, self._input_type)

    # --- a turn ---------------------------------------------------------------------------------------

    def advance(self, now: datetime, inbox: Sequence[HistoryEvent]) -> Turn:
        """Feed new events and return what follows from them.

        The turn's time is `now`, or the previous turn's if the clock went back. Outcomes nobody awaits, and whatever
        but external events comes after the end, are left out of the Turn. A finished session takes an
        ExecutionRewound, if it failed.
        """
        turn = TurnBuilder(max(now, self._now), self.runtime_status)
        if self._feeder is not None:
            turn.custom_status_before = self._feeder.execution.custom_status
            self._feeder.execution.cancelled.clear()
        self._now = turn.now
        events = deque(inbox)
        if self._broken is not None and self._end is None:
            self._finish(turn, _S.Failed, str(self._broken), describe(self._broken))
        elif self._end is not None:
            self._rewind(turn, events)
        else:
            self._live(turn, events)
        for event in events:
            if isinstance(event, EventRaised):
                turn.keep(self._backlog.keep(event))
        return self._sum_up(turn)

    def _live(self, turn: TurnBuilder, events: deque[HistoryEvent]) -> None:
        stop = next((event for event in events if isinstance(event, ExecutionTerminated)), None)
        if self._feeder is None:
            self._begin_line(turn, events, stop)
        while self._end is None:
            feeder = self._current
            execution = feeder.execution
            execution.replaying, execution.now = False, turn.now
            if not feeder.has_begun:
                self._take_before_begin(turn, events)
            feeder.sandbox.run(self._take_events, turn, events)
            continuation = self._finish_code(turn, stop)
            if continuation is None:
                return
            if turn.idle_generations >= _MAX_IDLE_GENERATIONS:
                self._fail(turn, _endless(turn.idle_generations + 1))
                return
            self._next_generation(turn, continuation)

    @property
    def _current(self) -> Feeder:
        assert self._feeder is not None, "an execution begins with its start"
        return self._feeder

    def _begin_line(self, turn: TurnBuilder, events: deque[HistoryEvent], stop: ExecutionTerminated | None) -> None:
        """Record the start. What came with it to control the instance goes ahead of its code."""
        started = events.popleft()
        assert isinstance(started, ExecutionStarted), "an execution begins with its start"
        feeder = self._begin_execution(turn, started)
        if stop is not None:
            turn.record(stop)
            self._terminate(turn, stop)
            return
        controls = [event for event in events if isinstance(event, ExecutionSuspended | ExecutionResumed)]
        for control in controls:
            events.remove(control)
            if self._is_news(turn, control):
                turn.record(control)
                feeder.feed(control)
        if not feeder.suspension.is_on:
            feeder.begin()

    def _begin_execution(self, turn: TurnBuilder, started: ExecutionStarted) -> Feeder:
        started = msgspec.structs.replace(started, python=self._options.python)
        turn.begin(started)
        self._feeder = self._new_feeder(started)
        return self._feeder

    def _take_before_begin(self, turn: TurnBuilder, events: deque[HistoryEvent]) -> None:
        """Take events up to the resume that lets the code of a suspended instance begin."""
        feeder = self._current
        while events and self._end is None and not feeder.has_begun:
            event = events.popleft()
            if isinstance(event, ExecutionResumed):
                turn.record(event)
                feeder.resume()
            else:
                self._take(turn, event)

    def _take_events(self, turn: TurnBuilder, events: deque[HistoryEvent]) -> None:
        """Feed events until there are none, or the code is done."""
        feeder = self._current
        mailbox, suspension, driver = feeder.execution.mailbox, feeder.suspension, feeder.driver
        if feeder.check.has_unrecorded:
            feeder.check.has_unrecorded = False
            self._send_pending(turn)
        while not driver.done and self._end is None:
            if turn.events_fed >= turn.events_limit and self._is_cut(turn, events):
                return
            kept = self._backlog.next_for(mailbox) if self._backlog and not suspension.is_on else None
            if kept is not None:
                self._backlog.take(kept)
                turn.release(kept)
                turn.record(kept.event)
                feeder.feed(kept.event)
            elif events:
                self._take(turn, events.popleft())
            else:
                return

    def _take(self, turn: TurnBuilder, event: HistoryEvent) -> None:
        """Feed an event of the inbox, or keep it, or leave it out."""
        feeder = self._current
        if isinstance(event, ExecutionTerminated):
            turn.record(event)
            self._terminate(turn, event)
        elif isinstance(event, EventRaised):
            name = event.name.casefold()
            if feeder.execution.mailbox.demand(name) > feeder.suspension.holds(name):
                turn.record(event)
                feeder.feed(event)
            else:
                turn.keep(self._backlog.keep(event))
        elif self._is_news(turn, event):
            if isinstance(event, ExecutionSuspended):
                self._show_that_code_has_begun(turn)
            turn.record(event)
            feeder.feed(event)

    def _is_news(self, turn: TurnBuilder, event: HistoryEvent) -> bool:
        is_suspended = self._current.suspension.is_on
        if isinstance(event, ExecutionSuspended):
            return not is_suspended
        if isinstance(event, ExecutionResumed):
            return is_suspended
        if outcome_task_id(event) is not None:
            return self.awaits(event) and not turn.replaces_history  # else it is for the generation before
        return not isinstance(event, ExecutionStarted | ExecutionRewound)

    def _show_that_code_has_begun(self, turn: TurnBuilder) -> None:
        """Keep a suspension from following the start in the history, which would say that the code has not begun."""
        if self._current.has_begun and isinstance(turn.records[-1], ExecutionStarted):
            self._send_pending(turn)
            if isinstance(turn.records[-1], ExecutionStarted):
                turn.record_boundary()

    def _is_cut(self, turn: TurnBuilder, events: deque[HistoryEvent]) -> bool:
        """Whether the turn ends here. Only external events can wait for the next one, and only in their order."""
        turn.events_limit += MAX_EVENTS_PER_TURN
        feeder = self._current
        if feeder.suspension.is_on or not all(isinstance(event, EventRaised | GenericEvent) for event in events):
            return False
        mailbox = feeder.execution.mailbox
        for event in events:
            if isinstance(event, EventRaised):
                turn.keep(self._backlog.keep(event))
                mailbox.wanted[event.name.casefold()] = None
        events.clear()
        if self._backlog.next_for(mailbox) is not None:
            started = feeder.execution.started
            wake_up = GenericEvent(timestamp=turn.now)
            turn.send(Message(instance_id=started.instance_id, execution_id=started.execution_id, event=wake_up))
        return True

    def _finish_code(self, turn: TurnBuilder, stop: ExecutionTerminated | None) -> Continuation | None:
        """Record what the code asked for, and its end if it came to one; return how it goes on as new, if so."""
        driver, execution = self._current.driver, self._current.execution
        self._send_pending(turn)
        if self._end is not None or not driver.done:
            return None
        if driver.error is not None:
            self._fail(turn, driver.error)
        elif execution.continuation is None:
            self._complete(turn, driver.value)
        elif stop is None:
            return execution.continuation
        else:  # terminate beats a concurrent continue-as-new
            turn.record(stop)
            self._terminate(turn, stop)
        return None

    def _send_pending(self, turn: TurnBuilder) -> None:
        execution = self._current.execution
        for action in execution.pending.values():
            turn.records.append(action.record(turn.now, with_input=self._options.store_inputs))
            if not action.is_withdrawn:
                turn.send(action.send(execution.started, turn.now))
        execution.pending.clear()

    def _next_generation(self, turn: TurnBuilder, continuation: Continuation) -> None:
        """Close this generation and begin the next, with the events that were fed to this one but not read."""
        feeder = self._current
        old = feeder.execution
        carried: list[HistoryEvent] = []
        if continuation.save_events:
            carried += old.mailbox.unread()
        else:
            for kept in self._backlog.drop():
                turn.release(kept)
        feeder.close()
        turn.begin_generation(old.custom_status)
        started = msgspec.structs.replace(
            old.started,
            timestamp=turn.now,
            execution_id=ids.next_execution_id(old.started.execution_id),
            input=continuation.input,
            rewinds=old.started.rewinds + self._history.rewinds,
        )
        self._history = RewoundHistory([])
        feeder = self._begin_execution(turn, started)
        turn.records += carried
        feeder.begin()
        feeder.sandbox.run(feeder.feed_all, carried)

    # --- ends -----------------------------------------------------------------------------------------

    def _complete(self, turn: TurnBuilder, value: Any) -> None:
        try:
            result = self._codec.encode(value)
        except CodecError as error:
            self._fail(turn, error)
        else:
            self._finish(turn, _S.Completed, result)

    def _fail(self, turn: TurnBuilder, error: BaseException) -> None:
        name = self._current.execution.started.name
        text = f"Orchestrator function '{name}' failed: {text_of(error) or type(error)}"
        self._finish(turn, _S.Failed, text, describe(error, user_traceback(error)))

    def _terminate(self, turn: TurnBuilder, event: ExecutionTerminated) -> None:
        # What was asked for before still goes out.
        self._send_pending(turn)
        if event.recurse:
            for call in self._current.execution.open.values():
                if isinstance(call.action, CallSubOrchestrator):
                    turn.send(Message(instance_id=call.action.instance_id, event=event))
        self._finish(turn, _S.Terminated, event.reason)

    def _finish(
        self,
        turn: TurnBuilder,
        status: OrchestrationRuntimeStatus,
        result: str | None,
        failure: FailureDetails | None = None,
    ) -> None:
        execution = self._current.execution
        self._end = ExecutionCompleted(
            timestamp=turn.now,
            event_id=execution.next_id,
            orchestration_status=status,
            result=result,
            failure_details=failure,
        )
        turn.records.append(self._end)
        rewinds = execution.started.rewinds + self._history.rewinds
        if (answer := answer_to_parent(execution.started, self._end, rewinds)) is not None:
            turn.send(answer)

    # --- rewind ---------------------------------------------------------------------------------------

    def _rewind(self, turn: TurnBuilder, events: deque[HistoryEvent]) -> None:
        """Begin again from before the failure, and ask again for whatever was open then."""
        request = next((event for event in events if isinstance(event, ExecutionRewound)), None)
        if request is None or self.runtime_status is not _S.Failed:
            return
        while (event := events.popleft()) is not request:
            if isinstance(event, EventRaised):
                turn.keep(self._backlog.keep(event))
        assert self._history.events, "a session is rewound after replaying the history that ends in the failure"
        error = self._current.driver.error if self._broken is None else None
        marker = msgspec.structs.replace(request, task_ids=failed_tasks(error), parent=None, asked=0)
        self._history.events += turn.records
        turn.record(marker)
        self.close()
        self._replay(self._history.rewound(marker))
        if self._broken is not None:
            self._finish(turn, _S.Failed, str(self._broken), describe(self._broken))
            return
        history, feeder = self._history, self._current
        execution = feeder.execution
        execution.cancelled.clear()  # long ago
        unanswered = execution.open.keys() - execution.pending.keys() - feeder.suspension.answered
        self._live(turn, events)
        if self._current is feeder and self._end is None:
            for task_id, call in execution.open.items():
                if task_id in unanswered:
                    turn.send(history.ask_again(call.action, execution.started, marker.reason, turn.now))

    # --- result ---------------------------------------------------------------------------------------

    def _sum_up(self, turn: TurnBuilder) -> Turn:
        status = self.runtime_status
        turn.records.append(OrchestratorCompleted(timestamp=turn.now))
        feeder = self._current
        execution = feeder.execution
        has_new_status = execution.custom_status is not turn.custom_status_before
        return Turn(
            execution_id=execution.started.execution_id,
            events=turn.records,
            replaces_history=turn.replaces_history,
            messages=turn.messages,
            work=turn.work,
            runtime_status=status,
            custom_status=turn.custom_status if execution.custom_status is msgspec.UNSET else execution.custom_status,
            output=self._end.result if self._end is not None else feeder.suspension.reason,
            started=turn.started,
            status_changed=turn.started is not None or has_new_status or status is not turn.status_before,
            unread=tuple(turn.unread.values()),
            read=turn.read,
            cancelled=tuple(execution.cancelled),
        )

    def close(self) -> None:
        """Unload: user code ends within a bound, `finally` blocks may run, and nothing is scheduled by them."""
        if self._feeder is not None:
            self._feeder.close()


def _endless(generations: int) -> DurableError:
    return DurableError(
        f"continue_as_new was called {generations:,} times in a row without waiting for anything in between: "
        f"an endless loop. Wait for a timer, an event or an activity before continuing."
    )
