"""The code of one execution and the events it is fed, recorded ones and new ones alike.

Events are fed one at a time, with the code at rest after each, so that how messages were batched never shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from durable_ext.engine.context import DurableOrchestrationContext
from durable_ext.engine.coroutines import CoroutineDriver
from durable_ext.engine.drivers import Driver, NotBegun, start
from durable_ext.engine.execution import Execution
from durable_ext.engine.loop import REFUSING, Sandbox
from durable_ext.engine.records import RECORDS, Record, is_record_of, unasked, uncalled, unrecorded
from durable_ext.engine.rewind import LenientMarker, RewoundEvent, RewoundHistory
from durable_ext.engine.suspension import Suspension
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
    OrchestratorCompleted,
    OrchestratorStarted,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceCreated,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
    TimerCreated,
    TimerFired,
)


class Feeder:
    """Feeds one execution. Its code begins with `begin`; an instance may be suspended before that.

    `history` is what the execution is replayed from. `has_begun` says that its function was called, `has_unrecorded`
    that the turn replayed last left actions its history does not have.
    """

    def __init__(
        self, function: Callable[[Any], Any], execution: Execution, input_type: Any, history: RewoundHistory
    ) -> None:
        self._function, self.execution, self._input_type = function, execution, input_type
        self.history = history
        self.driver: Driver = NotBegun()
        self.sandbox = Sandbox(REFUSING)
        self.suspension = Suspension()
        self.has_begun = False
        self.has_unrecorded = False
        self._is_lenient = False
        self.end: ExecutionCompleted | None = None
        """The end of the execution, if it was fed."""

    def begin(self) -> None:
        """Call the orchestrator function, in a sandbox of its own."""
        self.has_begun = True
        self.sandbox.run(self._call)
        if isinstance(self.driver, CoroutineDriver):
            self.sandbox = Sandbox(self.driver.loop)
        self.sandbox.run(self.driver.run)

    def _call(self) -> None:
        context = DurableOrchestrationContext(self.execution, self._input_type)
        self.driver = start(self._function, context, self.execution)

    def close(self) -> None:
        """End the code. Nothing is scheduled by that."""
        self.execution.close()
        self.sandbox.run(self.driver.close)

    @property
    def rewinds(self) -> int:
        """`count_rewinds` of the execution's history."""
        return self.execution.started.rewinds + self.history.rewinds

    def is_open(self, task_id: int, outcome: HistoryEvent) -> bool:
        """Whether a task waits for this outcome, which would be the first it gets."""
        return (
            task_id in self.execution.open
            and task_id not in self.suspension.answered
            and (not self.history.voided or self.history.counts(outcome, task_id))
        )

    def demands(self, event: EventRaised) -> bool:
        """Whether somebody waits for an external event, and has none yet."""
        name = event.name.casefold()
        return self.execution.mailbox.demand(name) > self.suspension.holds(name)

    # --- replay ---------------------------------------------------------------------------------------

    def replay(self, events: Sequence[RewoundEvent]) -> None:
        """Feed what was recorded after the start.

        The code begins at once, unless the first record says that it was not to. Then it begins with the resume, or
        as soon as something is recorded that it asked for: other releases let it begin before they suspended it.
        """
        if not (events and isinstance(events[0], ExecutionSuspended | ExecutionTerminated)):
            self.begin()
        rest = iter(events)
        for event in () if self.has_begun else rest:
            if isinstance(event, ExecutionResumed):
                self.resume()
            else:
                if isinstance(event, RECORDS):
                    self.begin()
                self.feed(event)
            if self.has_begun:
                break
        self.sandbox.run(self.feed_all, rest)

    def feed_all(self, events: Iterable[RewoundEvent]) -> None:
        """Feed events, inside the sandbox."""
        feeders = FEEDERS
        for event in events:
            feeders[type(event)](self, event)

    def feed(self, event: RewoundEvent) -> None:
        """Feed one event. The code runs inside the sandbox: call this there, once it has begun."""
        FEEDERS[type(event)](self, event)

    # --- recorded events ------------------------------------------------------------------------------

    def _turn_started(self, event: OrchestratorStarted) -> None:
        self.execution.now = event.timestamp

    def _turn_completed(self, event: OrchestratorCompleted) -> None:
        # No error yet: calls appended after everything recorded are taken with the next turn, ahead of its news.
        self.has_unrecorded = bool(self.execution.pending)

    def _match(self, event: Record) -> None:
        """A recorded action: the code must have asked for just that."""
        pending = self.execution.pending
        action = pending.get(event.event_id)
        if action is not None and is_record_of(action, event):
            action.take_over(event)
            del pending[event.event_id]
            return
        if not self._is_lenient:
            raise unasked(event, self.execution, self.driver)

    def _ended(self, event: ExecutionCompleted) -> None:
        self.end = event

    def _read_leniently(self, marker: LenientMarker) -> None:
        self._is_lenient = True
        self.execution.next_id = max(self.execution.next_id, marker.next_id)

    def _rewound(self, event: ExecutionRewound) -> None:
        self._is_lenient = False
        self.has_unrecorded = False

    def _ignored(self, event: HistoryEvent) -> None:
        """Says nothing to the code."""

    # --- suspension -----------------------------------------------------------------------------------

    def _suspended(self, event: ExecutionSuspended) -> None:
        self.suspension.begin(event)

    def _resumed(self, event: ExecutionResumed) -> None:
        self._feed_held(self.suspension.end())

    def resume(self) -> None:
        """Resume an execution whose code has not begun, and begin it. Call this outside the sandbox."""
        held = self.suspension.end()
        self.begin()
        self.sandbox.run(self._feed_held, held)

    def _feed_held(self, held: Sequence[HistoryEvent]) -> None:
        for event in held:
            if not self.driver.done or isinstance(event, EventRaised):
                ARRIVALS[type(event)](self, event)

    # --- what arrives from outside, and the code's answer to it ---------------------------------------

    def _arrived(self, event: HistoryEvent) -> None:
        if self.has_unrecorded:
            self._require_records()
        if self.suspension.is_on:
            self.suspension.hold(event)
        else:
            ARRIVALS[type(event)](self, event)

    def _require_records(self) -> None:
        """Something arrives: what the code asked for in the turn before must be recorded by now."""
        self.has_unrecorded = False
        if self.execution.pending and not self._is_lenient:
            raise unrecorded(self.execution, self.driver)

    def _require_call(self, task_id: int) -> None:
        """An outcome nobody waits for: the call must at least have been made."""
        if task_id >= self.execution.next_id and not self._is_lenient:
            raise uncalled(task_id, self.execution, self.driver)

    def _returned(self, event: TaskCompleted | SubOrchestrationInstanceCompleted) -> None:
        if event.task_scheduled_id in self.execution.open:
            self.execution.complete(event.task_scheduled_id, event.result)
            self.driver.run()
        else:
            self._require_call(event.task_scheduled_id)

    def _raised(self, event: TaskFailed | SubOrchestrationInstanceFailed) -> None:
        if event.task_scheduled_id in self.execution.open:
            self.execution.fail(event)
            self.driver.run()
        else:
            self._require_call(event.task_scheduled_id)

    def _fired(self, event: TimerFired) -> None:
        if event.timer_id in self.execution.open:
            self.execution.fire(event.timer_id)
            self.driver.run()
        else:
            self._require_call(event.timer_id)

    def _event_raised(self, event: EventRaised) -> None:
        if self.driver.done:
            self.execution.mailbox.keep(event)
        elif self.execution.mailbox.feed(event):
            self.driver.run()


