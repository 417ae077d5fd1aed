"""External events of one execution: which of them goes to which wait.

An event is *fed* once it is in the history. It is *bound* to a wait as soon as somebody looks at one of its name: at
the task that the code yields or awaits, at a member of a compound that is open, at a task whose state is read. Until
then it is unread, and a wait that the code has turned away from does not swallow it. Events are bound oldest first;
among several waits that are being looked at the newest is served first.

*Demand* says how many more events of a name the open waits have use for. What is not demanded is not fed.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from durable_ext.history import EventRaised


class Waiter(Protocol):
    """Somebody waiting for one event of a name."""

    def bind(self) -> None:
        """Take the oldest event fed."""
        ...

    def uncover(self) -> None:
        """The event that was there for it has gone to another wait: from now on its timeout matters."""
        ...


class Box:
    """The events and the waits of one name.

    `fed` holds the events that are bound to no wait yet, each with its number in the order of feeding. `open` counts
    the waits that have no event, `waits` all there ever were. `watched` are those of the open ones that somebody looks
    at, by number; `covered` those that have a timeout but no timer, as there were events to spare when they began.
    """

    __slots__ = ("covered", "fed", "name", "open", "waits", "watched")

    def __init__(self, name: str) -> None:
        self.name = name
        self.fed: deque[tuple[int, EventRaised]] = deque()
        self.open = 0
        self.waits = 0
        self.watched: dict[int, Waiter] = {}
        self.covered: list[Waiter] = []

    @property
    def has_spare(self) -> bool:
        """Whether there is an event for a wait that begins now."""
        return len(self.fed) > self.open


class Mailbox:
    """The boxes of one execution. Names compare case-insensitively."""

    __slots__ = ("_boxes", "fed", "wanted")

    def __init__(self) -> None:
        self._boxes: dict[str, Box] = {}
        self.fed = 0
        """How many events were fed so far."""
        self.wanted: dict[str, None] = {}
        """Names whose demand may have grown since somebody looked, in order."""

    def box(self, name: str) -> Box:
        """The box of a name."""
        key = name.casefold()
        box = self._boxes.get(key)
        if box is None:
            box = self._boxes[key] = Box(key)
        return box

    def demand(self, name: str) -> int:
        """How many more events of a (casefolded) name there is use for."""
        box = self._boxes.get(name)
        return 0 if box is None else box.open - len(box.fed)

    def feed(self, event: EventRaised) -> bool:
        """Deliver to the newest wait that somebody looks at, or keep. True if a wait was served."""
        box = self.keep(event)
        if not box.watched:
            return False
        box.watched[max(box.watched)].bind()
        return True

    def keep(self, event: EventRaised) -> Box:
        """Keep an event that the code, as it is done, will not look for any more."""
        box = self.box(event.name)
        box.fed.append((self.fed, event))
        self.fed += 1
        return box

    def unread(self) -> list[EventRaised]:
        """What was fed and is bound to no wait, in the order of feeding."""
        kept = sorted((item for box in self._boxes.values() for item in box.fed), key=lambda item: item[0])
        return [event for _, event in kept]
