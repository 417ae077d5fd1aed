"""What the runtime drives, whatever kind of instance it is: something in memory that is fed history and news."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from durable_ext.engine.turn import Turn
from durable_ext.history import HistoryEvent


class Session(Protocol):
    """One instance in memory. Not thread-safe; one turn at a time.

    The same function, history, news and times give the same turns, however the news are batched, and whether the
    session was kept in memory or made anew from the history and the events left unread.
    """

    def is_open(self, task_id: int, outcome: HistoryEvent) -> bool:
        """Whether a task waits for this outcome, which would be the first it gets."""
        ...

    def replay(self, history: Sequence[HistoryEvent]) -> None:
        """Rebuild from the recorded events of one execution, from its first. Raises nothing that user code does."""
        ...

    def advance(self, now: datetime, inbox: Sequence[HistoryEvent]) -> Turn:
        """Feed new events and return what follows from them.

        After a replay the first inbox has the events that were left unread (`Turn.unread`) ahead of the news.
        """
        ...

    def close(self) -> None:
        """Unload. Nothing is scheduled by that, whatever user code does on its way out."""
        ...
