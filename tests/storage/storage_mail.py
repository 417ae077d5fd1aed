"""Reading a store's deliveries as the contract allows: in any batches, and again at any time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from storage_records import raised, soon

from durable_ext.history import EventRaised, ExecutionStarted, OrchestrationRuntimeStatus
from durable_ext.messages import Message
from durable_ext.storage.contract import Delivery, Receipt, Store

_MARK = "mark "
_marks = itertools.count(1)


class Mail:
    """What a store delivers, by instance. What is delivered again is read once.

    A store has one of these: what it has received for other instances waits in it.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._unread: dict[Receipt, Delivery] = {}
        self._read: set[Receipt] = set()

    async def next(self, instance_id: str = "one") -> Delivery:
        """The first unread message to an instance."""
        while not (unread := self._of(instance_id)):
            await self._receive()
        return self._take(unread[:1])[0]

    async def until(self, name: str, instance_id: str = "one") -> list[Delivery]:
        """The unread messages to an instance, up to the event of this name."""
        while name not in names(unread := self._of(instance_id, mark=name)):
            await self._receive()
        return self._take(unread[: names(unread).index(name) + 1])

    async def rest(self, instance_id: str = "one") -> list[Delivery]:
        """The unread messages to an instance that is there: whatever comes before a message stored now."""
        mark = f"{_MARK}{next(_marks)}"
        message = Message(instance_id=instance_id, event=raised(mark))
        await self.store.send(message, accepted=frozenset(OrchestrationRuntimeStatus))
        return (await self.until(mark, instance_id))[:-1]

    async def again(self, delivery: Delivery) -> Delivery:
        """The next time that a message comes which was read before."""
        self._read.discard(delivery.receipt)
        while delivery.receipt not in self._unread:
            await self._receive()
        return self._take([self._unread[delivery.receipt]])[0]

    async def _receive(self) -> None:
        for each in await soon(self.store.receive()):
            if each.receipt not in self._read:
                self._unread.setdefault(each.receipt, each)

    def _of(self, instance_id: str, mark: str = "") -> list[Delivery]:
        unread = [each for each in self._unread.values() if each.instance_id == instance_id]
        return [each for each in unread if (name := names([each])[0]) == mark or not name.startswith(_MARK)]

    def _take(self, deliveries: list[Delivery]) -> list[Delivery]:
        for each in deliveries:
            self._read.add(each.receipt)
            del self._unread[each.receipt]
        return deliveries


def names(deliveries: Sequence[Delivery]) -> list[str]:
    return [each.event.name if isinstance(each.event, EventRaised | ExecutionStarted) else "" for each in deliveries]
