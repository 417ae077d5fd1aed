"""One wait for one external event, with or without a timeout."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from durable_ext.engine.execution import Execution
from durable_ext.errors import CodecError, DurableError

RAISE: Any = object()
"""The default of a wait that raises TimeoutError."""


class Expiry(NamedTuple):
    """When a wait ends without an event, and how: with `default`, or with TimeoutError and `message`."""

    at: datetime
    message: str
    default: Any


class EventWait:
    """A wait, from the line that begins it until its task is settled or given up.

    When the timeout passes while nobody looks and an event is there, it is left open how the wait ends: whoever looks
    gets the event, if no other wait has taken it by then.
    """

    __slots__ = ("_box", "_execution", "_expected_type", "_expired", "_expiry", "_is_open", "_number", "_timer", "task")

    def __init__(self, execution: Execution, name: str, expected_type: Any, expiry: Expiry | None) -> None:
        self._execution, self._expected_type, self._expiry = execution, expected_type, expiry
        self._box = box = execution.mailbox.box(name)
        self._timer: int | None = None
        self._expired: int | None = None  # how many events had been fed when the timeout passed undecided
        if expiry is not None and not box.has_spare:
            self._set_timer(expiry)  # first, as it may raise
        elif expiry is not None:
            box.covered.append(self)
        self._is_open = True
        self._number = box.waits
        box.waits += 1
        box.open += 1
        execution.mailbox.wanted[box.name] = None
        self.task = execution.factory.event(self)

    def _set_timer(self, expiry: Expiry) -> None:
        self._timer = self._execution.set_timer(expiry.at, lambda value, error: self._expire(expiry))

    # --- what the task tells --------------------------------------------------------------------------

    def look(self) -> None:
        """The task is being read: settle it now if there is anything to settle it with."""
        if not self._is_open:
            return
        fed = self._box.fed
        if self._expired is None:
            if fed:
                self.bind()
        elif fed and fed[0][0] < self._expired:
            self.bind()
        else:
            self._time_out()

    def watch(self) -> None:
        """Somebody hears of the task from now on."""
        if self._is_open:
            self._box.watched[self._number] = self

    def unwatch(self) -> None:
        """Nobody does any more."""
        self._box.watched.pop(self._number, None)

    def give_up(self) -> None:
        """The task was cancelled."""
        if self._is_open:
            self._close()

    # --- ends -----------------------------------------------------------------------------------------

    def bind(self) -> None:
        """Take the oldest event fed."""
        box = self._box
        _, event = box.fed.popleft()
        self._close()
        if len(box.covered) > len(box.fed):
            box.covered.pop().uncover()
        try:
            value = self._execution.codec.decode(event.input, self._expected_type)
        except CodecError as error:
            self.task.settle(None, error)
        else:
            self.task.settle(value)

    def uncover(self) -> None:
        """The event that was there for it has gone to another wait: from now on the timeout matters."""
        assert self._expiry is not None
        try:
            self._set_timer(self._expiry)
        except DurableError as error:  # no number is left for the timer
            self._close()
            self.task.settle(None, error)

    def _expire(self, expiry: Expiry) -> None:
        """The timeout has passed."""
        self._timer = None
        if not self._box.fed:
            self._time_out()
        elif self._is_open:
            self._expired = self._execution.mailbox.fed
            self._box.open -= 1

    def _time_out(self) -> None:
        if not self._is_open:
            return
        assert self._expiry is not None
        self._close()
        if self._expiry.default is RAISE:
            self.task.settle(None, TimeoutError(self._expiry.message))
        else:
            self.task.settle(self._expiry.default)

    def _close(self) -> None:
        box = self._box
        self._is_open = False
        if self._expired is None:
            box.open -= 1
        else:  # it did not count as open any more, but perhaps it takes an event that another wait could have had
            self._execution.mailbox.wanted[box.name] = None
        box.watched.pop(self._number, None)
        if self in box.covered:
            box.covered.remove(self)
        if self._timer is not None:
            self._execution.abandon(self._timer)
            self._timer = None
