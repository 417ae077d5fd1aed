"""Stores that break one promise each, by which the simulation shows that it would notice.

`PROMISES` is the table: what the contract says, and the hub, or the store, that does not do it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from hostile import HostileHub, HostileStore
from sim_compare import check, hostile_setting, orderly_setting
from sim_programs import TAILS

from durable_ext.errors import VersionConflictError
from durable_ext.history import EventRaised, ExecutionStarted, HistoryEvent
from durable_ext.messages import Message, WorkItem
from durable_ext.storage.contract import Commit, Delivery, LoadedTurn, Version
from durable_ext.storage.memory.records import Belongings, Connection, Stored, StoredMessage, StoredWork


class NoVersionCheck(HostileHub):
    def commit(self, committer: Connection, commit: Commit) -> Version:
        instance = self.instances.get(commit.instance_id)
        if instance is not None:
            commit = msgspec.structs.replace(commit, version=instance.version)
        return super().commit(committer, commit)


class SendsThoughTheCommitLost(HostileHub):
    def commit(self, committer: Connection, commit: Commit) -> Version:
        try:
            return super().commit(committer, commit)
        except VersionConflictError:
            self.send_out(msgspec.structs.replace(commit, inline=()), None)
            raise


class ConflictRemovesConsumed(HostileHub):
    def commit(self, committer: Connection, commit: Commit) -> Version:
        try:
            return super().commit(committer, commit)
        except VersionConflictError:
            self.clear_away(msgspec.structs.replace(commit, status=None, kept=(), cancelled=()))
            raise


class LosesEventsOfHistory(HostileHub):
    def advance(self, commit: Commit) -> Version:
        return super().advance(msgspec.structs.replace(commit, events=commit.events[: len(commit.events) // 2]))


class KeepsTheReplacedHistory(HostileHub):
    def advance(self, commit: Commit) -> Version:
        return super().advance(msgspec.structs.replace(commit, replaces_history=False))


class ForgetsDebtsAtACrash(HostileHub):
    def leave(self, connection: Connection) -> None:
        self._debts.clear()
        super().leave(connection)


class NeverWritesTheLastRow(HostileHub):
    def _write_row(self, instance_id: str, row: Any) -> None:
        if not row.runtime_status.is_terminal:
            super()._write_row(instance_id, row)


class LosesMessagesAtACrash(HostileHub):
    def leave(self, connection: Connection) -> None:
        for owned in self.belongings.values():
            for each in [each for each in owned.messages.values() if each.holder is connection]:
                owned.remove_message(each.receipt)
        super().leave(connection)


class LosesWorkAtACrash(HostileHub):
    def leave(self, connection: Connection) -> None:
        for owned in self.belongings.values():
            for each in [each for each in owned.work.values() if each.holder is connection]:
                owned.remove_work(each.item.receipt)
        super().leave(connection)


class RemembersConsumed(HostileHub):
    """Keeps what was consumed, for those that deliver it again."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.consumed: dict[object, StoredMessage] = {}

    def clear_away(self, commit: Commit) -> None:
        owned = self.belongings.get(commit.instance_id, Belongings())
        self.consumed |= {each: owned.messages[each] for each in commit.consumed if each in owned.messages}
        super().clear_away(commit)


class BeginsWithTheConsumed(RemembersConsumed):
    def begin(self, instance_id: str, known: Version | None, deliveries: Sequence[Delivery]) -> LoadedTurn:
        loaded = super().begin(instance_id, known, deliveries)
        answered = {each.receipt for each in loaded.deliveries}
        consumed = [each for each in deliveries if each.receipt in self.consumed and each.receipt not in answered]
        return LoadedTurn(snapshot=loaded.snapshot, deliveries=[*loaded.deliveries, *consumed])


class DeliversUnderAnotherReceipt(HostileHub):
    def store_message(self, message: Message) -> None:
        super().store_message(message)
        if self.chance.happens(0.2) and isinstance(message.event, EventRaised):
            super().store_message(message)


class LosesKept(HostileHub):
    def clear_away(self, commit: Commit) -> None:
        owned = self.belongings.get(commit.instance_id, Belongings())
        for each in [each for each in owned.messages.values() if each.is_kept]:
            owned.remove_message(each.receipt)
        super().clear_away(commit)


class LosesKeptAtAnEnd(HostileHub):
    def clear_unwanted(self, commit: Commit, owned: Belongings) -> None:
        if commit.status is not None and commit.status.runtime_status.is_terminal:
            for each in [each for each in owned.messages.values() if each.is_kept]:
                owned.remove_message(each.receipt)
        super().clear_unwanted(commit, owned)


class LosesKeptWithTheOldGeneration(HostileHub):
    def clear_away(self, commit: Commit) -> None:
        if commit.replaces_history:
            owned = self.belongings.get(commit.instance_id, Belongings())
            for each in [each for each in owned.messages.values() if each.is_kept]:
                owned.remove_message(each.receipt)
        super().clear_away(commit)


