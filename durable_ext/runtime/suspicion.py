"""Suspicion: who may have killed a process, and who was seen to do so.

Held is
    what the register of a dead process names, until it has an outcome;
    for `WARY` seconds after a register was read, also whatever else runs a function it names, so that many calls of
    one killer do not take a process each;
    every function that was convicted in the last half hour;
    a call that was handed out more than `MOST_TRIES` times without an outcome: whatever became of the registers,
    nothing retries for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Hashable
from dataclasses import dataclass, field

from durable_ext.clock import Clock
from durable_ext.messages import WorkItem, WorkReceipt
from durable_ext.runtime.convictions import Convictions, Kind
from durable_ext.runtime.register import Register, RunningTurn, Suspect

logger = logging.getLogger(__name__)

WARY = 10.0
"""Seconds for which a function is held because one of its calls or turns is suspect."""

MOST_TRIES = 3
"""Times a call may be handed out without an outcome before it is held."""


@dataclass(slots=True)
class _Wariness:
    """A function of which something is suspect."""

    until: float
    keys: set[Hashable] = field(default_factory=set)


class Suspicion:
    """Who is held, as this worker has it. Asking costs next to nothing while nobody is."""

    def __init__(self, register: Register, clock: Clock) -> None:
        self._register, self._clock = register, clock
        self._convictions = Convictions(register.directory, clock)
        self._suspects: dict[Hashable, Suspect] = {}
        self._wary: dict[tuple[Kind, str], _Wariness] = {}
        self.is_active = False
        """Whether anybody is suspected, or was convicted lately."""
        self._take_stock()

    def _take_stock(self) -> None:
        # Kept, not computed: every turn asks, and every call.
        self.is_active = bool(self._suspects) or bool(self._convictions)

    def take_over(self, sole: bool) -> None:
        """Suspect what the registers of dead processes name, and learn whom neighbours have convicted."""
        self._convictions.refresh()
        for each in self._register.take_over(sole):
            self._suspects[each.key] = each
            until = self._clock.monotonic() + WARY
            wariness = self._wary.setdefault(_function(each), _Wariness(until))
            wariness.until = until
            wariness.keys.add(each.key)
        self._take_stock()

    def of_call(self, item: WorkItem) -> str | None:
        """Why this call is held; None if it is not."""
        if self.is_active and (why := self._why(item.receipt, "activity", item.name)):
            return why
        return f"it was begun {item.tries - 1} times without an end" if item.tries > MOST_TRIES else None

    def of_turn(self, instance_id: str, name: str) -> str | None:
        """Why the next turn of this instance, of this orchestrator, is held; None if it is not."""
        return self._why(instance_id, "orchestrator", name) if self.is_active else None

    def _why(self, key: Hashable, kind: Kind, name: str) -> str | None:
        if key in self._suspects:
            return "it ran when a process died"
        if conviction := self._convictions.find(kind, name):
            return f"its function killed its process: {conviction.how}"
        function = (kind, name.casefold())
        if wariness := self._wary.get(function):
            if wariness.until > self._clock.monotonic():
                return "its function ran when a process died"
            del self._wary[function]
        self._take_stock()
        return None

    def times_alone(self, key: Hashable) -> int:
        """How many processes have died while they ran this and nothing else."""
        suspect = self._suspects.get(key)
        return suspect.alone if suspect is not None else 0

    def convict(self, kind: Kind, name: str, how: str) -> None:
        """The function has killed its process, with nothing beside it."""
        logger.error("%s '%s' kills its process: %s", kind, name, how)
        self._convictions.add(kind, name, how)
        self._take_stock()

    def clear(self, key: Hashable) -> None:
        """This call or turn has an outcome: there is nothing to suspect any more."""
        suspect = self._suspects.pop(key, None)
        if suspect is None:
            return
        self._register.settle(key)
        function = _function(suspect)
        if wariness := self._wary.get(function):
            wariness.keys.discard(key)
            if not wariness.keys:
                del self._wary[function]
        self._take_stock()

    def clear_calls(self, instance_id: str, task_ids: Collection[int] | None) -> None:
        """These calls of an instance (None: all of them) do not come any more."""
        if self._suspects:
            for key in [each for each in self._suspects if is_one_of(each, instance_id, task_ids)]:
                self.clear(key)


def is_one_of(key: Hashable, instance_id: str, task_ids: Collection[int] | None) -> bool:
    """Whether it is the receipt of one of these calls."""
    if not isinstance(key, WorkReceipt) or key.instance_id != instance_id:
        return False
    return task_ids is None or key.task_id in task_ids


def _function(suspect: Suspect) -> tuple[Kind, str]:
    kind: Kind = "orchestrator" if isinstance(suspect, RunningTurn) else "activity"
    return kind, suspect.name.casefold()
