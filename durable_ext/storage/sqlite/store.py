"""The SQLite store."""

from __future__ import annotations

import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from durable_ext.clock import SystemClock
from durable_ext.errors import StoreError, StoreInUseError
from durable_ext.history import ExecutionStarted, HistoryEvent, OrchestrationRuntimeStatus
from durable_ext.messages import Message, WorkItem
from durable_ext.storage.contract import (
    Commit,
    DeadLetter,
    Delivery,
    InstancePage,
    InstanceQuery,
    InstanceRecord,
    Opening,
    Snapshot,
    Version,
    Watch,
)
from durable_ext.storage.sqlite import queries, statements
from durable_ext.storage.watching import Changes
from durable_ext.storage.sqlite.inbox import Inbox
from durable_ext.storage.sqlite.reader import Reader
from durable_ext.storage.sqlite.schema import MEMORY, Synchronous, connect, ensure_schema
from durable_ext.storage.sqlite.workload import Workload
from durable_ext.storage.sqlite.writer import Writer

T = TypeVar("T")

PURGE_PAGE = 200
FRESH = 4096


class SqliteStore:
    """A hub in one SQLite file, or in memory (`path` `:memory:`). The promises are those of `contract.Store`.

    With `synchronous` "full" what was acknowledged survives power loss; with "normal" power loss may undo the last
    commits, never a part of one. The file is for a local disk: SQLite's log does not work on network file systems.
    """

    def __init__(self, path: str, *, synchronous: Synchronous = "full") -> None:
        self.path = path if path == MEMORY else str(Path(path).absolute())
        self._synchronous: Synchronous = synchronous
        self._changes = Changes(SystemClock())
        self._writer = Writer(self._connect_writer, self.path, self._on_others)
        # Two readers: a long listing must not hold up the turns. In memory there is only the writer's connection.
        self._queries: Reader | None = None
        self._states: Reader | None = None
        self._inbox: Inbox | None = None
        self._workload: Workload | None = None
        self._lock: FileLock | None = None
        # Versions of instances just created here, whose history is empty: their first turn need not read it.
        self._fresh: OrderedDict[str, statements.At] = OrderedDict()
        self._is_open = False

    # --- opening and closing -----------------------------------------------------------------------------

    async def open(self) -> None:
        """See `ClientStore.open`."""
        await self._writer.start()
        self._is_open = True
        if self.path != MEMORY:
            self._queries = Reader(self._connect_reader, self.path)
            self._states = Reader(self._connect_reader, self.path)

    async def close(self) -> None:
        """See `ClientStore.close`. Those who wait in `receive` and `receive_work` get a `StoreError`."""
        if not self._is_open:
            return
        self._is_open = False
        closed = StoreError(f"the store on {self.path} was closed")
        try:
            if self._inbox is not None and self._workload is not None:
                self._inbox.close(closed)
                self._workload.close(closed)
                await self._writer.submit(statements.say_goodbye)
        finally:
            await self._writer.stop()
            for reader in (self._queries, self._states):
                if reader is not None:
                    await reader.close()
            self._changes.may_have_happened()
            if self._lock is not None:
                self._lock.release()

    async def host(self, owner: str) -> None:
        """See `Store.host`."""
        if self._inbox is not None:
            raise StoreError(f"this store object hosts {self.path} already")
        if self.path != MEMORY:
            await self._become_only_host()
        await self._writer.submit(partial(statements.take_over, owner=owner, now=_now()))
        self._inbox, self._workload = Inbox(self._writer, _now), Workload(self._writer, _now)
        self._inbox.start()

    async def _become_only_host(self) -> None:
        # An operating system lock, not a row: it goes with the process, however that ends.
        lock = FileLock(f"{self.path}.lock", thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            owner = await self._read(queries.present_owner)
            raise StoreInUseError(self.path, owner or "another host that is just starting") from None
        self._lock = lock

    def _connect_writer(self) -> sqlite3.Connection:
        connection = connect(self.path, synchronous=self._synchronous)
        try:
            ensure_schema(connection, self.path)
        except sqlite3.Error as error:
            connection.close()
            raise StoreError(f"cannot use {self.path}: {error}") from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect_reader(self) -> sqlite3.Connection:
        return connect(self.path, synchronous=self._synchronous, read_only=True)

    # --- clients -----------------------------------------------------------------------------------------

    async def create_instance(
        self, start: ExecutionStarted, *, overridable: frozenset[OrchestrationRuntimeStatus]
    ) -> None:
        """See `ClientStore.create_instance`."""
        message = Message(instance_id=start.instance_id, event=start, execution_id=start.execution_id)
        await self._writer.submit(
            partial(
                statements.create_instance,
                row=statements.pending_instance(start),
                start=statements.outgoing(message, 0),
                overridable=overridable,
            ),
            partial(self._on_created, start.instance_id),
        )

    def _on_created(self, instance_id: str, created: statements.Created) -> None:
        self._changes.happened(instance_id, is_end=False)
        if self._inbox is not None:
            self._fresh[instance_id] = created.version
            if len(self._fresh) > FRESH:
                self._fresh.popitem(last=False)
            self._inbox.gone(created.removed)
            self._inbox.stored(created.stored)

    async def send(
        self, message: Message, *, accepted: frozenset[OrchestrationRuntimeStatus]
    ) -> OrchestrationRuntimeStatus:
        """See `ClientStore.send`."""
        status, _ = await self._writer.submit(
            partial(statements.send, message=statements.outgoing(message, _now()), accepted=accepted),
            lambda sent: self._on_stored(sent[1]),
        )
        return status

    async def get_instance(self, instance_id: str, *, with_payloads: bool = True) -> InstanceRecord | None:
        """See `ClientStore.get_instance`."""
        return await self._read(partial(queries.get_instance, instance_id=instance_id, with_payloads=with_payloads))

    async def list_instances(self, query: InstanceQuery) -> InstancePage:
        """See `ClientStore.list_instances`. Entities are left out unless the prefix asks for them."""
        return await self._read(partial(queries.list_instances, query=query))

    async def read_history(self, instance_id: str) -> list[HistoryEvent]:
        """See `ClientStore.read_history`."""
        return await self._read(partial(queries.read_history, instance_id=instance_id))

    def watch(self, instance_id: str, *, until_ended: bool = False) -> AbstractContextManager[Watch]:
        """See `ClientStore.watch`."""
        self._check_open()
        return self._changes.watch(instance_id, until_ended=until_ended)

    async def purge(self, instance_ids: Collection[str]) -> int:
        """See `ClientStore.purge`."""
        wanted, count = sorted(set(instance_ids)), 0
        for start in range(0, len(wanted), PURGE_PAGE):
            page = wanted[start : start + PURGE_PAGE]
            purged = await self._writer.submit(partial(statements.purge, instance_ids=page), self._on_purged)
            count += len(purged.instance_ids)
        return count

    async def purge_matching(self, query: InstanceQuery) -> int:
        """See `ClientStore.purge_matching`. Runs in steps, so that turns go on meanwhile."""
        count, after = 0, ""
        while True:
            page = partial(statements.purge_page, query=query, after=after, limit=PURGE_PAGE)
            purged = await self._writer.submit(page, self._on_purged)
            count += len(purged.instance_ids)
            if len(purged.instance_ids) < PURGE_PAGE:
                return count
            after = purged.instance_ids[-1]

    def _on_purged(self, purged: statements.Purged) -> None:
        for instance_id in purged.instance_ids:
            self._fresh.pop(instance_id, None)
            self._changes.happened(instance_id, is_end=True)
        if self._inbox is not None:
            self._inbox.gone(purged.removed)

    async def list_dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """See `ClientStore.list_dead_letters`."""
        return await self._read(partial(queries.list_dead_letters, limit=limit))

    # --- the host: turns -----------------------------------------------------------------------------------

    def is_local(self, instance_id: str) -> bool:
        """Always: one host per file."""
        return True

    async def receive(self) -> list[Delivery]:
        """See `Store.receive`."""
        return await self._hosted_inbox().take()

    async def begin(self, instance_id: str, known: Version | None, deliveries: Sequence[Delivery]) -> Opening:
        """See `Store.begin`. Leaves out deliveries whose message went with a purged or replaced instance."""
        inbox = self._hosted_inbox()
        news = inbox.still_there(deliveries)
        fresh = self._fresh.pop(instance_id, None)
        if known is not None:
            return Opening(snapshot=None, deliveries=news)
        if fresh is not None:
            pending = OrchestrationRuntimeStatus.Pending
            snapshot = Snapshot(instance_id=instance_id, version=fresh, status=pending, history=[])
            return Opening(snapshot=snapshot, deliveries=news)
        message_ids = inbox.in_hand([each for each in news if isinstance(each.receipt, int)])
        state = await self._read_state(partial(queries.read_state, instance_id=instance_id, message_ids=message_ids))
        # Another process may have removed messages with their instance, which memory does not know.
        lost = set(message_ids) - state.messages
        inbox.gone(lost)
        return Opening(
            snapshot=Snapshot(
                instance_id=instance_id,
                version=statements.At(state.key, state.turn),
                status=state.status,
                history=state.history,
            ),
            deliveries=[each for each in news if each.receipt not in lost],
        )

    async def commit(self, commit: Commit) -> Version:
        """See `Store.commit`."""
        turn = statements.encode_commit(commit, _now())
        committed = await self._writer.submit(
            partial(statements.commit_turn, turn=turn), partial(self._on_committed, turn)
        )
        return committed.version

    def _on_committed(self, turn: statements.Turn, committed: statements.Committed) -> None:
        inbox, workload = self._hosted_inbox(), self._hosted_workload()
        if turn.status is not None:
            self._changes.happened(turn.instance_id, is_end=turn.status.runtime_status.is_terminal)
        if turn.consumed_messages:
            inbox.gone(turn.consumed_messages)
        if committed.forgave_deaths:
            inbox.forgiven(turn.instance_id)
        if committed.stored:
            inbox.stored(committed.stored)
        if turn.has_waiting_work:
            workload.offer()

    async def give_back(self, deliveries: Sequence[Delivery], delay: float) -> None:
        """See `Store.give_back`. The delay is kept in the file."""
        inbox = self._hosted_inbox()
        message_ids = inbox.in_hand(deliveries)
        if message_ids:
            until = _now() + max(0, round(delay * 1_000_000))
            await self._writer.submit(
                partial(statements.hide_messages, message_ids=message_ids, until=until),
                lambda until: inbox.hidden(message_ids, until),
            )

    # --- the host: work items ------------------------------------------------------------------------------

    async def receive_work(self, limit: int) -> list[WorkItem]:
        """See `Store.receive_work`."""
        return await self._hosted_workload().take(limit)

    async def complete_work(self, item: WorkItem, outcome: HistoryEvent) -> None:
        """See `Store.complete_work`. Does nothing if the work item is gone: then nobody waits for the outcome."""
        message = Message(instance_id=item.instance_id, event=outcome, execution_id=item.execution_id)
        await self._writer.submit(
            partial(statements.complete_work, receipt=item.receipt, outcome=statements.outgoing(message, 0)),
            self._on_stored,
        )

    async def give_back_work(self, items: Sequence[WorkItem]) -> None:
        """See `Store.give_back_work`."""
        workload = self._hosted_workload()
        receipts = [each.receipt for each in items]
        await self._writer.submit(partial(statements.release_work, receipts=receipts), lambda _: workload.offer())

    async def sweep(self) -> None:
        """See `Store.sweep`. Covers what went wrong between the file and this process's memory."""
        self._hosted_inbox().sweep()
        self._hosted_workload().offer()

    # --- inside --------------------------------------------------------------------------------------------

    def _on_stored(self, stored: list[statements.Stored]) -> None:
        if self._inbox is not None:
            self._inbox.stored(stored)

    def _on_others(self) -> None:
        self._fresh.clear()
        self._changes.may_have_happened()
        if self._inbox is not None:
            self._inbox.others_wrote()

    def _hosted_inbox(self) -> Inbox:
        if self._inbox is None:
            raise StoreError(f"{self.path}: call host() first")
        return self._inbox

    def _hosted_workload(self) -> Workload:
        if self._workload is None:
            raise StoreError(f"{self.path}: call host() first")
        return self._workload

    def _check_open(self) -> None:
        if not self._is_open:
            raise StoreError(f"the store on {self.path} is not open")

    async def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        self._check_open()
        if self._queries is not None:
            return await self._queries.run(query)
        return await self._writer.submit(lambda tx: query(tx.connection))

    async def _read_state(self, query: Callable[[sqlite3.Connection], T]) -> T:
        self._check_open()
        if self._states is not None:
            return await self._states.run_as_one(query)
        return await self._writer.submit(lambda tx: query(tx.connection))


def _now() -> int:
    return time.time_ns() // 1000