class NeverConsumesKept(HostileHub):
    def clear_away(self, commit: Commit) -> None:
        owned = self.belongings.get(commit.instance_id, Belongings())
        consumed = [each for each in commit.consumed if each not in owned.messages or not owned.messages[each].is_kept]
        super().clear_away(msgspec.structs.replace(commit, consumed=consumed))


class BeginsWithoutTheKept(HostileHub):
    def begin(self, instance_id: str, known: Version | None, deliveries: Sequence[Delivery]) -> LoadedTurn:
        loaded = super().begin(instance_id, known, deliveries)
        asked = {each.receipt for each in deliveries}
        return LoadedTurn(
            snapshot=loaded.snapshot, deliveries=[each for each in loaded.deliveries if each.receipt in asked]
        )


class BeginsWithTheKeptBackwards(HostileHub):
    def begin(self, instance_id: str, known: Version | None, deliveries: Sequence[Delivery]) -> LoadedTurn:
        loaded = super().begin(instance_id, known, deliveries)
        kept = [each for each in loaded.deliveries if each.is_kept]
        rest = [each for each in loaded.deliveries if not each.is_kept]
        return LoadedTurn(snapshot=loaded.snapshot, deliveries=[*reversed(kept), *rest])


class BeginsWithTheKeptLast(HostileHub):
    def begin(self, instance_id: str, known: Version | None, deliveries: Sequence[Delivery]) -> LoadedTurn:
        loaded = super().begin(instance_id, known, deliveries)
        return LoadedTurn(snapshot=loaded.snapshot, deliveries=sorted(loaded.deliveries, key=lambda each: each.is_kept))


class AnswersTwice(HostileHub):
    def begin(self, instance_id: str, known: Version | None, deliveries: Sequence[Delivery]) -> LoadedTurn:
        loaded = super().begin(instance_id, known, deliveries)
        return LoadedTurn(snapshot=loaded.snapshot, deliveries=[*loaded.deliveries, *loaded.deliveries])


class BeginsWithAnOldHistory(HostileHub):
    def begin(self, instance_id: str, known: Version | None, deliveries: Sequence[Delivery]) -> LoadedTurn:
        loaded = super().begin(instance_id, known, deliveries)
        if loaded.snapshot is None:
            return loaded
        history = loaded.snapshot.history
        turns = [at for at, each in enumerate(history) if type(each).__name__ == "OrchestratorStarted"]
        short = history[: turns[-1]] if len(turns) > 1 else history
        return LoadedTurn(
            snapshot=msgspec.structs.replace(loaded.snapshot, history=short), deliveries=loaded.deliveries
        )


class DeliversBackwards(HostileHub):
    def store_message(self, message: Message) -> None:
        super().store_message(message)
        for host in self.offers.hosts:
            waiting = sorted(host.ready, key=lambda each: -each.receipt)
            host.ready.clear()
            host.ready.extend(waiting)


class DeliversBeforeItsTime(HostileHub):
    def store_message(self, message: Message) -> None:
        super().store_message(msgspec.structs.replace(message, visible_at=None))


class LosesWorkWithAnAnswer(HostileHub):
    def offer_again(self, each: Any, delay: float) -> None:
        if not isinstance(each, StoredWork):
            super().offer_again(each, delay)


class LosesMessagesWithAnAnswer(HostileHub):
    def offer_again(self, each: Any, delay: float) -> None:
        if not isinstance(each, StoredMessage):
            super().offer_again(each, delay)


class LosesOutcomes(HostileHub):
    def complete_work(self, item: WorkItem, outcome: HistoryEvent) -> None:
        if not self.chance.happens(0.5):
            super().complete_work(item, outcome)
        elif (stored := self.find_work(item.receipt)) is not None:
            self.belongings[item.instance_id].remove_work(stored.item.receipt)


class TakesOneAskingForAnother(HostileHub):
    def complete_work(self, item: WorkItem, outcome: HistoryEvent) -> None:
        for each in list(self.belongings[item.instance_id].work):
            if (each.execution_id, each.task_id) == (item.execution_id, item.task_id):
                self.belongings[item.instance_id].remove_work(each)
        self.store_message(Message(instance_id=item.instance_id, event=outcome, execution_id=item.execution_id))


class LosesTheStart(HostileHub):
    def send_start(self, message: Message) -> None:
        super().send_start(message)
        owned = self.belongings.get(message.instance_id, Belongings())
        for each in list(owned.messages.values()):
            if isinstance(each.message.event, ExecutionStarted) and self.chance.happens(0.3):
                owned.remove_message(each.receipt)


class LeavesMessagesToTheSuccessor(HostileHub):
    def _remove(self, instance_id: str) -> None:
        left = self.belongings.pop(instance_id, Belongings())
        super()._remove(instance_id)
        self.belongings[instance_id].messages.update(left.messages)


