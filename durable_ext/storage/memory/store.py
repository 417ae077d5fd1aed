"""The connection of one worker or client to a hub in memory: it waits, and it is what has things in hand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager

import msgspec

from durable_ext.clock import Clock
from durable_ext.errors import StoreError
from durable_ext.history import ExecutionStarted, HistoryEvent, OrchestrationRuntimeStatus
from durable_ext.messages import Message, WorkItem
from durable_ext.storage.contract import (
    Commit,
    DeadLetter,
    Delivery,
    InstancePage,
    InstanceQuery,
    InstanceRecord,
    LoadedTurn,
    StoreTraits,
    Version,
    Watch,
)
from durable_ext.storage.memory.hub import MemoryHub
from durable_ext.storage.memory.records import Connection
from durable_ext.storage.paging import decode_token, encode_token
from durable_ext.storage.watching import Changes

BATCH = 512
"""Messages that one `receive` returns at most."""


class MemoryStore:
    """A store in memory. The promises are those of `contract.Store`.

    Without a hub it makes one of its own, with this clock.
    """

    def __init__(self, hub: MemoryHub | None = None, clock: Clock | None = None) -> None:
        self.hub = hub if hub is not None else MemoryHub(clock)
        self.connection = Connection(Changes(self.hub.clock))

    @property
    def traits(self) -> StoreTraits:
        """Those of the hub."""
        return self.hub.traits

    # --- clients -----------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect."""
        if not self.connection.is_open:
            self.connection.is_open = True
            self.hub.connections.append(self.connection)

    async def close(self) -> None:
        """Let go of what is in hand, and wake whoever waits."""
        connection = self.connection
        if connection.is_open:
            connection.is_open = False
            self.hub.leave(connection)
            connection.messages_came.set()
            connection.work_came.set()
            connection.changes.may_have_happened()

    def crash(self) -> None:
        """End this object as the death of its process would: what is in hand comes again, and who waits waits on."""
        if self.connection.is_open:
            self.connection.is_open = False
            self.hub.leave(self.connection)

    async def create_instance(
        self, start: ExecutionStarted, *, overridable: frozenset[OrchestrationRuntimeStatus]
    ) -> None:
        """Store an instance and its start."""
        self._opened().create(start, overridable)

    async def send(self, message: Message, *, accepted: frozenset[OrchestrationRuntimeStatus]) -> None:
        """Store a message."""
        self._opened().send(message, accepted)

    async def get_instance(self, instance_id: str, *, with_payloads: bool = True) -> InstanceRecord | None:
        """The status row."""
        return self._opened().row(instance_id)

    async def list_instances(self, query: InstanceQuery) -> InstancePage:
        """One page of status rows."""
        after = decode_token(query.continuation_token) if query.continuation_token else ""
        rows = [each for each in self._opened().rows(query) if each.instance_id > after]
        page = rows[: query.page_size]
        token = encode_token(page[-1].instance_id) if len(rows) > len(page) else None
        if not query.with_payloads:
            page = [msgspec.structs.replace(each, input=None) for each in page]
        return InstancePage(instances=page, continuation_token=token)

    async def read_history(self, instance_id: str) -> list[HistoryEvent]:
        """The history of the current execution."""
        instance = self._opened().instances.get(instance_id)
        return list(instance.history) if instance is not None else []

    def watch(self, instance_id: str, *, until_ended: bool = False) -> AbstractContextManager[Watch]:
        """Notice changes from now on."""
        self._opened()
        return self.connection.changes.watch(instance_id, until_ended=until_ended)

    async def purge(self, instance_ids: Collection[str]) -> int:
        """Remove those that have ended."""
        return self._opened().purge(instance_ids)

    async def purge_matching(self, query: InstanceQuery) -> int:
        """Remove those of the matching that have ended."""
        hub = self._opened()
        return hub.purge([each.instance_id for each in hub.rows(query)])

    async def list_dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """The newest first."""
        return self._opened().dead_letters[::-1][:limit]

    # --- the host: turns -----------------------------------------------------------------------------------

    async def host(self, owner: str, lost: Callable[[], None]) -> None:
        """Take a share of the instances. Nobody asks who the hosts are, so `owner` is not kept."""
        if self.connection in self._opened().offers.hosts:
            raise StoreError("this store object hosts its hub already; make another one")
        self.connection.lost = lost
        self.hub.offers.join(self.connection)

    def is_local(self, instance_id: str) -> bool:
        """Whether the instance is in this host's share."""
        return self.hub.offers.host_of(instance_id) is self.connection

    async def receive(self) -> list[Delivery]:
        """Wait for messages to instances of this host's share."""
        while not (taken := self._hosted().offers.take_messages(self.connection, BATCH)):
            self.connection.messages_came.clear()
            await self.connection.messages_came.wait()
        return [each.as_delivery() for each in taken]

    async def begin(self, instance_id: str, known: Version | None, deliveries: Sequence[Delivery]) -> LoadedTurn:
        """Read an instance, unless the known version is the present one."""
        return self._hosted().begin(instance_id, known, deliveries)

    async def commit(self, commit: Commit) -> Version:
        """Make a turn count."""
        return self._hosted().commit(self.connection, commit)

    async def flush(self) -> None:
        """Nothing is ever owed."""

    async def give_back(self, deliveries: Sequence[Delivery], delay: float) -> None:
        """Offer messages again that are in hand."""
        hub = self._hosted()
        for each in deliveries:
            stored = hub.find_message(each)
            if stored is not None and stored.holder is self.connection:
                stored.tries -= 1
                hub.offer_again(stored, delay)

    # --- the host: work items ------------------------------------------------------------------------------

    async def receive_work(self, limit: int) -> list[WorkItem]:
        """Wait for work items, of whatever instances."""
        while not (taken := self._hosted().offers.take_work(self.connection, limit)):
            self.connection.work_came.clear()
            await self.connection.work_came.wait()
        return taken

    async def complete_work(self, item: WorkItem, outcome: HistoryEvent) -> None:
        """Store an outcome."""
        self._opened().complete_work(item, outcome)

    async def give_back_work(self, items: Sequence[WorkItem], delay: float = 0.0) -> None:
        """Offer work items again that are claimed."""
        hub = self._hosted()
        for each in items:
            stored = hub.find_work(each.receipt)
            if stored is not None and stored.holder is self.connection:
                stored.count_try(-1)
                hub.offer_again(stored, delay)

    async def sweep(self) -> None:
        """Offer what is due, should the wall clock have been set."""
        self._hosted().offers.offer_due()

    # --- inside ------------------------------------------------------------------------------------------

    def _opened(self) -> MemoryHub:
        if not self.connection.is_open:
            raise StoreError("the store in memory was closed, or never opened")
        return self.hub

    def _hosted(self) -> MemoryHub:
        if self.connection not in self._opened().offers.hosts:
            raise StoreError("this store object is no host of its hub: call host() first")
        return self.hub
