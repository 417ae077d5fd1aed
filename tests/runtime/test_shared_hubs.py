"""What a worker does differently where others host the same hub, or where a store asks for it by its traits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from runtime_app import App

from durable_ext.history import EventRaised, OrchestrationRuntimeStatus
from durable_ext.storage.contract import Commit, StoreTraits
from durable_ext.storage.memory import MemoryHub, MemoryStore

S = OrchestrationRuntimeStatus
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]
Join = Callable[[], Awaitable[App]]


@pytest.fixture
def hub() -> MemoryHub:
    return MemoryHub(traits=StoreTraits(is_shared=True))


@pytest.fixture
async def join(hub: MemoryHub) -> AsyncIterator[Join]:
    """One more app on the hub, not yet at work."""
    async with AsyncExitStack() as stack:

        async def one() -> App:
            store = MemoryStore(hub)
            await store.open()
            app = App(store)
            stack.push_async_callback(store.close)
            stack.push_async_callback(app.leave)
            return app

        yield one


def ask(app: App) -> None:
    """An orchestrator `ask` of one call of the activity `answer`."""

    @app.orchestrator
    def ask(context: Any) -> Any:
        return (yield context.call_activity("answer"))


async def test_an_activity_this_worker_does_not_know_is_left_to_one_that_does(
    join: Join, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("durable_ext.runtime.worker.PARK_DELAY", 0.01)
    ignorant, wise = await join(), await join()
    ask(ignorant)
    ask(wise)

    @wise.activity
    async def answer(value: Any) -> int:
        return 42

    await ignorant.work()
    await ignorant.start("ask", "a")
    await ignorant.until("a", lambda record: record.runtime_status is S.Running)
    await wise.work()
    assert (await ignorant.end("a")).output == "42"


async def test_an_activity_nobody_knows_fails_in_the_end(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("durable_ext.runtime.worker.PARK_DELAY", 0.01)
    monkeypatch.setattr("durable_ext.runtime.worker.PARK_FOR", timedelta(seconds=0.05))
    app = await join()
    ask(app)
    await app.work()
    await app.start("ask", "a")
    assert "The function 'answer' doesn't exist" in (await app.end("a")).output


async def test_an_orchestrator_this_worker_does_not_know_is_left_to_one_that_does(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable_ext.runtime.worker.PARK_DELAY", 0.01)
    ignorant = await join()
    await ignorant.work()
    await ignorant.start("hello", "a")
    for _ in range(20):
        await asyncio.sleep(0.005)
    assert (await ignorant.store.get_instance("a")).runtime_status is S.Pending
    wise = await join()

    @wise.orchestrator
    def hello(context: Any) -> str:
        return "hello"

    await ignorant.leave()
    await ignorant.store.close()
    await wise.work()
    assert (await wise.end("a")).output == '"hello"'


async def test_an_orchestrator_nobody_knows_fails_in_the_end(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("durable_ext.runtime.worker.PARK_DELAY", 0.01)
    monkeypatch.setattr("durable_ext.runtime.turns.PARK_FOR", timedelta(seconds=0.05))
    app = await join()
    await app.work()
    await app.start("hello", "a")
    assert "The function 'hello' doesn't exist" in (await app.end("a")).output


async def test_instances_lost_to_another_worker_leave_memory_and_go_on_there(join: Join) -> None:
    def register(app: App) -> None:
        @app.orchestrator
        def wait(context: Any) -> Any:
            return (yield context.wait_for_external_event("go"))

    first, second = await join(), await join()
    register(first)
    register(second)
    worker = await first.work()
    ids = [f"i{number}" for number in range(20)]
    for instance_id in ids:
        await first.start("wait", instance_id)
    for instance_id in ids:
        await first.until(instance_id, lambda record: record.runtime_status is S.Running)
    await worker.until_idle(0.01, 10)
    assert len(worker._instances) == 20
    await second.work()
    assert 0 < len(worker._instances) < 20
    assert all(first.store.is_local(each.instance_id) for each in worker._instances)
    for instance_id in ids:
        await first.send(instance_id, EventRaised(timestamp=datetime.now(UTC), name="go", input="1"))
        assert (await first.end(instance_id)).output == "1"


async def recorded(store: MemoryStore) -> list[Commit]:
    """Every commit of the store from now on."""
    commits: list[Commit] = []
    commit = store.commit

    async def record(each: Commit) -> Any:
        commits.append(each)
        return await commit(each)

    store.commit = record  # type: ignore[method-assign]
    return commits


@pytest.fixture
def fan() -> Callable[[App], None]:
    def register(app: App) -> None:
        @app.activity
        async def step(value: int) -> int:
            for _ in range(value):
                await asyncio.sleep(0)
            return value

        @app.orchestrator
        def fan(context: Any) -> Any:
            return (yield context.task_all([context.call_activity("step", n) for n in range(context.get_input())]))

        @app.orchestrator
        def collect(context: Any) -> Any:
            found: list[Any] = []
            while len(found) < context.get_input():
                found.append((yield context.wait_for_external_event("go")))
            return found

    return register


@pytest.mark.parametrize(("gather", "turns"), [(0.0, range(4, 13)), (5.0, range(2, 4))])
async def test_outcomes_are_gathered_as_long_as_the_store_finds_worth_waiting(
    gather: float, turns: Sequence[int], fan: Callable[[App], None]
) -> None:
    store = MemoryStore(MemoryHub(traits=StoreTraits(gather=gather)))
    await store.open()
    app = App(store)
    fan(app)
    commits = await recorded(store)
    await app.work(max_concurrent_activity_functions=10)
    await app.start("fan", "a", "10")
    assert (await app.end("a")).output == str(list(range(10))).replace(" ", "")
    assert len(commits) in turns
    await app.leave()
    await store.close()


async def test_no_more_goes_into_a_turn_than_the_store_takes(fan: Callable[[App], None]) -> None:
    store = MemoryStore(MemoryHub(traits=StoreTraits(turn_size=3)))
    await store.open()
    app = App(store)
    fan(app)
    commits = await recorded(store)
    await app.start("collect", "a", "10")
    for number in range(10):
        await app.send("a", EventRaised(timestamp=datetime.now(UTC), name="go", input=str(number)))
    await app.work()
    assert (await app.end("a")).output == str(list(range(10))).replace(" ", "")
    assert {len(each.consumed) + len(each.kept) for each in commits} <= {1, 2, 3}
    await app.leave()
    await store.close()


async def test_the_status_row_is_refreshed_as_often_as_the_store_asks(fan: Callable[[App], None]) -> None:
    written = []
    for interval in (timedelta(0), timedelta(days=1)):
        store = MemoryStore(MemoryHub(traits=StoreTraits(status_interval=interval)))
        await store.open()
        app = App(store)
        fan(app)
        commits = await recorded(store)
        await app.start("fan", "a", "3")
        await app.work(max_concurrent_activity_functions=1)
        await app.end("a")
        written.append(sum(each.status is not None for each in commits) / len(commits))
        await app.leave()
        await store.close()
    assert written[0] == 1
    assert written[1] < 1


async def test_calls_of_a_commit_whose_answer_was_lost_are_let_go_of_and_run(
    join: Join, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    app = await join()
    ran = 0

    @app.activity
    async def answer(value: Any) -> int:
        nonlocal ran
        ran += 1
        return 42

    ask(app)
    commit, lost = app.store.commit, 0

    async def lose_the_first_answer(each: Commit) -> Any:
        nonlocal lost
        version = await commit(each)
        if each.inline and not lost:
            lost += 1
            raise OSError("connection reset")
        return version

    app.store.commit = lose_the_first_answer  # type: ignore[method-assign]
    await app.work()
    await app.start("ask", "a")
    assert (await app.end("a")).output == "42"
    assert (lost, ran) == (1, 1)