class LosesWhatIsGivenBack(HostileStore):
    async def give_back(self, deliveries: Sequence[Delivery], delay: float) -> None:
        pass


class LosesWorkGivenBack(HostileStore):
    async def give_back_work(self, items: Sequence[WorkItem], delay: float = 0.0) -> None:
        pass


class LosesBatchesWhenCancelled(HostileStore):
    def _let_go(self, taken: Sequence[Stored | None]) -> None:
        if not isinstance(sys.exc_info()[1], asyncio.CancelledError):
            super()._let_go(taken)


@dataclass(frozen=True)
class Promise:
    """What the contract says; a hub that does not keep it; and what makes that likely to show."""

    says: str
    broken: type[HostileHub | HostileStore]
    orderly: bool = False
    odds: Mapping[str, float] = field(default_factory=dict)
    setting: Mapping[str, Any] = field(default_factory=dict)
    tails: Sequence[str] = TAILS

    def check(self, seed: int, *, keep: bool = False) -> None:
        """Run a seed on the broken hub or store, or on one that keeps the promise. An AssertionError if that shows."""
        setting = (orderly_setting if self.orderly else hostile_setting)(seed)
        odds = replace(setting.odds, **self.odds)
        kind = "make_store" if issubclass(self.broken, HostileStore) else "make_hub"
        make = {} if keep else {kind: self.broken}
        check(seed, orderly=self.orderly, tails=self.tails, odds=odds, **make, **self.setting)


CRASHES: Mapping[str, Any] = {"odds": {"crash": 0.03, "debt": 0.6}, "setting": {"crashes": 5}}
AGAIN: Mapping[str, Any] = {
    "odds": {"work_again": 0.6, "pause": 0.4, "hand_over": 0.3, "again": 0.2},
    "setting": {"activities": 1},
    "tails": ("rewind",),
}

PROMISES = (
    Promise("a commit counts only if the instance still has its version", NoVersionCheck),
    Promise("nothing is sent for a commit that lost its version check", SendsThoughTheCommitLost),
    Promise("a commit that loses its version check has done nothing", ConflictRemovesConsumed),
    Promise("a commit counts whole", LosesEventsOfHistory),
    Promise("the history of the former generation goes", KeepsTheReplacedHistory),
    Promise("once history is durable everything else of the commit happens", ForgetsDebtsAtACrash, **CRASHES),
    Promise("the status row is part of the commit", NeverWritesTheLastRow),
    Promise("what a worker has not consumed when it dies is delivered again", LosesMessagesAtACrash, **CRASHES),
    Promise("no crash loses a work item", LosesWorkAtACrash, **CRASHES),
    Promise("no lost answer loses a work item", LosesWorkWithAnAnswer),
    Promise("a message is delivered until a commit consumes it", LosesMessagesWithAnAnswer),
    Promise("a message that was consumed is left out of the answer", BeginsWithTheConsumed),
    Promise("two deliveries of one message have equal receipts", DeliversUnderAnotherReceipt),
    Promise("a kept message stays through every commit that does not consume it", LosesKept),
    Promise("a kept message stays through the end", LosesKeptAtAnEnd, orderly=True, tails=("rewind",)),
    Promise("a kept message stays through a new generation", LosesKeptWithTheOldGeneration),
    Promise("a kept message goes when a commit consumes it", NeverConsumesKept),
    Promise("what is kept comes with every begin that reads the instance", BeginsWithoutTheKept),
    Promise("what is kept comes in the order in which it was stored", BeginsWithTheKeptBackwards, orderly=True),
    Promise("a snapshot is the instance as last committed", BeginsWithAnOldHistory),
    Promise("messages come in the order they were stored", DeliversBackwards, orderly=True),
    Promise("a message for later does not come before its time", DeliversBeforeItsTime),
    Promise("what is given back comes again", LosesWhatIsGivenBack, odds={"conflict": 0.5}),
    Promise("work that is given back is offered again", LosesWorkGivenBack),
    Promise("cancellation loses no message and no work item", LosesBatchesWhenCancelled, setting={"pauses": 2}),
    Promise("complete_work stores the outcome", LosesOutcomes),
    Promise("asked tells two askings of a call apart", TakesOneAskingForAnother, **AGAIN),
    Promise("once an instance is there, its start message will be", LosesTheStart),
    Promise("no message reaches the successor of its instance", LeavesMessagesToTheSuccessor),
)

NOT_NEEDED = (
    # The runtime does without these: it looks for repeated receipts itself, and puts what is kept first.
    Promise("none comes twice in one answer", AnswersTwice),
    Promise("what is kept comes ahead of what was delivered", BeginsWithTheKeptLast, orderly=True),
)
"""Promises that no seed misses."""
