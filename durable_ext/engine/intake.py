"""The way of events to the code of an instance: what is fed, what is kept for later, and what is left out."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from durable_ext.engine.backlog import Backlog, Kept
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

_CUT = "external events unread so far: "


class Intake:
    """Takes events out of the inbox of a turn, until it is empty, the code is done, or a terminate is met.

    What is fed is recorded. An external event that nobody waits for goes into the backlog.
    """

    def __init__(self) -> None:
        self.backlog = Backlog()
        self._left: deque[Kept] = deque()  # of an inbox, when its turn was cut
        self._expected = 0  # events of the next inbox that were in the backlog when the last turn was cut

    def expect_after(self, history: Sequence[HistoryEvent]) -> None:
        """The session was replayed: see whether the last turn of `history` was cut."""
        mark = history[-2] if len(history) > 1 else None
        if isinstance(mark, GenericEvent) and mark.data is not None and mark.data.startswith(_CUT):
            self._expected = int(mark.data.removeprefix(_CUT))

    def take_controls(self, feeder: Feeder, turn: TurnBuilder) -> None:
        """Take what came with the start to suspend or resume the instance: it goes ahead of the code.

        Only a suspension that lasts is recorded.
        """
        last: ExecutionSuspended | None = None
        controls = [event for event in turn.inbox if isinstance(event, ExecutionSuspended | ExecutionResumed)]
        for control in controls:
            turn.inbox.remove(control)
            last = None if isinstance(control, ExecutionResumed) else last or control
        if last is not None:
            turn.record(last)
            feeder.feed(last)

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
        if self._expected:
            self._take_expected(feeder, turn)
        waiting, left = self.backlog.waiting, self._left
        while not driver.done and turn.stop is None and turn.cut is None:
            kept = self.backlog.next_for(mailbox) if waiting and not suspension.is_on else None
            if kept is not None:
                if not self._is_cut(feeder, turn):
                    self.backlog.take(kept)
                    turn.release(kept)
                    self._raise(feeder, turn, kept.event)
            elif left:
                self._take_left(feeder, turn, left.popleft())
            elif inbox:
                self._take(feeder, turn, inbox.popleft())
            else:
                return

    def _take_expected(self, feeder: Feeder, turn: TurnBuilder) -> None:
        """Put back into the backlog what was there when the session was replayed."""
        while self._expected and turn.inbox and isinstance(event := turn.inbox[0], EventRaised):
            turn.inbox.popleft()
            turn.keep(self.backlog.keep(self.backlog.number(event)))
            feeder.execution.mailbox.wanted[event.name.casefold()] = None
            self._expected -= 1
        self._expected = 0

    def _take(self, feeder: Feeder, turn: TurnBuilder, event: HistoryEvent) -> None:
        task_id = outcome_task_id(event)
        if task_id is not None:
            # In a later generation of the turn an outcome is for the one before.
            if not turn.replaces_history and feeder.is_open(task_id, event):
                turn.record(event)
                feeder.feed(event)
        elif isinstance(event, EventRaised):
            is_demanded = feeder.demands(event)
            if is_demanded and turn.events_fed < MAX_EVENTS_PER_TURN:
                self._raise(feeder, turn, event)
                return
            kept = self.backlog.number(event)
            turn.keep(kept)
            if is_demanded:
                self._take_left(feeder, turn, kept)
            else:
                self.backlog.keep(kept)
        elif isinstance(event, ExecutionTerminated):
            turn.record_stop(event)
        else:
            self._take_control(feeder, turn, event)

    def _take_left(self, feeder: Feeder, turn: TurnBuilder, kept: Kept) -> None:
        """Take an external event that was kept when a turn was cut, or at which this one may be."""
        if not feeder.demands(kept.event):
            self.backlog.keep(kept)
        elif self._is_cut(feeder, turn):
            self._left.appendleft(kept)
        else:
            turn.release(kept)
            self._raise(feeder, turn, kept.event)

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
        """Whether the turn ends ahead of the next external event. Nothing but such events can wait for another turn.

        The mark in the history says how much of what is kept has arrived for the code, and how much has not. (What
        has arrived is what a continue-as-new may drop.)
        """
        if turn.events_fed < MAX_EVENTS_PER_TURN or feeder.suspension.is_on:
            return False
        turn.events_fed = 0  # if it goes on, then for as many again
        if not all(isinstance(event, EventRaised | GenericEvent) for event in turn.inbox):
            return False
        for event in turn.inbox:
            if isinstance(event, EventRaised):
                kept = self.backlog.number(event)
                turn.keep(kept)
                self._left.append(kept)
        turn.inbox.clear()
        started = feeder.execution.started
        again = GenericEvent(timestamp=turn.now)
        turn.send(Message(instance_id=started.instance_id, execution_id=started.execution_id, event=again))
        turn.cut = GenericEvent(timestamp=turn.now, data=f"{_CUT}{len(self.backlog)}")
        return True

    def keep_rest(self, turn: TurnBuilder) -> None:
        """Keep the external events that came after the end; a rewind may want them."""
        for event in turn.inbox:
            if isinstance(event, EventRaised):
                turn.keep(self.backlog.keep(self.backlog.number(event)))

    def drop_backlog(self, turn: TurnBuilder) -> None:
        """Nobody is to have the events kept so far."""
        for kept in self.backlog.drop():
            turn.release(kept)
