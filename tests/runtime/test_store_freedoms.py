"""What a store may do and a worker has to bear: answers get lost, starts come late, messages come again."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from runtime_app import App

from durable_ext.errors import StoreError
from durable_ext.history import EventRaised, TaskCompleted
from durable_ext.messages import Message, WorkItem
from durable_ext.runtime.state import LocalOutcome
from durable_ext.runtime.turns import _in_order
from durable_ext.storage.contract import Commit, Delivery, StoreTraits, Version
from durable_ext.storage.memory import MemoryHub, MemoryStore

NOW = datetime(2024, 5, 1, tzinfo=UTC)


def raised(name: str) -> EventRaised:
    return EventRaised(timestamp=NOW, name="go", input=json.dumps(name))


class Mute(MemoryStore):
    """Makes each of the first commits count, and says that it failed."""

    def __init__(self, hub: MemoryHub, times: int) -> None:
        super().__init__(hub)
        self.times = times

    async def commit(self, commit: Commit) -> Version:
        version = await super().commit(commit)
        if self.times:
            self.times -= 1
            raise StoreError("the answer was lost")
        return version


@pytest.mark.parametrize("lost", [1, 2, 5])
async def test_commits_whose_answers_are_lost_cost_nothing_but_time(lost: int) -> None:
    store = Mute(MemoryHub(), lost)
    await store.open()
    app = App(store)

    @app.activity
    async def double(value: int) -> int:
        return 2 * value

    @app.orchestrator
    def chain(context: Any) -> Any:
        first = yield context.call_activity("double", 1)
        second = yield context.call_activity("double", first)
        return second

    await app.work()
    await app.start("chain", "a")
    assert (await app.end("a")).output == "4"
    await app.leave()
    await store.close()


class LateStart(MemoryHub):
    """Stores events for an instance before its start."""

    def send_start(self, message: Message) -> None:
        for name in ("one", "two"):
            self.store_message(Message(instance_id=message.instance_id, event=raised(name)))
        super().send_start(message)


@pytest.mark.parametrize("turn_size", [1, 2, None])
async def test_a_start_does_not_stay_behind_what_came_before_it(turn_size: int | None) -> None:
    store = MemoryStore(LateStart(traits=StoreTraits(turn_size=turn_size)))
    await store.open()
    app = App(store)

    @app.orchestrator
    def both(context: Any) -> Any:
        first = yield context.wait_for_external_event("go")
        second = yield context.wait_for_external_event("go")
        return [first, second]

    await app.work()
    await app.start("both", "a")
    assert (await app.end("a")).output == '["one","two"]'
    await app.leave()
    await store.close()


def test_what_is_kept_goes_ahead_in_its_order_also_if_a_part_of_it_came_again() -> None:
    def delivery(receipt: int, *, is_kept: bool = False) -> Delivery:
        return Delivery(receipt=receipt, instance_id="i", event=raised(str(receipt)), is_kept=is_kept)

    item = WorkItem(instance_id="i", execution_id="e", task_id=0, name="n", orchestrator="o")
    outcome = LocalOutcome(item, TaskCompleted(timestamp=NOW, task_scheduled_id=0))
    kept = [delivery(1, is_kept=True), delivery(2, is_kept=True)]
    news = delivery(3)
    assert _in_order([outcome, delivery(1), news], [*kept, news]) == [*kept, outcome, news]
