"""A task hub in memory that takes every freedom the store contract gives, by chance.

`HostileHub` is for the stores of workers (`HostileStore`); a client may use a plain `MemoryStore` on it, whose calls
do not fail. What is likely is said by `Odds`. Nothing here breaks a promise: see `broken` for that.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import NamedTuple, ParamSpec, TypeVar

import msgspec

from durable_ext.clock import Clock, sleep
from durable_ext.errors import StoreError
from durable_ext.history import ExecutionStarted, HistoryEvent, OrchestrationRuntimeStatus
from durable_ext.messages import Message, WorkItem
from durable_ext.storage.contract import (
    Commit,
    Delivery,
    InstanceRecord,
    LoadedTurn,
    Snapshot,
    StoreTraits,
    Version,
)
from durable_ext.storage.memory.hub import MemoryHub
from durable_ext.storage.memory.offers import Offers
from durable_ext.storage.memory.records import Belongings, Connection, Stored, StoredMessage, StoredWork
from durable_ext.storage.memory.store import MemoryStore

T = TypeVar("T")
P = ParamSpec("P")
Status = OrchestrationRuntimeStatus


@dataclass(frozen=True, kw_only=True)
class Odds:
    """How likely each freedom is taken wherever it could be. All zero: a calm store."""

    crash: float = 0.0  # a worker dies before or after a call takes effect
    error: float = 0.0  # a call fails, before or after it takes effect
    lost_batch: float = 0.0  # what was received does not arrive
    pause: float = 0.0  # a call takes long
    split: float = 0.0  # fewer messages are returned than there are
    again: float = 0.0  # a message in hand is delivered again
    kept_again: float = 0.0  # a kept message is delivered again
    astray: float = 0.0  # redelivered to a worker whose share it is not
    hand_over: float = 0.0  # an instance goes to another worker
    conflict: float = 0.0  # the store moves the version itself
    work_again: float = 0.0  # a claimed work item is handed out again
    outcome_again: float = 0.0  # an outcome is stored for a work item that is gone
    debt: float = 0.0  # what a commit owes is done later
    late_row: float = 0.0  # the status row is written later than that
    late_start: float = 0.0  # a start message is stored after its instance
    unwanted: float = 0.0  # what nobody waits for comes all the same
    blind: float = 0.0  # begin leaves the snapshot out although the known version is old
    chatty: float = 0.0  # begin gives the snapshot although the known version is current
    fresh: float = 0.0  # begin takes it for granted that an instance is new
    eager: float = 0.0  # begin adds a start that was not asked about


class Chance:
    """The dice."""

    def __init__(self, seed: object, odds: Odds) -> None:
        self._random, self.odds = Random(str(seed)), odds
        self.taken: Counter[str] = Counter()

    def of(self, freedom: str) -> bool:
        """Whether it is taken, here and now."""
        taken = self.happens(getattr(self.odds, freedom))
        self.taken[freedom] += taken
        return taken

    def happens(self, probability: float) -> bool:
        """Whether something of this probability happens."""
        return probability > 0 and self._random.random() < probability

    def seconds(self, most: float = 3.0) -> float:
        """Often nothing, mostly little."""
        return self._random.choice((0.0, 0.001, 0.05, self._random.uniform(0, most)))

    def choice(self, sequence: Sequence[T]) -> T:
        """One of them."""
        return self._random.choice(sequence)

    def up_to(self, most: int) -> int:
        """A number from 1."""
        return self._random.randint(1, most)


class HostileOffers(Offers):
    """Splits batches, delivers again, gives to others, and hands instances over."""

    def __init__(self, clock: Clock, chance: Chance) -> None:
        super().__init__(clock)
        self._chance, self._odds = chance, chance.odds
        self._owners: dict[str, Connection] = {}

    def host_of(self, instance_id: str) -> Connection | None:
        owner = self._owners.get(instance_id)
        return owner if owner in self.hosts else super().host_of(instance_id)

    def take_messages(self, host: Connection, limit: int) -> list[StoredMessage]:
        if host.ready and self._chance.of("split"):
            limit = self._chance.up_to(len(host.ready))
        taken: list[StoredMessage] = []
        while host.ready and len(taken) < limit:
            each = host.ready.popleft()
            if each.is_gone or each.holder is not None or (each.is_kept and not self._odds.kept_again):
                continue
            each.holder = host
            each.tries += 1
            taken.append(each)
            self.perhaps_again(each, "again")
        return taken

    def take_work(self, host: Connection, limit: int) -> list[WorkItem]:
        taken = super().take_work(host, limit)
        for item in taken:
            self.perhaps_work_again(self._find_work(item))
        return taken

    def _find_work(self, item: WorkItem) -> StoredWork:
        raise NotImplementedError  # the hub knows

    # --- once more ---------------------------------------------------------------------------------------

    def perhaps_again(self, each: StoredMessage, freedom: str) -> None:
        """Perhaps deliver it again after a while."""
        if self._chance.of(freedom):
            self._clock.call_later(self._chance.seconds(), self.again, each)

    def again(self, each: StoredMessage) -> None:
        """Deliver it again, whoever has it in hand, to whoever it may be."""
        if each.is_gone or not self.hosts:
            return
        each.holder = None
        if self._chance.of("astray"):
            host = self._chance.choice(self.hosts)
            host.ready.append(each)
            host.messages_came.set()
        else:
            self.offer(each)

    def perhaps_work_again(self, each: StoredWork) -> None:
        """Perhaps hand it out again after a while."""
        if self._chance.of("work_again"):
            self._clock.call_later(self._chance.seconds(), self.work_again, each)

    def work_again(self, each: StoredWork) -> None:
        """Hand it out again, whoever runs it."""
        if not each.is_gone and each.holder is not None:
            self.offer(each)

    # --- hosts -------------------------------------------------------------------------------------------

    def perhaps_hand_over(self, instance_id: str) -> None:
        """Perhaps give the instance to another worker after a while."""
        if self._chance.of("hand_over"):
            self._clock.call_later(self._chance.seconds(), self._hand_over, instance_id)

    def _hand_over(self, instance_id: str) -> None:
        loser = self.host_of(instance_id)
        others = [each for each in self.hosts if each is not loser]
        if loser is not None and others:
            self._owners[instance_id] = self._chance.choice(others)
            self.share_out()
            loser.lost()


class _Offers(HostileOffers):
    """Those of a hub."""

    def __init__(self, hub: HostileHub) -> None:
        super().__init__(hub.clock, hub.chance)
        self._hub = hub

    def _find_work(self, item: WorkItem) -> StoredWork:
        found = self._hub.find_work(item.receipt)
        assert found is not None, "it was handed out just now"
        return found


class First(NamedTuple):
    """What a client's start has made: a version, and an execution that is to begin."""

    version: int
    execution_id: str | None


