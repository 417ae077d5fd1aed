"""The way of events to the code of an instance: what is fed, what is kept for later, and what is left out."""

from __future__ import annotations

from durable_ext.engine.backlog import Backlog
from durable_ext.engine.builder import TurnBuilder
from durable_ext.engine.feeding import Feeder
from durable_ext.history import (
    EventRaised,
    ExecutionResumed,
    ExecutionRewound,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
    GenericEvent,
    HistoryEvent,
    outcome_task_id,
)
from durable_ext.messages import Message

MAX_EVENTS_PER_TURN = 1_000
"""So many external events are fed in one turn, if nothing else has come: other instances want their turn, too."""


class Intake:
    """Takes events out of the inbox of a turn, until it is empty, the code is done, or a terminate is met.

    What is fed is recorded. An external event that nobody waits for goes into the backlog.
    """

    def __init__(self) -> None:
        self.backlog = Backlog()

    def take_controls(self, feeder: Feeder, turn: TurnBuilder) -> None:
        """Take what came with the start to suspend or resume the instance: it goes ahead of the code."""
        controls = [event for event in turn.inbox if isinstance(event, ExecutionSuspended | ExecutionResumed)]
        for control in controls:
            turn.inbox.remove(control)
            if isinstance(control, ExecutionSuspended) != feeder.suspension.is_on:
                turn.record(control)
                feeder.feed(control)

    def take_before_begin(self, feeder: Feeder, turn: TurnBuilder) -> None:
        """Take events up to the resume that lets the code of a suspended instance begin."""
        while turn.inbox and turn.stop is None:
            event = turn.inbox.popleft()
            if isinstance(event, ExecutionResumed):
                turn.record(event)
                feeder.resume()
                return
            self._take(feeder, turn, event)

    def take(self, feeder: Feeder, turn: TurnBuilder) -> None:
        """Take events, the code at rest after each. Call this inside the sandbox."""
        inbox, driver, mailbox, suspension = turn.inbox, feeder.driver, feeder.execution.mailbox, feeder.suspension
        if feeder.has_unrecorded:
            feeder.has_unrecorded = False
            turn.take_calls(feeder.execution)
        waiting = self.backlog.waiting
        while not driver.done and turn.stop is None:
            if turn.events_fed >= MAX_EVENTS_PER_TURN and self._is_cut(feeder, turn):
                return
            kept = self.backlog.next_for(mailbox) if waiting and not suspension.is_on else None
            if kept is not None:
                self.backlog.take(kept)
                turn.release(kept)
                self._raise(feeder, turn, kept.event)
            elif inbox:
                self._take(feeder, turn, inbox.popleft())
            else:
                return

    def _take(self, feeder: Feeder, turn: TurnBuilder, event: HistoryEvent) -> None:
        task_id = outcome_task_id(event)
        if task_id is not None:
            # In a later generation of the turn an outcome is for the one before.
            if not turn.replaces_history and feeder.is_open(task_id, event):
                turn.record(event)
                feeder.feed(event)
        elif isinstance(event, EventRaised):
            if feeder.demands(event):
                self._raise(feeder, turn, event)
            else:
                turn.keep(self.backlog.keep(event))
        elif isinstance(event, ExecutionTerminated):
            turn.record_stop(event)
        else:
            self._take_control(feeder, turn, event)

    def _raise(self, feeder: Feeder, turn: TurnBuilder, event: EventRaised) -> None:
        turn.events_fed += 1
        turn.record(event)
        feeder.feed(event)

    def _take_control(self, feeder: Feeder, turn: TurnBuilder, event: HistoryEvent) -> None:
        is_suspended = feeder.suspension.is_on
        if isinstance(event, ExecutionStarted | ExecutionRewound):
            return
        if isinstance(event, ExecutionSuspended):
            if is_suspended:
                return
            self._show_that_code_has_begun(feeder, turn)
        if isinstance(event, ExecutionResumed) and not is_suspended:
            return
        turn.record(event)
        feeder.feed(event)

    def _show_that_code_has_begun(self, feeder: Feeder, turn: TurnBuilder) -> None:
        """Keep a suspension from following the start in the history, which would say that the code has not begun."""
        if feeder.has_begun and isinstance(turn.records[-1], ExecutionStarted):
            turn.take_calls(feeder.execution)
            if isinstance(turn.records[-1], ExecutionStarted):
                turn.record_boundary()

    def _is_cut(self, feeder: Feeder, turn: TurnBuilder) -> bool:
        """Whether the turn ends here. Only external events can wait for the next one, and only in their order."""
        turn.events_fed = 0
        is_free = all(isinstance(event, EventRaised | GenericEvent) for event in turn.inbox)
        if feeder.suspension.is_on or not is_free:
            return False
        mailbox = feeder.execution.mailbox
        for event in turn.inbox:
            if isinstance(event, EventRaised):
                turn.keep(self.backlog.keep(event))
                mailbox.wanted[event.name.casefold()] = None
        turn.inbox.clear()
        if self.backlog.next_for(mailbox) is not None:
            started = feeder.execution.started
            again = GenericEvent(timestamp=turn.now)
            turn.send(Message(instance_id=started.instance_id, execution_id=started.execution_id, event=again))
        return True

    def keep_rest(self, turn: TurnBuilder) -> None:
        """Keep the external events that came after the end; a rewind may want them."""
        for event in turn.inbox:
            if isinstance(event, EventRaised):
                turn.keep(self.backlog.keep(event))

    def drop_backlog(self, turn: TurnBuilder) -> None:
        """Nobody is to have the events kept so far."""
        for kept in self.backlog.drop():
            turn.release(kept)
