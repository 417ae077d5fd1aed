"""The hostile hub takes its freedoms, all of them, and keeps to the contract while it does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any, TypeVar

import jumping
import pytest
from hostile import Chance, HostileHub, HostileStore, Odds
from jumping import JumpingClock
from sim_compare import MOST, hostile_setting
from sim_programs import make_program
from sim_world import simulate

from durable_ext.clock import sleep
from durable_ext.errors import StoreError
from durable_ext.history import LIVE, EventRaised, ExecutionStarted
from durable_ext.messages import Message
from durable_ext.storage.contract import Commit, Delivery, LoadedTurn, Version
from durable_ext.storage.memory import MemoryStore

T = TypeVar("T")

INSTANCES, EVENTS = 3, 20
OFTEN = 3


def test_every_freedom_is_taken() -> None:
    taken: Counter[str] = Counter()
    for seed in range(1000):
        taken += simulate(make_program(seed), hostile_setting(seed), seed).taken
        if all(taken[each.name] >= OFTEN for each in fields(Odds)):
            return
    pytest.fail(f"hardly ever taken: {[each.name for each in fields(Odds) if taken[each.name] < OFTEN]}")


def test_the_same_seed_takes_the_same_freedoms() -> None:
    outcomes = [simulate(make_program(7), hostile_setting(7), 7) for _ in range(2)]
    assert outcomes[0] == outcomes[1]


class Remembering(HostileHub):
    """Knows what was consumed."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.consumed: set[Hashable] = set()

    def clear_away(self, commit: Commit) -> None:
        super().clear_away(commit)
        self.consumed.update(commit.consumed)

    def begin(self, instance_id: str, known: Version | None, deliveries: Sequence[Delivery]) -> LoadedTurn:
        loaded = super().begin(instance_id, known, deliveries)
        if loaded.snapshot is None or loaded.snapshot.version == self.instances[instance_id].version:
            assert self.consumed.isdisjoint(each.receipt for each in loaded.deliveries), "consumed before"
        return loaded


async def read(hub: Remembering, deliveries: Counter[Hashable]) -> None:
    """A worker that consumes whatever comes."""
    store = HostileStore(hub)
    await store.open()
    await store.host("a reader", lambda: None)
    while True:
        for each in await insist(hub, store.receive):
            deliveries[each.receipt] += 1
            await insist(hub, partial(consume, hub, store, each))


async def consume(hub: Remembering, store: HostileStore, delivery: Delivery) -> None:
    loaded = await store.begin(delivery.instance_id, None, [delivery])
    assert loaded.snapshot is not None
    news = [each.receipt for each in loaded.deliveries]
    commit = Commit(instance_id=delivery.instance_id, execution_id="e", version=loaded.snapshot.version, consumed=news)
    await store.commit(commit)


async def insist(hub: HostileHub, call: Callable[[], Awaitable[T]]) -> T:
    """Call until it does not fail."""
    while True:
        try:
            return await call()
        except StoreError:
            await sleep(hub.clock, 0.1)


@pytest.mark.parametrize("seed", range(20))
def test_every_message_comes_until_it_is_consumed(seed: int) -> None:
    async def main(clock: JumpingClock) -> None:
        hub, deliveries = Remembering(clock, Chance(seed, replace(MOST, crash=0))), Counter[Hashable]()
        client = MemoryStore(hub)
        await client.open()
        readers = [asyncio.ensure_future(read(hub, deliveries)) for _ in range(2)]
        for number in range(INSTANCES):
            start = ExecutionStarted(
                timestamp=clock.now(), name="n", instance_id=f"i{number}", execution_id="e", start_id="e"
            )
            await client.create_instance(start, overridable=frozenset())
        for number in range(EVENTS * INSTANCES):
            event = EventRaised(timestamp=clock.now(), name="x", input=str(number))
            await client.send(Message(instance_id=f"i{number % INSTANCES}", event=event), accepted=LIVE)
        while len(hub.consumed) < (EVENTS + 1) * INSTANCES:
            await sleep(clock, 1)
            assert not any(each.done() for each in readers), "a reader has failed"

    jumping.run(main)
