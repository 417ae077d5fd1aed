"""Who is given what, and when: messages go to the host of their instance, work items to whichever host asks first."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from datetime import datetime
from hashlib import md5
from itertools import count

from durable_ext.clock import Alarm, Clock
from durable_ext.messages import WorkItem
from durable_ext.storage.memory.records import Connection, Stored, StoredMessage, StoredWork


class Offers:
    """What waits to be handed out, and the hosts to hand it to."""

    def __init__(self, clock: Clock) -> None:
        self.hosts: list[Connection] = []
        self._clock = clock
        self._numbers = count(1)
        self._turns = count()
        self._unhosted: deque[StoredMessage] = deque()
        self._work: deque[StoredWork] = deque()
        self._later: list[tuple[datetime, int, Stored]] = []
        self._alarm: Alarm | None = None
        self._alarm_due: datetime | None = None

    # --- offering ----------------------------------------------------------------------------------------

    def offer(self, each: Stored) -> None:
        """Hand it out to the next who asks."""
        each.holder = None
        if isinstance(each, StoredWork):
            each.count_waiting_from(self._clock.now())
            self._work.append(each)
            # Whoever is told first takes it. Not always the same one: it may be the one that gave it back.
            first = next(self._turns) % max(1, len(self.hosts))
            for host in (*self.hosts[first:], *self.hosts[:first]):
                host.work_came.set()
            return
        owner = self.host_of(each.message.instance_id)
        if owner is None:
            self._unhosted.append(each)
        else:
            owner.ready.append(each)
            owner.messages_came.set()

    def offer_at(self, due: datetime, each: Stored) -> None:
        """Hand it out from this time on."""
        each.holder = None
        heapq.heappush(self._later, (due, next(self._numbers), each))
        self.set_alarm()

    def offer_due(self) -> None:
        """Hand out what was for later and is due by now."""
        self._forget_alarm()
        now = self._clock.now()
        while self._later and (self._later[0][0] <= now or not self._later[0][2].is_waiting):
            each = heapq.heappop(self._later)[2]
            if each.is_waiting:
                self.offer(each)
        self.set_alarm()

    def set_alarm(self) -> None:
        """Be woken when the next of what is for later is due. Nothing is done for what has gone meanwhile."""
        while self._later and not self._later[0][2].is_waiting:
            heapq.heappop(self._later)
        due = self._later[0][0] if self._later and self.hosts else None
        if due == self._alarm_due:
            return
        self._forget_alarm()
        if due is not None:
            delay = max(0.0, (due - self._clock.now()).total_seconds())
            self._alarm, self._alarm_due = self._clock.call_later(delay, self.offer_due), due

    def _forget_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._alarm_due = None

    # --- handing out -------------------------------------------------------------------------------------

    def take_messages(self, host: Connection, limit: int) -> list[StoredMessage]:
        """Messages for this host, now in its hands."""
        taken: list[StoredMessage] = []
        while host.ready and len(taken) < limit:
            each = host.ready.popleft()
            if each.is_waiting:
                each.holder = host
                each.tries += 1
                taken.append(each)
        return taken

    def take_work(self, host: Connection, limit: int) -> list[WorkItem]:
        """The work items that have waited longest, now claimed by this host."""
        taken: list[WorkItem] = []
        while self._work and len(taken) < limit:
            each = self._work.popleft()
            if each.is_waiting:
                each.holder = host
                each.count_try(+1)
                taken.append(each.item)
        return taken

    # --- hosts -------------------------------------------------------------------------------------------

    def host_of(self, instance_id: str) -> Connection | None:
        """Who runs the turns of an instance: the host that has drawn the highest number for it.

        So an instance changes hands only when one of the two comes or goes.
        """
        if len(self.hosts) < 2:
            return self.hosts[0] if self.hosts else None
        return max(
            self.hosts, key=lambda host: md5(f"{instance_id} {host.number}".encode(), usedforsecurity=False).digest()
        )

    def join(self, host: Connection) -> None:
        """One host more: it takes its share from the others, who are told."""
        others = list(self.hosts)
        host.number = next(self._numbers)
        self.hosts.append(host)
        self.share_out()
        for each in others:
            each.lost()

    def leave(self, host: Connection, in_hand: Iterable[Stored]) -> None:
        """One host less: what it had in hand is offered again."""
        self.hosts.remove(host)
        self._unhosted.extend(host.ready)
        host.ready.clear()
        for each in in_hand:
            self.offer(each)
        self.share_out()

    def share_out(self) -> None:
        """Let every host have what waits for it, oldest first."""
        waiting = list(self._unhosted)
        self._unhosted.clear()
        for host in self.hosts:
            waiting.extend(host.ready)
            host.ready.clear()
            host.work_came.set()
        for each in sorted(waiting, key=lambda each: each.receipt):
            self.offer(each)
        # The first host brings the event loop on which the alarm is set; the last one takes it away.
        self._forget_alarm()
        self.set_alarm()
