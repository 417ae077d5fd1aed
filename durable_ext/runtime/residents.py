"""The instances this worker has in memory: what arrived for each, and its warm session."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from time import monotonic
from typing import Final

from durable_ext.engine.session import Session
from durable_ext.runtime.admission import Standing
from durable_ext.storage.contract import Delivery, Version

LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


class Resident:
    """One instance.

    `is_queued` while a turn is due, in motion or put off: what arrives then only joins the inbox. The numbers count
    what went wrong since the last turn that went well, each kind by itself; `deaths` are those of workers.
    """

    __slots__ = (
        "conflicts",
        "deaths",
        "deferrals",
        "failures",
        "fault",
        "faults",
        "inbox",
        "instance_id",
        "is_queued",
        "last_used",
        "session",
        "standing",
        "status_written",
        "version",
    )

    def __init__(self, instance_id: str) -> None:
        self.instance_id = instance_id
        self.inbox: list[Delivery] = []
        self.session: Session | None = None
        self.standing = Standing(instance_id)
        self.version: Version | None = None
        self.is_queued = False
        self.deaths = self.conflicts = self.failures = self.faults = self.deferrals = 0
        self.fault: Exception | None = None
        self.last_used = monotonic()
        self.status_written = LONG_AGO

    def forget(self) -> None:
        """Drop what is known of the instance; the next turn reads it anew."""
        if self.session is not None:
            self.session.close()
            self.session = None
        self.version = None

    def clear(self) -> None:
        """A turn went well: what went wrong before no longer counts."""
        self.deaths = self.conflicts = self.failures = self.faults = 0
        self.fault = None


class Residents:
    """At most `limit` instances are kept warm between turns, the most recently used; none in motion is let go."""

    def __init__(self, limit: int, idle_after: float) -> None:
        self._limit, self._idle_after = limit, idle_after
        self._by_id: dict[str, Resident] = {}  # the least recently used first

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Resident]:
        return iter(list(self._by_id.values()))

    def get(self, instance_id: str) -> Resident:
        """The instance's place, made if need be."""
        resident = self._by_id.get(instance_id)
        if resident is None:
            resident = self._by_id[instance_id] = Resident(instance_id)
        return resident

    def rest(self, resident: Resident) -> None:
        """A turn is over and nothing is left to do: keep the session warm, if there is one and room for it."""
        del self._by_id[resident.instance_id]
        if resident.session is None:
            return
        resident.last_used = monotonic()
        self._by_id[resident.instance_id] = resident
        if len(self._by_id) > self._limit:
            self._evict(len(self._by_id) - self._limit)

    def evict_idle(self) -> None:
        """Let go of instances nothing has arrived for in a while."""
        deadline = monotonic() - self._idle_after
        idle = [each for each in self._by_id.values() if not each.is_queued and each.last_used <= deadline]
        self._let_go(idle)

    def clear(self) -> None:
        """Let go of everything."""
        self._let_go(list(self._by_id.values()))

    def _evict(self, count: int) -> None:
        found: list[Resident] = []
        for each in self._by_id.values():
            if len(found) == count:
                break
            if not each.is_queued:
                found.append(each)
        self._let_go(found)

    def _let_go(self, residents: list[Resident]) -> None:
        for each in residents:
            del self._by_id[each.instance_id]
            each.forget()
