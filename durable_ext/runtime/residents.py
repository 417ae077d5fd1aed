"""The instances this worker has in memory: what arrived for each, and its warm session."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime
from time import monotonic
from typing import Final

from durable_ext.engine.orchestration import OrchestrationSession
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
        self.session: OrchestrationSession | None = None
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
    """Instances with something to do, and at most `limit` that rest: warm until something arrives for them."""

    def __init__(self, limit: int, idle_after: float) -> None:
        self._limit, self._idle_after = limit, idle_after
        self._busy: dict[str, Resident] = {}
        self._resting: OrderedDict[str, Resident] = OrderedDict()  # the least recently used first

    def __len__(self) -> int:
        return len(self._busy) + len(self._resting)

    def __iter__(self) -> Iterator[Resident]:
        return iter([*self._busy.values(), *self._resting.values()])

    def get(self, instance_id: str) -> Resident:
        """The instance's place, made if need be. It is busy from now on."""
        resident = self._busy.get(instance_id)
        if resident is None:
            resident = self._resting.pop(instance_id, None) or Resident(instance_id)
            self._busy[instance_id] = resident
        return resident

    def rest(self, resident: Resident) -> None:
        """A turn is over and nothing is left to do: keep the session warm, if there is one and room for it."""
        del self._busy[resident.instance_id]
        if resident.session is None:
            return
        resident.last_used = monotonic()
        self._resting[resident.instance_id] = resident
        if len(self._resting) > self._limit:
            self._let_go_of_oldest()

    def evict_idle(self) -> None:
        """Let go of instances nothing has arrived for in a while."""
        deadline = monotonic() - self._idle_after
        while self._resting and next(iter(self._resting.values())).last_used <= deadline:
            self._let_go_of_oldest()

    def clear(self) -> None:
        """Let go of everything."""
        for resident in self:
            resident.forget()
        self._busy.clear()
        self._resting.clear()

    def _let_go_of_oldest(self) -> None:
        _, resident = self._resting.popitem(last=False)
        resident.forget()
