"""The SQLite store."""

from __future__ import annotations

import logging
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from durable_ext.clock import Clock, SystemClock
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
    LoadedTurn,
    Snapshot,
    StoreTraits,
    Version,
    Watch,
)
from durable_ext.storage.sqlite import commits, hosting, instance_rows, queries, work_rows
from durable_ext.storage.sqlite.inbox import Inbox
from durable_ext.storage.sqlite.instance_rows import At
from durable_ext.storage.sqlite.message_rows import Stored, message_ids, outgoing
from durable_ext.storage.sqlite.reader import Reader
from durable_ext.storage.sqlite.schema import MEMORY, Synchronous, connect, ensure_schema, host_lock, to_micros
from durable_ext.storage.sqlite.workload import Workload
from durable_ext.storage.sqlite.writer import Writer
from durable_ext.storage.watching import Changes

T = TypeVar("T")

PURGE_PAGE = 200
FRESH = 4096

logger = logging.getLogger(__name__)


class SqliteStore:
    """A hub in one SQLite file, or in memory (`path` `:memory:`). The promises are those of `contract.Store`.

    With `synchronous` "full" what was acknowledged survives power loss; with "normal" power loss may undo the last
    commits, never a part of one. The file is for a local disk: SQLite's log does not work on network file systems.
    """

    def __init__(self, path: str, *, synchronous: Synchronous = "full", clock: Clock | None = None) -> None:
        self.path = path if path == MEMORY else str(Path(path).absolute())
        self._synchronous: Synchronous = synchronous
        self._clock = clock or SystemClock()
        self._traits = StoreTraits(directory=None if path == MEMORY else Path(f"{self.path}.register"))
        self._changes = Changes(self._clock)
        self._writer = Writer(self._connect_writer, self.path, self._on_others)
        # Two readers: a long listing must not hold up the turns. In memory there is only the writer's connection.
        self._queries: Reader | None = None
        self._states: Reader | None = None
        self._inbox: Inbox | None = None
        self._workload: Workload | None = None
        self._lock: FileLock | None = None
        # Versions of instances just created here, whose history is empty: their first turn need not read it.
        self._fresh: OrderedDict[str, At] = OrderedDict()
        self._is_open = False

    @property
    def traits(self) -> StoreTraits:
        return self._traits

    # --- opening and closing -----------------------------------------------------------------------------

    async def open(self) -> None:
        await self._writer.start()
        self._is_open = True
        if self.path != MEMORY:
            self._queries = Reader(self._connect_reader, self.path)
            self._states = Reader(self._connect_reader, self.path)

    async def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        closed = StoreError(f"the store on {self.path} was closed")
        try:
            if self._inbox is not None and self._workload is not None:
                self._inbox.close(closed)
                self._workload.close(closed)
                await self._writer.submit(hosting.mark_clean_stop)
        finally:
            await self._writer.stop()
            for reader in (self._queries, self._states):
                if reader is not None:
                    await reader.close()
            self._changes.may_have_happened()
            if self._lock is not None:
                self._lock.release()

    async def host(self, owner: str, lost: Callable[[], None]) -> None:
        """Become the only host of the file. `lost` is never called: nobody takes anything from the only one."""
        if self._inbox is not None:
            raise StoreError(f"this store object hosts {self.path} already")
        if self.path != MEMORY:
            await self._become_only_host()
        died = await self._writer.submit(partial(hosting.become_host, owner=owner))
        if died is not None:
            logger.warning(
                "%s: the last host (%s) did not stop, it ended; what it held is offered again", self.path, died
            )
        self._inbox, self._workload = Inbox(self._writer, self._clock), Workload(self._writer, self._clock)
        self._inbox.start()

    async def _become_only_host(self) -> None:
        lock = host_lock(self.path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            owner = await self._read(hosting.present_owner)
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
        message = Message(instance_id=start.instance_id, event=start, execution_id=start.execution_id)
        await self._writer.submit(
            partial(
                instance_rows.create_instance,
                row=instance_rows.pending_instance(start),
                start=outgoing(message, 0),
                overridable=overridable,
            ),
            partial(self._on_created, start.instance_id),
        )

    def _on_created(self, instance_id: str, created: instance_rows.Created) -> None:
        self._changes.happened(instance_id, is_end=False)
        if self._inbox is not None:
            self._fresh[instance_id] = created.version
            if len(self._fresh) > FRESH:
                self._fresh.popitem(last=False)
            self._inbox.gone(created.removed)
            self._inbox.stored(created.stored)

    async def send(self, message: Message, *, accepted: frozenset[OrchestrationRuntimeStatus]) -> None:
        encoded = outgoing(message, self._now())
        await self._writer.submit(partial(instance_rows.send, message=encoded, accepted=accepted), self._on_stored)

    async def get_instance(self, instance_id: str, *, with_payloads: bool = True) -> InstanceRecord | None:
        return await self._read(partial(queries.get_instance, instance_id=instance_id, with_payloads=with_payloads))

    async def list_instances(self, query: InstanceQuery) -> InstancePage:
        return await self._read(partial(queries.list_instances, query=query))

    async def read_history(self, instance_id: str) -> list[HistoryEvent]:
        return await self._read(partial(queries.read_history, instance_id=instance_id))

    def watch(self, instance_id: str, *, until_ended: bool = False) -> AbstractContextManager[Watch]:
        self._check_open()
        return self._changes.watch(instance_id, until_ended=until_ended)

    async def purge(self, instance_ids: Collection[str]) -> int:
        wanted, count = sorted(set(instance_ids)), 0
        for start in range(0, len(wanted), PURGE_PAGE):
            page = wanted[start : start + PURGE_PAGE]
            purged = await self._writer.submit(partial(instance_rows.purge, instance_ids=page), self._on_purged)
            count += len(purged.instance_ids)
        return count

    async def purge_matching(self, query: InstanceQuery) -> int:
        """Runs in steps, so that turns go on meanwhile."""
        count, after = 0, ""
        while True:
            page = partial(instance_rows.purge_page, query=query, after=after, limit=PURGE_PAGE)
            purged = await self._writer.submit(page, self._on_purged)
            count += len(purged.instance_ids)
            if len(purged.instance_ids) < PURGE_PAGE:
                return count
            after = purged.instance_ids[-1]

    def _on_purged(self, purged: instance_rows.Purged) -> None:
        for instance_id in purged.instance_ids:
            self._changes.happened(instance_id, is_end=True)
        if self._inbox is not None:
            self._inbox.gone(purged.removed)

    async def list_dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        return await self._read(partial(queries.list_dead_letters, limit=limit))

    # --- the host: turns -----------------------------------------------------------------------------------

    def is_local(self, instance_id: str) -> bool:
        """Always: one host per file."""
        return True

    async def receive(self) -> list[Delivery]:
        return await self._hosted_inbox().take()

    async def begin(self, instance_id: str, known: Version | None, deliveries: Sequence[Delivery]) -> LoadedTurn:
        """With a known version, or for an instance created here that has yet to begin, memory says it all."""
        inbox = self._hosted_inbox()
        news = inbox.in_hand(deliveries)
        fresh = self._fresh.pop(instance_id, None)
        if known is not None:
            return LoadedTurn(snapshot=None, deliveries=news)
        if fresh is not None:
            pending = OrchestrationRuntimeStatus.Pending
            snapshot = Snapshot(instance_id=instance_id, version=fresh, status=pending, history=[])
            return LoadedTurn(snapshot=snapshot, deliveries=news)
        numbers = message_ids([each.receipt for each in news])
        state = await self._read_state(
            partial(queries.read_state, instance_id=instance_id, message_ids=numbers, now=self._now())
        )
        # Another process may have removed messages with their instance, which memory does not know.
        gone = set(numbers) - state.messages
        inbox.gone(gone)
        return LoadedTurn(
            snapshot=Snapshot(
                instance_id=instance_id,
                version=At(state.key, state.turn),
                status=state.status,
                history=state.history,
                unreadable=state.unreadable,
            ),
            deliveries=[*state.kept, *(each for each in news if each.receipt not in gone)],
        )

    async def commit(self, commit: Commit) -> Version:
        encoded = commits.encode_commit(commit, self._now())
        committed = await self._writer.submit(
            partial(commits.carry_out, commit=encoded), partial(self._on_committed, encoded)
        )
        return committed.version

    def _on_committed(self, commit: commits.EncodedCommit, committed: commits.Committed) -> None:
        inbox = self._hosted_inbox()
        if commit.status is not None:
            self._changes.happened(commit.instance_id, is_end=commit.status.runtime_status.is_terminal)
        if commit.consumed:
            inbox.gone(commit.consumed)
        if commit.kept:
            inbox.gone(commit.kept)
        if committed.stored:
            inbox.stored(committed.stored)
        if commit.offers_work:
            self._hosted_workload().offer()

    async def flush(self) -> None:
        """Nothing to wait for: a commit is one transaction."""

    async def give_back(self, deliveries: Sequence[Delivery], delay: float) -> None:
        self._hosted_inbox().give_back(deliveries, delay)

    # --- the host: work items ------------------------------------------------------------------------------

    async def receive_work(self, limit: int) -> list[WorkItem]:
        return await self._hosted_workload().take(limit)

    async def complete_work(self, item: WorkItem, outcome: HistoryEvent) -> None:
        message = Message(instance_id=item.instance_id, event=outcome, execution_id=item.execution_id)
        await self._writer.submit(
            partial(work_rows.complete_work, receipt=item.receipt, outcome=outgoing(message, 0)),
            self._on_stored,
        )

    async def give_back_work(self, items: Sequence[WorkItem], delay: float = 0.0) -> None:
        await self._hosted_workload().give_back(items, delay)

    async def sweep(self) -> None:
        """Covers what went wrong between the file and this process's memory."""
        self._hosted_inbox().sweep()
        self._hosted_workload().offer()

    # --- inside --------------------------------------------------------------------------------------------

    def _now(self) -> int:
        return to_micros(self._clock.now())

    def _on_stored(self, stored: list[Stored]) -> None:
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
