"""The instances this worker has in memory: what arrived for each, what is known of it, and where it is in its round."""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final

from durable_ext.clock import Alarm, Clock
from durable_ext.runtime.state import Arrival, Memory
from durable_ext.storage.contract import Version

LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


class Place(enum.Enum):
    """Where an instance in memory is. What arrives for it joins its inbox; only at rest does that make a turn due."""

    RESTING = "nothing has arrived for it"
    GATHERING = "outcomes have arrived, and more are worth a short wait"
    DUE = "in the line of those whose turn is next"
    IN_TURN = "its turn is being loaded, decided or committed"
    APART = "its turn is to run, or runs, in a process of its own"
    PUT_OFF = "its turn went wrong and is tried again at some time"


class CachedInstance:
    """One instance. The numbers count what went wrong since the last turn that went well, each kind by itself.

    `slots` are activity slots kept for what its next turn calls.
    """

    __slots__ = (
        "alarm",
        "conflicts",
        "deferrals",
        "failures",
        "fault",
        "faults",
        "inbox",
        "instance_id",
        "last_used",
        "memory",
        "place",
        "slots",
        "status_written",
        "version",
    )

    def __init__(self, instance_id: str) -> None:
        self.instance_id = instance_id
        self.place = Place.RESTING
        self.inbox: list[Arrival] = []
        self.memory = Memory(instance_id)
        self.version: Version | None = None
        self.slots = 0
        self.conflicts = self.failures = self.faults = self.deferrals = 0
        self.fault: Exception | None = None
        self.alarm: Alarm | None = None
        self.last_used = 0.0
        self.status_written = LONG_AGO

    def forget(self) -> None:
        """Drop what is known of the instance; the next turn reads it anew."""
        self.memory.forget()
        self.version = None

    def clear(self) -> None:
        """A turn went well: what went wrong before no longer counts."""
        self.conflicts = self.failures = self.faults = 0
        self.fault = None


class InstanceCache:
    """Instances with something to do, and at most `limit` that rest: warm until something arrives for them."""

    def __init__(self, limit: int, idle_after: float, clock: Clock) -> None:
        self._limit, self._idle_after, self._clock = limit, idle_after, clock
        self._busy: dict[str, CachedInstance] = {}
        self._resting: OrderedDict[str, CachedInstance] = OrderedDict()  # the least recently used first

    def __len__(self) -> int:
        return len(self._busy) + len(self._resting)

    def __iter__(self) -> Iterator[CachedInstance]:
        return iter([*self._busy.values(), *self._resting.values()])

    @property
    def is_quiet(self) -> bool:
        """Whether every instance rests."""
        return not self._busy

    def get(self, instance_id: str) -> CachedInstance:
        """The instance's place, made if need be. It is busy from now on."""
        instance = self._busy.get(instance_id)
        if instance is None:
            instance = self._resting.pop(instance_id, None) or CachedInstance(instance_id)
            self._busy[instance_id] = instance
        return instance

    def rest(self, instance: CachedInstance) -> None:
        """A turn is over and nothing is left to do: keep the session warm, if there is one and room for it."""
        instance.place = Place.RESTING
        del self._busy[instance.instance_id]
        if instance.memory.session is None:
            return
        instance.last_used = self._clock.monotonic()
        self._resting[instance.instance_id] = instance
        if len(self._resting) > self._limit:
            self._let_go_of_oldest()

    def evict_idle(self) -> None:
        """Let go of instances nothing has arrived for in a while."""
        deadline = self._clock.monotonic() - self._idle_after
        while self._resting and next(iter(self._resting.values())).last_used <= deadline:
            self._let_go_of_oldest()

    def evict(self, is_lost: Callable[[str], bool]) -> None:
        """Let go of the resting instances that are no longer this worker's."""
        for instance_id in [each for each in self._resting if is_lost(each)]:
            self._resting.pop(instance_id).forget()

    def clear(self) -> None:
        """Let go of everything."""
        for instance in self:
            instance.forget()
        self._busy.clear()
        self._resting.clear()

    def _let_go_of_oldest(self) -> None:
        _, instance = self._resting.popitem(last=False)
        instance.forget()