# What each recorded event does. A table, so that nothing is forgotten: a test walks it.
FEEDERS: dict[type, Callable[[Feeder, Any], None]] = {
    OrchestratorStarted: Feeder._turn_started,
    OrchestratorCompleted: Feeder._turn_completed,
    ExecutionStarted: Feeder._ignored,
    ExecutionCompleted: Feeder._ended,
    ExecutionTerminated: Feeder._ignored,
    ExecutionSuspended: Feeder._suspended,
    ExecutionResumed: Feeder._resumed,
    ExecutionRewound: Feeder._rewound,
    TaskScheduled: Feeder._match,
    SubOrchestrationInstanceCreated: Feeder._match,
    TimerCreated: Feeder._match,
    EventSent: Feeder._match,
    TaskCompleted: Feeder._arrived,
    TaskFailed: Feeder._arrived,
    SubOrchestrationInstanceCompleted: Feeder._arrived,
    SubOrchestrationInstanceFailed: Feeder._arrived,
    TimerFired: Feeder._arrived,
    EventRaised: Feeder._arrived,
    GenericEvent: Feeder._ignored,
    LenientMarker: Feeder._read_leniently,
}

# What each event from outside does to the code, once it is not suspended.
ARRIVALS: dict[type, Callable[[Feeder, Any], None]] = {
    TaskCompleted: Feeder._returned,
    SubOrchestrationInstanceCompleted: Feeder._returned,
    TaskFailed: Feeder._raised,
    SubOrchestrationInstanceFailed: Feeder._raised,
    TimerFired: Feeder._fired,
    EventRaised: Feeder._event_raised,
}
