"""External events of one execution: who waits for what, and what nobody has read yet."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from durable_ext.history import EventRaised


class Waiter(Protocol):
    """Somebody waiting for one event of a name."""

    @property
    def is_waiting(self) -> bool:
        """False once served or given up."""
        ...

    def receive(self, event: EventRaised) -> None:
        """Take the event."""
        ...


class Mailbox:
    """One event serves one waiter; names compare case-insensitively.

    Events nobody waits for are kept in arrival order. Among several waiters on a name the newest is served first,
    so that a wait abandoned in a race does not swallow the event.
    """

    __slots__ = ("_arrived", "_unread", "_waiters")

    def __init__(self) -> None:
        self._unread: dict[str, deque[tuple[int, EventRaised]]] = {}
        self._waiters: dict[str, list[Waiter]] = {}
        self._arrived = 0

    def put(self, event: EventRaised) -> bool:
        """Deliver to the newest waiter, or keep. True if somebody was served."""
        name = event.name.casefold()
        waiters = self._waiters.get(name)
        while waiters:
            waiter = waiters.pop()
            if not waiters:
                del self._waiters[name]
            if waiter.is_waiting:
                waiter.receive(event)
                return True
        self._unread.setdefault(name, deque()).append((self._arrived, event))
        self._arrived += 1
        return False

    def wait(self, name: str, waiter: Waiter) -> None:
        """Serve `waiter` with the oldest unread event of this name, now or when one comes."""
        name = name.casefold()
        unread = self._unread.get(name)
        if unread:
            _, event = unread.popleft()
            if not unread:
                del self._unread[name]
            waiter.receive(event)
        else:
            self._waiters.setdefault(name, []).append(waiter)

    def unread(self) -> list[EventRaised]:
        """What nobody has read, in arrival order."""
        kept: list[tuple[int, Any]] = [item for queue in self._unread.values() for item in queue]
        return [event for _, event in sorted(kept, key=lambda item: item[0])]
