"""A live orchestrator and its position in the event stream.

Feeding recorded events rebuilds it (`replay`); feeding new ones moves it on and says what that changed (`advance`).
Both take the events one at a time, with user code idle after each, so that how messages were batched never shows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from durable_ext import ids
from durable_ext.codec import Codec
from durable_ext.engine.actions import RECORDED_KINDS, Action, CallSubOrchestrator, CreateTimer
from durable_ext.engine.context import DurableOrchestrationContext
from durable_ext.engine.coroutines import CoroutineDriver, loop_for
from durable_ext.engine.drivers import Driver, start
from durable_ext.engine.execution import Continuation, Execution, describe_site
from durable_ext.engine.loop import REFUSING, World
from durable_ext.engine.rewind import Reading, Reread, culprits, read, restarted, take_back
from durable_ext.engine.turn import Draft, EngineOptions, Turn
from durable_ext.errors import CodecError, DurableError, FailureDetails, NonDeterminismError, describe, text_of
from durable_ext.history import (
    EventRaised,
    EventSent,
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
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceCreated,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
    TimerCreated,
    TimerFired,
    outcome_task_id,
)
from durable_ext.messages import Message, WorkItem, answer_to_parent
from durable_ext.tracebacks import user_traceback

_S = OrchestrationRuntimeStatus

# A generation that continues as new without waiting for anything runs on in the same turn. This many in a row
# are an endless loop, which would hold up everything else.
_MAX_GENERATIONS_PER_TURN = 10_000


class OrchestrationSession:
    """One orchestrator in memory. Not thread-safe; one turn at a time."""

    def __init__(
        self,
        function: Callable[[Any], Any],
        *,
        codec: Codec,
        options: EngineOptions,
        input_type: Any = None,
    ) -> None:
        self._function, self._codec, self._options, self._input_type = function, codec, options, input_type
        self._reset()

    def _reset(self) -> None:
        self.started: ExecutionStarted | None = None
        """How the current execution began, or None before that."""
        self._execution: Execution  # both from the start on
        self._driver: Driver
        self._world = World(REFUSING)
        self._now = datetime.min.replace(tzinfo=UTC)
        self._held: list[HistoryEvent] | None = None  # what arrived since the suspension; None: not suspended
        self._answered: set[int] = set()  # the calls whose outcomes are among the held
        self._suspended_for: str | None = None
        self._unfed: Sequence[HistoryEvent] = ()  # held back still when the code came to its end
        self._end: ExecutionCompleted | None = None
        self._broken: NonDeterminismError | None = None
        self._reading: Sequence[Reading] = ()  # kept for a rewind, where the replayed history ends in a failure
        self._lenient = False
        self._has_unrecorded = False  # the turn replayed last left actions its history does not have

    # --- facts ----------------------------------------------------------------------------------------

    @property
    def instance_id(self) -> str | None:
        """The instance, once begun."""
        return self.started.instance_id if self.started is not None else None

    @property
    def execution_id(self) -> str | None:
        """The current execution, once begun."""
        return self.started.execution_id if self.started is not None else None

    @property
    def start_id(self) -> str | None:
        """The execution that began this line of generations, once begun."""
        return self.started.start_id if self.started is not None else None

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
        if self.started is None:
            return _S.Pending
        return _S.Running if self._held is None else _S.Suspended

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
        return self.started is not None and task_id in self._execution.open and task_id not in self._answered

    # --- replay ---------------------------------------------------------------------------------------

    def replay(self, history: Sequence[HistoryEvent]) -> None:
        """Rebuild from the recorded events of one execution, from its first.

        User errors and non-determinism do not raise here; they surface in the Turn of the next `advance`.
        """
        self._replay(read(history))

    def _replay(self, reading: Sequence[Reading]) -> None:
        events = iter(reading)
        for event in events:
            if isinstance(event, ExecutionStarted):
                self._begin(event, replaying=True)
                break
            _FEEDERS[type(event)](self, event)
        try:
            self._world.run(self._feed_recorded, events)
        except NonDeterminismError as error:
            self._broken = error
            self._end = next((event for event in reading if isinstance(event, ExecutionCompleted)), None)
        if self._end is not None and self._end.orchestration_status is _S.Failed:
            self._reading = reading

    def _feed_recorded(self, events: Iterable[Reading]) -> None:
        feeders = _FEEDERS
        for event in events:
            feeders[type(event)](self, event)

    def _begin(self, started: ExecutionStarted, *, replaying: bool) -> None:
        """Call the orchestrator function, in a world of its own."""
        execution = Execution(started, self._now, self._codec, self._options)
        execution.replaying = replaying
        self.started, self._execution = started, execution
        self._world = World(REFUSING)
        self._world.run(self._call)
        if isinstance(self._driver, CoroutineDriver):
            self._world = World(self._driver.loop)
        self._world.run(self._driver.run)

    def _call(self) -> None:
        context = DurableOrchestrationContext(self._execution, self._input_type)
        self._driver = start(self._function, context, self._execution, loop_for)

    # --- feeding recorded events ----------------------------------------------------------------------

    def _turn_started(self, event: OrchestratorStarted) -> None:
        self._now = event.timestamp
        if self.started is not None:
            self._execution.now = event.timestamp

    def _turn_completed(self, event: OrchestratorCompleted) -> None:
        # No error yet: calls appended after everything recorded are taken with the next turn, ahead of its news.
        self._has_unrecorded = bool(self._execution.pending)

    def _check_unrecorded(self) -> None:
        """The turn before left calls without a record; what arrives now must find them recorded."""
        self._has_unrecorded = False
        if self._execution.pending and not self._lenient:
            action = next(iter(self._execution.pending.values()))
            raise self._mismatch(action.action_id, "nothing", action)

    def _match(self, event: TaskScheduled | SubOrchestrationInstanceCreated | TimerCreated | EventSent) -> None:
        """A recorded action: the code must have asked for just that."""
        pending = self._execution.pending
        action = pending.get(event.event_id)
        if action is not None and action.recorded_as is type(event):
            name = "" if type(event) is TimerCreated else event.name  # type: ignore[union-attr]  # only timers lack it
            if name == action.name or name.casefold() == action.name.casefold():
                del pending[event.event_id]
                return
        if not self._lenient:
            recorded = f"{RECORDED_KINDS[type(event)]} '{getattr(event, 'name', '')}'".removesuffix(" ''")
            raise self._mismatch(event.event_id, recorded, action)

    def _mismatch(self, step: int, recorded: str, action: Action | None) -> NonDeterminismError:
        driver, started = self._driver, self._execution.started
        if action is not None:
            requested, where = f"the code asked for {action}", describe_site(action.site)
        elif driver.error is not None:
            requested, where = f"the code raised {type(driver.error).__name__}: {text_of(driver.error)}", None
        elif driver.done:
            requested, where = "the code has come to its end without asking for it", None
        else:
            requested, where = "the code has not asked for it: it waits", driver.position()
        hint = ""
        if isinstance(driver, CoroutineDriver) and started.python not in (None, self._options.python):
            hint = (
                f"the instance began on Python {started.python} and this is Python {self._options.python}, "
                f"between which asyncio orders calls differently; "
            )
        return NonDeterminismError(step=step, recorded=recorded, requested=requested, where=where, hint=hint)

    def _arrived(self, event: HistoryEvent) -> None:
        """Something from outside: to the code, or kept while the instance is suspended."""
        if self._has_unrecorded:
            self._check_unrecorded()
        if self._held is None:
            _ARRIVALS[type(event)](self, event)
        else:
            self._held.append(event)
            if (task_id := outcome_task_id(event)) is not None:
                self._answered.add(task_id)

    def _suspended(self, event: ExecutionSuspended) -> None:
        if self._held is None:
            self._held = []
            self._suspended_for = event.reason

    def _resumed(self, event: ExecutionResumed) -> None:
        held, self._held = deque(self._held or ()), None
        self._answered.clear()
        self._suspended_for = None
        while held and not self._driver.done:
            each = held.popleft()
            _ARRIVALS[type(each)](self, each)
        self._unfed = tuple(held)

    def _ended(self, event: ExecutionCompleted) -> None:
        self._end = event

    def _reread(self, directive: Reread) -> None:
        self._lenient = True
        self._execution.next_id = max(self._execution.next_id, directive.next_id)

    def _rewound(self, event: ExecutionRewound) -> None:
        self._lenient = False
        self._has_unrecorded = False

    def _ignored(self, event: HistoryEvent) -> None:
        """Says nothing to the code."""

    # --- what arrives, and the code's answer to it ----------------------------------------------------

    def _returned(self, event: TaskCompleted | SubOrchestrationInstanceCompleted) -> None:
        if self._is_open(event.task_scheduled_id):
            self._execution.complete(event.task_scheduled_id, event.result)
            self._driver.run()

    def _raised(self, event: TaskFailed | SubOrchestrationInstanceFailed) -> None:
        if self._is_open(event.task_scheduled_id):
            self._execution.fail(event)
            self._driver.run()

    def _fired(self, event: TimerFired) -> None:
        if self._is_open(event.timer_id):
            self._execution.fire(event.timer_id)
            self._driver.run()

    def _event_raised(self, event: EventRaised) -> None:
        if self._execution.mailbox.put(event):
            self._driver.run()

    def _is_open(self, task_id: int) -> bool:
        """Whether the call waits for its outcome. An outcome of a call that was never made is non-determinism."""
        if task_id in self._execution.open:
            return True
        if task_id >= self._execution.next_id and not self._lenient:
            raise self._mismatch(task_id, "an outcome", None)
        return False

    # --- new events -----------------------------------------------------------------------------------

    def advance(self, now: datetime, inbox: Sequence[HistoryEvent]) -> Turn:
        """Feed new events and return what follows from them.

        The turn's time is `now`, or the previous turn's if the clock went back. Outcomes nobody awaits, and whatever
        comes after the end, are left out of the Turn. A finished session takes an ExecutionRewound, if it failed.
        """
        turn = Draft(max(now, self._now), self.runtime_status)
        self._now = turn.now
        events = deque(inbox)
        if self._broken is not None and self._end is None:
            self._end_broken(turn, self._broken)
        elif self._end is not None:
            self._rewind(turn, events)
        else:
            self._live(turn, events)
        return self._sum_up(turn)

    def _live(self, turn: Draft, events: deque[HistoryEvent]) -> None:
        generations = 0
        while True:
            if self.started is None:
                started = events.popleft()
                assert isinstance(started, ExecutionStarted), "an execution begins with its start"
                started = turn.begin(started, self._options.python)
                self._begin(started, replaying=False)
            self._world.run(self._take_all, turn, events)
            continuation = self._finish_code(turn, events)
            if continuation is None:
                return
            generations += 1
            if generations > _MAX_GENERATIONS_PER_TURN:
                self._fail(turn, _endless(generations))
                return
            events = self._next_generation(turn, continuation, events)

    def _take_all(self, turn: Draft, events: deque[HistoryEvent]) -> None:
        """Feed events until there are none, or the code is done."""
        execution, driver = self._execution, self._driver
        execution.replaying = False
        execution.now = self._now
        status_before = execution.custom_status
        if self._has_unrecorded:
            self._has_unrecorded = False
            self._send_pending(turn)
        while events and not driver.done and self._end is None:
            event = events.popleft()
            if isinstance(event, ExecutionTerminated):
                turn.records.append(event)
                self._terminate(turn, event)
            elif self._is_news(event):
                turn.records.append(event)
                _FEEDERS[type(event)](self, event)
        if execution.custom_status is not status_before or turn.started is not None:
            turn.status_changed = True

    def _is_news(self, event: HistoryEvent) -> bool:
        if isinstance(event, ExecutionSuspended):
            return self._held is None
        if isinstance(event, ExecutionResumed):
            return self._held is not None
        return not isinstance(event, ExecutionStarted | ExecutionRewound) and self.awaits(event)

    def _finish_code(self, turn: Draft, rest: deque[HistoryEvent]) -> Continuation | None:
        """Record what the code asked for, and its end if it came to one; return how it goes on as new, if so."""
        driver, execution = self._driver, self._execution
        self._send_pending(turn)
        if self._end is not None or not driver.done:
            return None
        if driver.error is not None:
            self._fail(turn, driver.error)
        elif execution.continuation is not None:
            # Terminate beats a concurrent continue-as-new.
            stop = next((event for event in rest if isinstance(event, ExecutionTerminated)), None)
            if stop is None:
                return execution.continuation
            turn.records.append(stop)
            self._terminate(turn, stop)
        else:
            self._complete(turn, driver.value)
        return None

    def _send_pending(self, turn: Draft) -> None:
        execution = self._execution
        for action in execution.pending.values():
            turn.records.append(action.record(turn.now, with_input=self._options.store_inputs))
            turn.send(action.send(execution.started, turn.now))
        execution.pending.clear()

    def _next_generation(
        self, turn: Draft, continuation: Continuation, rest: Iterable[HistoryEvent]
    ) -> deque[HistoryEvent]:
        """Close this generation; return what the next one begins with."""
        old = self._execution
        unread: list[HistoryEvent] = list(old.mailbox.unread()) if continuation.save_events else []
        carried = EventRaised | ExecutionSuspended | ExecutionResumed
        unread += [event for event in (*self._unfed, *rest) if isinstance(event, carried)]
        self.close()
        started = msgspec.structs.replace(
            old.started,
            timestamp=turn.now,
            execution_id=ids.next_execution_id(old.started.execution_id),
            input=continuation.input,
            python=None,
        )
        turn.begin_generation(old.custom_status)
        self._reset()
        self._now = turn.now
        return deque([started, *unread])

    # --- ends -----------------------------------------------------------------------------------------

    def _complete(self, turn: Draft, value: Any) -> None:
        try:
            result = self._codec.encode(value)
        except CodecError as error:
            self._fail(turn, error)
        else:
            self._finish(turn, _S.Completed, result)

    def _fail(self, turn: Draft, error: BaseException) -> None:
        name = self._execution.started.name
        text = f"Orchestrator function '{name}' failed: {text_of(error) or type(error)}"
        self._finish(turn, _S.Failed, text, describe(error, user_traceback(error)))

    def _end_broken(self, turn: Draft, error: NonDeterminismError) -> None:
        self._finish(turn, _S.Failed, str(error), describe(error))

    def _terminate(self, turn: Draft, event: ExecutionTerminated) -> None:
        # What was asked for before still goes out.
        self._send_pending(turn)
        if event.recurse:
            for call in self._execution.open.values():
                if isinstance(call.action, CallSubOrchestrator):
                    turn.messages.append(Message(instance_id=call.action.instance_id, event=event))
        self._finish(turn, _S.Terminated, event.reason)

    def _finish(
        self,
        turn: Draft,
        status: OrchestrationRuntimeStatus,
        result: str | None,
        failure: FailureDetails | None = None,
    ) -> None:
        execution = self._execution
        self._end = ExecutionCompleted(
            timestamp=turn.now,
            event_id=execution.next_id,
            orchestration_status=status,
            result=result,
            failure_details=failure,
        )
        turn.records.append(self._end)
        if (answer := answer_to_parent(execution.started, self._end)) is not None:
            turn.messages.append(answer)

    # --- rewind ---------------------------------------------------------------------------------------

    def _rewind(self, turn: Draft, events: deque[HistoryEvent]) -> None:
        """Begin again from before the failure, and ask again for whatever was open then."""
        while events and not isinstance(events[0], ExecutionRewound):
            events.popleft()
        if not events or self.runtime_status is not _S.Failed:
            return
        assert self._reading, "a session is rewound after replaying the history that ends in the failure"
        error = self._driver.error if self._broken is None else None
        request = events.popleft()
        assert isinstance(request, ExecutionRewound)
        marker = msgspec.structs.replace(request, task_ids=culprits(error), parent=None)
        reading = take_back([*self._reading, *turn.records], marker)
        turn.records.append(marker)
        self.close()
        self._reset()
        self._replay(reading)
        if self._broken is not None:
            self._end_broken(turn, self._broken)
            return
        execution = self._execution
        asked_before = execution.open.keys() - execution.pending.keys()
        self._live(turn, events)
        if self._execution is execution and self._end is None:
            for task_id, call in execution.open.items():
                if task_id in asked_before:
                    turn.send(self._ask_again(call.action, reading, marker, turn.now))

    def _ask_again(
        self, action: Action, reading: Sequence[Reading], marker: ExecutionRewound, now: datetime
    ) -> Message | WorkItem:
        sender = self._execution.started
        if isinstance(action, CallSubOrchestrator):
            # Whatever became of the child meanwhile: if it failed it is rewound, if it has ended it answers again.
            event = ExecutionRewound(timestamp=now, reason=marker.reason, parent=action.as_parent(sender))
            return Message(instance_id=action.instance_id, event=event)
        if isinstance(action, CreateTimer) and action.action_id in marker.task_ids:
            action = restarted(action, reading, now)
        return action.send(sender, now)

    # --- result ---------------------------------------------------------------------------------------

    def _sum_up(self, turn: Draft) -> Turn:
        status = self.runtime_status
        turn.records.append(OrchestratorCompleted(timestamp=turn.now))
        execution = self._execution
        custom_status = turn.custom_status if execution.custom_status is msgspec.UNSET else execution.custom_status
        return Turn(
            execution_id=execution.started.execution_id,
            events=turn.records,
            replaces_history=turn.replaces_history,
            messages=turn.messages,
            work=turn.work,
            runtime_status=status,
            custom_status=custom_status,
            output=self._end.result if self._end is not None else self._suspended_for,
            started=turn.started,
            status_changed=turn.status_changed or status is not turn.status_before,
        )

    def close(self) -> None:
        """Unload: user code ends within a bound, `finally` blocks may run, and nothing is scheduled by them."""
        if self.started is not None:
            self._execution.close()
            self._world.run(self._driver.close)


def _endless(generations: int) -> DurableError:
    return DurableError(
        f"continue_as_new was called {generations:,} times in a row without waiting for anything in between: "
        f"an endless loop. Wait for a timer, an event or an activity before continuing."
    )


# What each recorded event does to a session. A table, so that nothing is forgotten: a test walks it.
_FEEDERS: dict[type, Callable[[OrchestrationSession, Any], None]] = {
    OrchestratorStarted: OrchestrationSession._turn_started,
    OrchestratorCompleted: OrchestrationSession._turn_completed,
    ExecutionStarted: OrchestrationSession._ignored,
    ExecutionCompleted: OrchestrationSession._ended,
    ExecutionTerminated: OrchestrationSession._ignored,
    ExecutionSuspended: OrchestrationSession._suspended,
    ExecutionResumed: OrchestrationSession._resumed,
    ExecutionRewound: OrchestrationSession._rewound,
    TaskScheduled: OrchestrationSession._match,
    SubOrchestrationInstanceCreated: OrchestrationSession._match,
    TimerCreated: OrchestrationSession._match,
    EventSent: OrchestrationSession._match,
    TaskCompleted: OrchestrationSession._arrived,
    TaskFailed: OrchestrationSession._arrived,
    SubOrchestrationInstanceCompleted: OrchestrationSession._arrived,
    SubOrchestrationInstanceFailed: OrchestrationSession._arrived,
    TimerFired: OrchestrationSession._arrived,
    EventRaised: OrchestrationSession._arrived,
    GenericEvent: OrchestrationSession._ignored,
    Reread: OrchestrationSession._reread,
}

# What each event from outside does to the code.
_ARRIVALS: dict[type, Callable[[OrchestrationSession, Any], None]] = {
    TaskCompleted: OrchestrationSession._returned,
    SubOrchestrationInstanceCompleted: OrchestrationSession._returned,
    TaskFailed: OrchestrationSession._raised,
    SubOrchestrationInstanceFailed: OrchestrationSession._raised,
    TimerFired: OrchestrationSession._fired,
    EventRaised: OrchestrationSession._event_raised,
}