class HostileHub(MemoryHub):
    """Pays the debts of its commits later, in their order, whoever lives; and moves versions."""

    def __init__(self, clock: Clock, chance: Chance, traits: StoreTraits | None = None) -> None:
        super().__init__(clock, traits)
        self.chance = chance
        self.offers: HostileOffers = _Offers(self)
        self._rows: dict[str, InstanceRecord] = {}
        self._debts: defaultdict[str, deque[Callable[[], None]]] = defaultdict(deque)
        self._firsts: dict[str, First] = {}
        self.on_crash: Callable[[HostileStore], None] = lambda store: None

    # --- instances ---------------------------------------------------------------------------------------

    def create(self, start: ExecutionStarted, overridable: Collection[OrchestrationRuntimeStatus]) -> None:
        self.pay(start.instance_id)
        super().create(start, overridable)

    def send_start(self, message: Message) -> None:
        instance = self.instances[message.instance_id]
        self._rows[message.instance_id] = instance.row
        self._firsts[message.instance_id] = First(instance.version, message.execution_id)
        self._owe(message.instance_id, [partial(self.store_message, message)], "late_start")

    def purge(self, instance_ids: Collection[str]) -> int:
        for each in instance_ids:
            self.pay(each)
        return super().purge(instance_ids)

    def _remove(self, instance_id: str) -> None:
        super()._remove(instance_id)
        self._rows.pop(instance_id, None)
        self._firsts.pop(instance_id, None)

    def row(self, instance_id: str) -> InstanceRecord | None:
        return self._rows.get(instance_id)

    # --- turns -------------------------------------------------------------------------------------------

    def commit(self, committer: Connection, commit: Commit) -> Version:
        if self.chance.of("conflict") and (instance := self.instances.get(commit.instance_id)) is not None:
            instance.version = next(self._numbers)
        version = self.advance(commit)
        self.clear_away(commit)
        self.restate(commit)
        for item in commit.inline:
            self.store_work(item, committer)
        debts: list[Callable[[], None]] = []
        if commit.messages or commit.queued or commit.dead_letters:
            debts.append(partial(self.send_out, msgspec.structs.replace(commit, inline=()), None))
        if commit.status is not None:
            debts.append(partial(self._write_row, commit.instance_id, self.instances[commit.instance_id].row))
        self._owe(commit.instance_id, debts, "debt")
        self._disturb(commit)
        return version

    def clear_unwanted(self, commit: Commit, owned: Belongings) -> None:
        is_anything = commit.cancels_all or commit.cancelled
        if is_anything and not self.chance.of("unwanted"):
            super().clear_unwanted(commit, owned)

    def _write_row(self, instance_id: str, row: InstanceRecord) -> None:
        self._rows[instance_id] = row
        self._tell(instance_id, is_end=row.runtime_status.is_terminal)

    def _disturb(self, commit: Commit) -> None:
        self.offers.perhaps_hand_over(commit.instance_id)
        owned = self.belongings.get(commit.instance_id, Belongings())
        for each in owned.messages.values():
            if each.is_kept and each.holder is None:
                self.offers.perhaps_again(each, "kept_again")
        for item in commit.inline:
            if item.receipt in owned.work:
                self.offers.perhaps_work_again(owned.work[item.receipt])

    # --- what commits owe --------------------------------------------------------------------------------

    def _owe(self, instance_id: str, debts: Sequence[Callable[[], None]], freedom: str) -> None:
        """Do these now, or some time later; never before what the instance owed already."""
        owed = self._debts[instance_id]
        owed.extend(debts)
        if self.chance.of(freedom):
            for _ in debts:
                self.clock.call_later(self.chance.seconds(), self.pay, instance_id, 1)
            self.clock.call_later(self.chance.seconds() + 3, self.pay, instance_id)
        elif len(owed) == len(debts):
            late = len(debts) > 1 and self.chance.of("late_row")
            self.pay(instance_id, len(debts) - 1 if late else len(debts))
            if late:
                self.clock.call_later(self.chance.seconds(), self.pay, instance_id)

    def pay(self, instance_id: str, most: int | None = None) -> None:
        """Do what the commits of an instance owe, or the first of it."""
        owed = self._debts[instance_id]
        for _ in range(len(owed) if most is None else min(most, len(owed))):
            owed.popleft()()

    @property
    def owes(self) -> bool:
        """Whether anything is left to be done."""
        return any(self._debts.values())

    def pay_all(self) -> None:
        """Do all that any commit owes."""
        for instance_id in list(self._debts):
            self.pay(instance_id)

    # --- loading -----------------------------------------------------------------------------------------

    def begin(self, instance_id: str, known: Version | None, deliveries: Sequence[Delivery]) -> LoadedTurn:
        instance = self.instances.get(instance_id)
        if known is None and self._may_be_fresh(instance_id, deliveries):
            return self._as_fresh(instance_id, deliveries)
        if instance is None:
            deliveries = self._without_early(instance_id, deliveries)
        if known is not None and self.chance.of("chatty"):
            known = object()
        loaded = super().begin(instance_id, known, deliveries)
        if known is not None and loaded.snapshot is not None and self.chance.of("blind"):
            news = {each.receipt for each in deliveries}
            loaded = LoadedTurn(snapshot=None, deliveries=[each for each in loaded.deliveries if each.receipt in news])
        if instance is not None and instance.row.runtime_status is Status.Pending and self.chance.of("eager"):
            loaded = self._with_start(loaded)
        return loaded

    def _without_early(self, instance_id: str, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Nothing comes before the start of its instance, though the start comes again and late."""
        owned = self.belongings.get(instance_id, Belongings())
        starts = {receipt for receipt, each in owned.messages.items() if _is_start(each)}
        if not starts or not starts.isdisjoint(each.receipt for each in deliveries):
            return deliveries
        for each in deliveries:
            if each.receipt in owned.messages:
                self.offer_again(owned.messages[each.receipt], 1.0)
        return ()

    def _may_be_fresh(self, instance_id: str, deliveries: Sequence[Delivery]) -> bool:
        """Whether its start is among these, and all are delivered for the first time."""
        first = self._firsts.get(instance_id)
        if first is None or not any(each.execution_id == first.execution_id for each in deliveries):
            return False
        return all(each.tries == 1 for each in deliveries) and self.chance.of("fresh")

    def _as_fresh(self, instance_id: str, deliveries: Sequence[Delivery]) -> LoadedTurn:
        first = self._firsts.pop(instance_id)  # once: after that it has been delivered before
        snapshot = Snapshot(instance_id=instance_id, version=first.version, status=Status.Pending, history=[])
        owned = self.belongings.get(instance_id, Belongings())
        news = [
            each for each in deliveries if each.execution_id == first.execution_id or each.receipt in owned.messages
        ]
        return LoadedTurn(snapshot=snapshot, deliveries=list({each.receipt: each for each in news}.values()))

    def _with_start(self, loaded: LoadedTurn) -> LoadedTurn:
        if loaded.snapshot is None:
            return loaded
        owned = self.belongings.get(loaded.snapshot.instance_id, Belongings())
        answered = {each.receipt for each in loaded.deliveries}
        starts = [
            each.as_delivery() for each in owned.messages.values() if _is_start(each) and each.receipt not in answered
        ]
        return LoadedTurn(snapshot=loaded.snapshot, deliveries=[*starts, *loaded.deliveries])

    # --- work items --------------------------------------------------------------------------------------

    def complete_work(self, item: WorkItem, outcome: HistoryEvent) -> None:
        if self.find_work(item.receipt) is None and self.chance.of("outcome_again"):
            self.store_message(Message(instance_id=item.instance_id, event=outcome, execution_id=item.execution_id))
        super().complete_work(item, outcome)


def _is_start(stored: StoredMessage) -> bool:
    return isinstance(stored.message.event, ExecutionStarted)


def _reread(delivery: Delivery) -> Delivery:
    """With an event of its own, as if it had been decoded: two deliveries of a message share no object."""
    event: HistoryEvent = copy(delivery.event)
    return msgspec.structs.replace(delivery, event=event)


class HostileStore(MemoryStore):
    """A worker's store whose calls are slow, and fail before or after they have taken effect."""

    hub: HostileHub

    def __init__(self, hub: HostileHub) -> None:
        super().__init__(hub)
        self.is_dead = False
        self._chance = hub.chance

    def crash(self) -> None:
        self.is_dead = True
        super().crash()

    async def close(self) -> None:
        self.hub.pay_all()
        await super().close()

    async def flush(self) -> None:
        await self._stumble()
        self.hub.pay_all()

    async def receive(self) -> list[Delivery]:
        await self._stumble()
        deliveries = await super().receive()
        try:
            await self._stumble("lost_batch")
        except BaseException:
            self._let_go([self.hub.find_message(each) for each in deliveries])
            raise
        return [_reread(each) for each in deliveries]

    async def receive_work(self, limit: int) -> list[WorkItem]:
        await self._stumble()
        items = await super().receive_work(limit)
        try:
            await self._stumble("lost_batch")
        except BaseException:
            self._let_go([self.hub.find_work(each.receipt) for each in items])
            raise
        return items

    def _let_go(self, taken: Sequence[Stored | None]) -> None:
        for each in taken:
            if each is not None and each.holder is self.connection:
                if isinstance(each, StoredWork):
                    each.count_try(-1)
                else:
                    each.tries -= 1
                self.hub.offer_again(each, self._chance.seconds())

    async def begin(self, instance_id: str, known: Version | None, deliveries: Sequence[Delivery]) -> LoadedTurn:
        loaded = await self._call(super().begin, instance_id, known, deliveries)
        return LoadedTurn(snapshot=loaded.snapshot, deliveries=[_reread(each) for each in loaded.deliveries])

    async def commit(self, commit: Commit) -> Version:
        return await self._call(super().commit, commit)

    async def give_back(self, deliveries: Sequence[Delivery], delay: float) -> None:
        await self._call(super().give_back, deliveries, delay)

    async def complete_work(self, item: WorkItem, outcome: HistoryEvent) -> None:
        await self._call(super().complete_work, item, outcome)

    async def give_back_work(self, items: Sequence[WorkItem], delay: float = 0.0) -> None:
        await self._call(super().give_back_work, items, delay)

    async def sweep(self) -> None:
        await self._call(super().sweep)

    # --- what may go wrong -------------------------------------------------------------------------------

    async def _call(self, act: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """One call: it takes effect between two moments at which anything may happen."""
        await self._stumble()
        result = await act(*args, **kwargs)
        await self._stumble()
        return result

    async def _stumble(self, error: str = "error") -> None:
        await self._stop_if_dead()
        if self._chance.of("crash"):
            self.hub.on_crash(self)
            await self._stop_if_dead()
        if self._chance.of("pause"):
            await sleep(self.hub.clock, self._chance.seconds())
            await self._stop_if_dead()
        if self._chance.of(error):
            raise StoreError("by chance")

    async def _stop_if_dead(self) -> None:
        if self.is_dead:
            await asyncio.get_running_loop().create_future()
