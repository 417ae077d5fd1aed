"""The suspension of an execution: what has arrived since, to be fed to the code after the resume."""

from __future__ import annotations

from collections.abc import Sequence

from durable_ext.history import EventRaised, ExecutionSuspended, HistoryEvent, outcome_task_id


class Suspension:
    """On from an ExecutionSuspended to the next ExecutionResumed."""

    __slots__ = ("_events_of", "answered", "held", "is_on", "reason")

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.is_on = False
        self.reason: str | None = None
        self.held: list[HistoryEvent] = []
        self.answered: set[int] = set()
        """The calls whose outcomes are among the held."""
        self._events_of: dict[str, int] = {}

    def begin(self, event: ExecutionSuspended) -> None:
        """Suspend. Only the first of several counts."""
        if not self.is_on:
            self.is_on, self.reason = True, event.reason

    def hold(self, event: HistoryEvent) -> None:
        """Keep what arrived."""
        self.held.append(event)
        if isinstance(event, EventRaised):
            name = event.name.casefold()
            self._events_of[name] = self.holds(name) + 1
        elif (task_id := outcome_task_id(event)) is not None:
            self.answered.add(task_id)

    def holds(self, name: str) -> int:
        """How many external events of a (casefolded) name are held."""
        return self._events_of.get(name, 0)

    def end(self) -> Sequence[HistoryEvent]:
        """Resume: return what was held, in order."""
        held = self.held
        self._clear()
        return held
