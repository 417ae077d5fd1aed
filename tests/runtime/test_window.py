"""A worker that is started and stopped in bounds: pause and resume, idleness, work handed in, the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest

from durable_ext.history import EventRaised, ExecutionTerminated, OrchestrationRuntimeStatus
from durable_ext.messages import WorkItem

S = OrchestrationRuntimeStatus
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
def gated(app: Any) -> Any:
    """An app whose activity waits for a gate."""
    app.gate, app.running, app.ran = asyncio.Event(), 0, 0

    @app.activity
    async def step(value: Any) -> Any:
        app.running += 1
        app.ran += 1
        await app.gate.wait()
        app.running -= 1
        return value

    @app.orchestrator
    def one(context: Any) -> Any:
        return (yield context.call_activity("step", 1))

    @app.orchestrator
    def fan(context: Any) -> Any:
        return (yield context.task_all([context.call_activity("step", n) for n in range(context.get_input())]))

    @app.orchestrator
    def plain(context: Any) -> Any:
        return "done"

    return app


async def test_a_paused_worker_takes_nothing_and_what_runs_goes_on(gated: Any, eventually: Eventually) -> None:
    worker = await gated.work()
    await gated.start("one", "before")
    await eventually(lambda: gated.running == 1)
    await worker.pause()
    await worker.pause()
    await gated.start("plain", "after")
    gated.gate.set()
    assert (await gated.end("before")).output == "1"
    assert (await gated.store.get_instance("after")).runtime_status is S.Pending
    worker.resume()
    worker.resume()
    assert (await gated.end("after")).output == '"done"'


async def test_a_paused_worker_claims_no_activity(gated: Any, eventually: Eventually) -> None:
    worker = await gated.work(max_concurrent_activity_functions=2)
    await gated.start("fan", "a", "5")
    await eventually(lambda: gated.running == 2)
    await worker.pause()
    gated.gate.set()
    await eventually(lambda: gated.running == 0)
    assert await worker.until_idle(0.02, 10)
    assert gated.ran == 2
    assert len(await gated.store.receive_work(10)) == 3


async def test_a_worker_is_idle_once_nothing_runs(gated: Any, eventually: Eventually) -> None:
    worker = await gated.work()
    await gated.start("one", "a")
    await eventually(lambda: gated.running == 1)
    assert not await worker.until_idle(0.01, 0.05)
    gated.gate.set()
    assert await worker.until_idle(0.01, 10)
    assert (await gated.store.get_instance("a")).output == "1"


async def test_a_worker_that_fetches_no_work_runs_what_it_is_given(gated: Any, eventually: Eventually) -> None:
    worker = await gated.work(fetch_work=False, max_concurrent_activity_functions=1)
    await gated.start("fan", "a", "3")
    await eventually(lambda: gated.running == 1)
    items: list[WorkItem] = await gated.store.receive_work(10)
    assert [each.tries for each in items] == [1, 1]
    gated.gate.set()
    await asyncio.gather(*map(worker.perform, items))
    assert (await gated.end("a")).output == "[0,1,2]"


async def test_a_stop_ends_within_its_grace_whatever_threads_do(
    app: Any, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    release, running = threading.Event(), []

    @app.activity
    def stuck(value: Any) -> None:
        running.append(value)
        release.wait(30)

    @app.orchestrator
    def fan(context: Any) -> Any:
        yield context.task_all([context.call_activity("stuck", n) for n in range(40)])

    worker = await app.work(max_concurrent_activity_functions=40)
    await app.start("fan", "a")
    await eventually(lambda: len(running) == 40)
    began = monotonic()
    await worker.stop(0.2)
    took = monotonic() - began
    release.set()
    assert took < 5
    assert caplog.text.count("activity 'stuck' of a did not end in time; its thread is left") == 40
    assert len(await app.store.receive_work(100)) == 40


async def test_forty_activities_that_never_return_do_not_stop_a_hub(app: Any, eventually: Eventually) -> None:
    release, running = threading.Event(), []

    @app.activity
    def stuck(value: Any) -> None:
        running.append(value)
        release.wait(30)

    @app.activity
    def work(value: Any) -> Any:
        return value

    @app.orchestrator
    def culprit(context: Any) -> Any:
        yield context.task_all([context.call_activity("stuck", n) for n in range(40)])

    @app.orchestrator
    def worker(context: Any) -> Any:
        return (yield context.call_activity("work", 7))

    @app.orchestrator
    def plain(context: Any) -> Any:
        return "done"

    await app.work(max_concurrent_activity_functions=20)
    await app.start("culprit", "culprit")
    await eventually(lambda: len(running) == 20)
    await app.start("plain", "plain")
    assert (await app.end("plain")).output == '"done"'
    await app.start("worker", "worker")
    await app.send("culprit", ExecutionTerminated(timestamp=app.now(), reason="enough"))
    assert (await app.end("culprit")).runtime_status is S.Terminated
    assert (await app.end("worker")).output == "7"
    release.set()
    assert len(running) == 20


async def test_the_queued_calls_of_a_terminated_instance_never_run(gated: Any, eventually: Eventually) -> None:
    await gated.work(max_concurrent_activity_functions=2)
    await gated.start("fan", "a", "200")
    await eventually(lambda: gated.running == 2)
    await gated.send("a", ExecutionTerminated(timestamp=gated.now()))
    assert (await gated.end("a")).runtime_status is S.Terminated
    gated.gate.set()
    await gated.start("one", "b")
    assert (await gated.end("b")).output == "1"
    assert gated.ran == 3


async def test_a_call_whose_timeout_has_passed_gives_its_slot_back(
    app: Any, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    release, cancelled = threading.Event(), []

    @app.activity
    def stuck(value: Any) -> None:
        release.wait(30)

    @app.activity
    async def endless(value: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(value)
            raise

    @app.activity
    def work(value: Any) -> Any:
        return value

    @app.orchestrator
    def impatient(context: Any) -> Any:
        late = []
        for name in ("stuck", "endless"):
            try:
                yield context.call_activity(name, name, timeout=0.05)
            except Exception as error:
                late.append(type(error).__name__)
        return [*late, (yield context.call_activity("work", 7))]

    await app.work(max_concurrent_activity_functions=1)
    await app.start("impatient", "a")
    assert (await app.end("a")).output == '["ActivityTimeout","ActivityTimeout",7]'
    release.set()
    assert cancelled == ["endless"]
    assert "activity 'stuck' of a does not end although its timeout has passed" in caplog.text


async def test_work_handed_in_runs_while_the_worker_is_paused(gated: Any, eventually: Eventually) -> None:
    worker = await gated.work(fetch_work=False, max_concurrent_activity_functions=1)
    await gated.start("fan", "a", "2")
    await eventually(lambda: gated.running == 1)
    (item,) = await gated.store.receive_work(10)
    await worker.pause()
    performing = asyncio.ensure_future(worker.perform(item))
    gated.gate.set()
    async with asyncio.timeout(10):
        assert await performing
    worker.resume()
    assert (await gated.end("a")).output == "[0,1]"


async def test_whoever_hands_work_in_is_told_if_it_will_have_no_outcome(gated: Any, eventually: Eventually) -> None:
    worker = await gated.work(fetch_work=False, max_concurrent_activity_functions=3)
    await gated.start("fan", "a", "5")
    await eventually(lambda: gated.running == 3)
    items = await gated.store.receive_work(10)
    performing = [asyncio.ensure_future(worker.perform(each)) for each in items]
    await asyncio.sleep(0)
    await gated.send("a", ExecutionTerminated(timestamp=gated.now()))
    async with asyncio.timeout(10):
        assert await asyncio.gather(*performing) == [False, False]
    stray = WorkItem(instance_id="x", execution_id="x", task_id=0, name="step", orchestrator="o", tries=1)
    last = asyncio.ensure_future(worker.perform(stray))
    await eventually(lambda: gated.running > 0)
    await worker.stop(0.01)
    async with asyncio.timeout(10):
        assert not await last


async def test_what_an_orchestrator_that_returned_left_behind_is_done_all_the_same(
    gated: Any, eventually: Eventually
) -> None:
    @gated.orchestrator
    def careless(context: Any) -> Any:
        for number in range(3):
            context.call_activity("step", number)
        context.create_timer(gated.now() + timedelta(days=1))
        return "done"

    await gated.work(max_concurrent_activity_functions=1)
    await gated.start("careless", "a")
    assert (await gated.end("a")).output == '"done"'
    gated.gate.set()
    await eventually(lambda: gated.ran == 3)


async def test_what_an_orchestrator_that_failed_left_behind_is_cancelled(gated: Any, eventually: Eventually) -> None:
    @gated.orchestrator
    def unlucky(context: Any) -> Any:
        for number in range(3):
            context.call_activity("step", number)
        yield context.wait_for_external_event("go")
        raise ValueError("no")

    await gated.work(max_concurrent_activity_functions=1)
    await gated.start("unlucky", "a")
    await eventually(lambda: gated.running == 1)
    await gated.send("a", EventRaised(timestamp=gated.now(), name="go"))
    assert (await gated.end("a")).runtime_status is S.Failed
    gated.gate.set()
    await gated.start("one", "b")
    assert (await gated.end("b")).output == "1"
    assert gated.ran == 2
