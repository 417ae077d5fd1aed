"""Events that arrived before anybody waited for them. They stay where they are stored, out of the history."""

from __future__ import annotations

import heapq
from collections import deque
from typing import NamedTuple

from durable_ext.engine.mailbox import Mailbox
from durable_ext.history import EventRaised


class Kept(NamedTuple):
    """An event of the backlog, and its number in the order of arrival."""

    number: int
    event: EventRaised


class Backlog:
    """Events of one instance, by name, in order of arrival. They outlive the generations of a continue-as-new."""

    __slots__ = ("_arrived", "_ready", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[str, deque[Kept]] = {}
        """The events by casefolded name; no queue is empty."""
        self._arrived = 0
        self._ready: list[tuple[int, str]] = []  # a heap: the oldest of each name that may be demanded

    def __len__(self) -> int:
        return sum(len(queue) for queue in self.waiting.values())

    def number(self, event: EventRaised) -> Kept:
        """Give an event its number."""
        kept = Kept(self._arrived, event)
        self._arrived += 1
        return kept

    def keep(self, kept: Kept) -> Kept:
        """Put an event behind the others of its name."""
        self.waiting.setdefault(kept.event.name.casefold(), deque()).append(kept)
        return kept

    def next_for(self, mailbox: Mailbox) -> Kept | None:
        """The oldest event that the mailbox has demand for, if any. It stays here until `take`.

        Costs no more than there are names with new demand.
        """
        if not self.waiting:
            mailbox.wanted.clear()
            return None
        for name in mailbox.wanted:
            if name in self.waiting:
                heapq.heappush(self._ready, (self.waiting[name][0].number, name))
        mailbox.wanted.clear()
        while self._ready:
            number, name = self._ready[0]
            queue = self.waiting.get(name)
            if queue and queue[0].number == number and mailbox.demand(name) > 0:
                return queue[0]
            heapq.heappop(self._ready)
        return None

    def take(self, kept: Kept) -> None:
        """Remove what `next_for` gave."""
        name = kept.event.name.casefold()
        queue = self.waiting[name]
        queue.popleft()
        heapq.heappop(self._ready)
        if queue:
            heapq.heappush(self._ready, (queue[0].number, name))
        else:
            del self.waiting[name]

    def drop(self) -> list[Kept]:
        """Remove and return everything, in order of arrival."""
        dropped = sorted((kept for queue in self.waiting.values() for kept in queue), key=lambda kept: kept.number)
        self.waiting.clear()
        self._ready.clear()
        return dropped
