from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable_ext.errors import StoreError, VersionConflictError
from durable_ext.history import (
    EventRaised,
    ExecutionRewound,
    ExecutionStarted,
    ExecutionTerminated,
    HistoryEvent,
    OrchestrationRuntimeStatus,
    TaskCompleted,
    TaskFailed,
)
from durable_ext.registry import Activity
from durable_ext.retry import RetryPolicy
from durable_ext.runtime import program, turns
from durable_ext.storage.contract import Commit, Delivery, Store

S = OrchestrationRuntimeStatus
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


@dataclass
class Order:
    size: int


class Wrapped:
    """A store with some of its methods replaced."""

    def __init__(self, store: Store, **replaced: Any) -> None:
        self._store = store
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def raised(name: str, value: str | None = None) -> EventRaised:
    return EventRaised(timestamp=datetime.now(UTC), name=name, input=value)


@pytest.fixture
def hello(app: Any) -> Any:
    @app.activity
    async def greet(name: str) -> str:
        return f"Hello {name}!"

    @app.activity
    def shout(name: str) -> str:
        return name.upper()

    @app.orchestrator
    def chain(context: Any) -> Any:
        first = yield context.call_activity("greet", context.get_input())
        second = yield context.call_activity("shout", first)
        return second

    @app.orchestrator
    def fan(context: Any) -> Any:
        results = yield context.task_all([context.call_activity("greet", str(n)) for n in range(context.get_input())])
        return len(set(results))

    @app.orchestrator
    def wait(context: Any) -> Any:
        first = yield context.wait_for_external_event("go")
        second = yield context.wait_for_external_event("go")
        return [first, second]

    return app


async def test_a_chain_of_async_and_sync_activities_completes(hello: Any) -> None:
    await hello.work()
    await hello.start("chain", "a", '"Tokyo"')
    record = await hello.end("a")
    assert (record.runtime_status, record.output) == (S.Completed, '"HELLO TOKYO!"')


async def test_a_fan_out_beyond_the_slots_completes_in_few_turns(hello: Any) -> None:
    await hello.work(max_concurrent_activity_functions=50)
    await hello.start("fan", "a", "300")
    assert (await hello.end("a")).output == "300"
    history = await hello.store.read_history("a")
    turns = sum(type(each).__name__ == "OrchestratorStarted" for each in history)
    assert turns < 60
    outcomes = [each.task_scheduled_id for each in history if isinstance(each, TaskCompleted)]
    assert sorted(outcomes) == list(range(300))


async def test_many_instances_complete_with_few_slots(hello: Any) -> None:
    await hello.work(max_concurrent_activity_functions=1, max_concurrent_orchestrator_functions=1)
    for number in range(30):
        await hello.start("chain", f"i{number}", '"x"')
    for number in range(30):
        assert (await hello.end(f"i{number}")).output == '"HELLO X!"'


async def test_instances_beyond_the_warm_limit_are_reloaded(hello: Any) -> None:
    worker = await hello.work(warm_instances=2)
    for number in range(10):
        await hello.start("wait", f"i{number}")
    for payload in ("1", "2"):
        for number in range(10):
            await hello.until(f"i{number}", lambda record: record.runtime_status is S.Running)
            await hello.send(f"i{number}", raised("go", payload))
    for number in range(10):
        assert (await hello.end(f"i{number}")).output == "[1,2]"
    assert len(worker._instances) <= 2


async def test_an_unregistered_orchestrator_fails_readably(hello: Any) -> None:
    await hello.work()
    await hello.start("missing", "a")
    record = await hello.end("a")
    assert record.runtime_status is S.Failed
    assert "The function 'missing' doesn't exist" in record.output


async def test_an_unregistered_activity_fails_the_call(hello: Any) -> None:
    @hello.orchestrator
    def typo(context: Any) -> Any:
        yield context.call_activity("gret")

    await hello.work()
    await hello.start("typo", "a")
    assert "The function 'gret' doesn't exist" in (await hello.end("a")).output


@pytest.fixture
def patient(app: Any) -> Any:
    """An app whose orchestrators try what fails again after a day."""
    policy = RetryPolicy(first_retry_interval=timedelta(days=1), max_number_of_attempts=10)

    @app.orchestrator
    def calls(context: Any) -> Any:
        yield context.call_activity(context.get_input(), "text", retry_policy=policy)

    @app.orchestrator
    def starts(context: Any) -> Any:
        yield context.call_sub_orchestrator(context.get_input(), "text", retry_policy=policy)

    def sized(order: Order) -> int:
        return order.size

    app.registry.activities.add(Activity(name="sized", function=sized, input_name="order", input_type=Order))

    @app.activity
    def charge(order: Any) -> object:
        return object()

    @app.orchestrator
    def unstorable(context: Any) -> Any:
        return object()
        yield

    @app.orchestrator
    def through(context: Any) -> Any:
        yield context.call_activity("charge", 1)

    return app


@pytest.mark.parametrize(
    ("orchestrator", "callee"),
    [
        ("calls", "typde"),
        ("calls", "sized"),
        ("calls", "charge"),
        ("starts", "nobody"),
        ("starts", "unstorable"),
        ("starts", "through"),
    ],
)
async def test_what_can_only_fail_again_is_not_tried_again(
    patient: Any, caplog: pytest.LogCaptureFixture, orchestrator: str, callee: str
) -> None:
    await patient.work()
    await patient.start(orchestrator, "a", f'"{callee}"')
    record = await patient.end("a")
    assert record.runtime_status is S.Failed
    told = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert any(f"'{callee}'" in each for each in told)
    assert any(f"orchestrator '{orchestrator}' failed: instance a" in each for each in told)


async def test_the_log_shows_where_user_code_failed_once(app: Any, caplog: pytest.LogCaptureFixture) -> None:
    @app.activity
    def charge(amount: Any) -> Any:
        raise ValueError("no card")

    @app.orchestrator
    def order(context: Any) -> Any:
        yield context.call_activity("charge", 1)

    await app.work()
    await app.start("order", "a")
    await app.end("a")
    errors = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert [text.partition(": ")[0] for text in errors] == [
        "activity 'charge' of a failed",
        "orchestrator 'order' failed",
    ]
    for text, line in zip(
        errors, ('raise ValueError("no card")', 'yield context.call_activity("charge", 1)'), strict=True
    ):
        assert text.count(line) == 1
        assert "durable_ext/" not in text


async def test_a_line_of_the_log_is_not_as_long_as_the_text_of_an_error(
    app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    @app.orchestrator
    def verbose(context: Any) -> Any:
        raise ValueError("x" * 1_000_000)
        yield

    @app.orchestrator
    def wait(context: Any) -> Any:
        yield context.wait_for_external_event("never")

    caplog.set_level(logging.INFO, "durable_ext")
    await app.work()
    await app.start("verbose", "a")
    await app.end("a")
    await app.start("wait", "b")
    stop = ExecutionTerminated(timestamp=datetime.now(UTC), reason="y" * 1_000_000)
    await app.send("b", stop)
    await app.end("b")
    assert "characters left out" in caplog.text
    assert max(len(each.getMessage()) for each in caplog.records) < 3_000


async def test_a_child_on_a_live_id_fails_in_its_parent(hello: Any) -> None:
    @hello.orchestrator
    def parent(context: Any) -> Any:
        try:
            yield context.call_sub_orchestrator("chain", "x", instance_id="taken")
        except Exception as error:
            return str(error)

    await hello.work()
    await hello.start("wait", "taken")
    await hello.until("taken", lambda record: record.runtime_status is S.Running)
    await hello.start("parent", "a")
    assert "'taken'" in (await hello.end("a")).output
    assert (await hello.store.get_instance("taken")).runtime_status is S.Running


async def test_a_rewound_instance_runs_what_failed_again_children_included(hello: Any) -> None:
    is_up = False

    @hello.activity
    async def flaky(value: Any) -> str:
        if not is_up:
            raise OSError("down")
        return "up"

    @hello.orchestrator
    def child(context: Any) -> Any:
        result = yield context.call_activity("flaky")
        return result

    @hello.orchestrator
    def parent(context: Any) -> Any:
        greeting = yield context.call_activity("greet", "x")
        result = yield context.call_sub_orchestrator("child")
        event = yield context.wait_for_external_event("go")
        return [greeting, result, event]

    await hello.work()
    await hello.start("parent", "a")
    assert (await hello.end("a")).runtime_status is S.Failed
    is_up = True
    await hello.send("a", ExecutionRewound(timestamp=datetime.now(UTC)), accepted=frozenset({S.Failed}))
    await hello.send("a", raised("go", "1"), accepted=frozenset(S))  # right behind it, perhaps in the same batch
    record = await hello.until("a", lambda record: record.runtime_status is S.Completed)
    assert record.output == '["Hello x!","up",1]'


async def test_a_live_instance_replaced_by_a_client_begins_anew(hello: Any) -> None:
    await hello.work()
    await hello.start("wait", "a")
    await hello.until("a", lambda record: record.runtime_status is S.Running)
    await hello.start("chain", "a", '"x"', overridable=frozenset(S))
    assert (await hello.end("a")).output == '"HELLO X!"'


async def test_a_finished_id_can_be_started_again(hello: Any) -> None:
    await hello.work()
    for name in ("x", "y"):
        await hello.start("chain", "a", f'"{name}"')
        await hello.until("a", lambda record, name=name: record.output == f'"HELLO {name.upper()}!"')
    starts = [each for each in await hello.store.read_history("a") if isinstance(each, ExecutionStarted)]
    assert len(starts) == 1


async def test_an_event_that_slips_through_to_a_finished_instance_is_dropped_with_a_warning(
    hello: Any, caplog: pytest.LogCaptureFixture, eventually: Eventually
) -> None:
    await hello.work()
    await hello.start("chain", "a", '"x"')
    await hello.end("a")
    await hello.send("a", raised("go"), accepted=frozenset(S))
    await eventually(lambda: "dropped" in caplog.text)
    assert "EventRaised 'go' dropped: instance a (chain): the instance has ended" in caplog.text


async def test_a_turn_that_blocks_the_loop_is_named(
    hello: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    moments = iter(range(0, 1000, 3))
    monkeypatch.setattr(turns, "perf_counter", lambda: next(moments))
    await hello.work()
    await hello.start("chain", "a", '"x"')
    await hello.end("a")
    assert "a turn of orchestrator 'chain' (instance a) held up the event loop for 3.0 s" in caplog.text


async def test_an_engine_that_breaks_down_fails_the_instance_and_not_the_worker(
    hello: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(program.OrchestrationSession):
        def advance(self, now: datetime, inbox: Sequence[HistoryEvent]) -> Any:
            if isinstance(inbox[0], ExecutionStarted) and inbox[0].instance_id == "bad":
                raise SystemExit(1)
            return super().advance(now, inbox)

    monkeypatch.setattr(program, "OrchestrationSession", Broken)
    await hello.work()
    await hello.start("chain", "bad", '"x"')
    await hello.start("chain", "good", '"x"')
    assert (await hello.end("good")).output == '"HELLO X!"'
    record = await hello.end("bad")
    assert (record.runtime_status, record.output) == (S.Failed, "Orchestrator function 'chain' failed: SystemExit: 1")
    assert caplog.text.count("a turn of bad broke down") == 3


async def test_an_orchestrator_that_raises_a_keyboard_interrupt_fails_and_the_worker_goes_on(hello: Any) -> None:
    @hello.orchestrator
    def interrupts(context: Any) -> Any:
        raise KeyboardInterrupt("odd")
        yield

    await hello.work()
    await hello.start("interrupts", "bad")
    await hello.start("chain", "good", '"x"')
    assert (await hello.end("good")).output == '"HELLO X!"'
    record = await hello.end("bad")
    assert record.runtime_status is S.Failed
    assert "KeyboardInterrupt: odd" in record.output


@pytest.mark.parametrize("kind", [GeneratorExit, KeyboardInterrupt, SystemExit, BaseException])
async def test_whatever_an_async_activity_raises_fails_its_call_and_its_siblings_run(
    hello: Any, kind: type[BaseException]
) -> None:
    @hello.activity
    async def odd(after: float) -> None:
        await asyncio.sleep(after)
        raise kind("odd")

    @hello.activity
    async def odd_at_once(value: None) -> None:
        raise kind("odd")

    @hello.orchestrator
    def siblings(context: Any) -> Any:
        tasks = [context.call_activity("odd_at_once"), context.call_activity("odd", 0)]
        tasks.append(context.call_activity("greet", "x"))
        said = []
        for task in tasks:
            try:
                said.append((yield task))
            except Exception as error:
                said.append(kind.__name__ in str(error))
        return said

    await hello.work()
    await hello.start("siblings", "a")
    assert (await hello.end("a")).output == '[true,true,"Hello x!"]'


@pytest.mark.parametrize("raises", [True, False])
async def test_what_an_activity_makes_of_the_end_of_its_event_loop_is_no_outcome(
    hello: Any, eventually: Eventually, raises: bool
) -> None:
    completed: list[Any] = []
    running: list[str] = []

    async def complete_work(item: Any, outcome: Any) -> None:
        completed.append(outcome)

    async def commit(commit: Commit) -> Any:
        completed.extend(each for each in commit.events if isinstance(each, TaskCompleted | TaskFailed))
        return await hello.store.commit(commit)

    @hello.activity
    async def fetch(value: None) -> None:
        running.append("fetch")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            if raises:
                raise RuntimeError("request aborted") from error

    @hello.orchestrator
    def fetches(context: Any) -> Any:
        yield context.call_activity("fetch")

    await hello.work(Wrapped(hello.store, commit=commit, complete_work=complete_work))
    await hello.start("fetches", "a")
    await eventually(lambda: bool(running))
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await hello.leave()
    assert completed == []


async def test_a_lost_version_check_is_tried_again_on_what_is_committed(hello: Any) -> None:
    refusals = 3

    async def commit(commit: Commit) -> Any:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise VersionConflictError(commit.instance_id)
        return await hello.store.commit(commit)

    await hello.work(Wrapped(hello.store, commit=commit))
    await hello.start("chain", "a", '"x"')
    assert (await hello.end("a")).output == '"HELLO X!"'
    assert refusals == 0


async def test_an_instance_that_keeps_moving_is_left_to_whoever_moves_it(hello: Any, eventually: Eventually) -> None:
    given_back: list[float] = []

    async def commit(commit: Commit) -> Any:
        raise VersionConflictError(commit.instance_id)

    async def give_back(deliveries: Sequence[Delivery], delay: float) -> None:
        given_back.append(delay)

    await hello.work(Wrapped(hello.store, commit=commit, give_back=give_back))
    await hello.start("chain", "a", '"x"')
    await eventually(lambda: bool(given_back))
    assert given_back == [1.0]
    assert len(hello.worker._instances) == 0


@pytest.mark.parametrize("call", ["begin", "commit", "receive", "receive_work"])
@pytest.mark.parametrize("error", [StoreError("disk full"), OSError("gone")])
async def test_a_store_that_fails_for_a_while_loses_nothing(
    hello: Any, call: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    failures = 2

    async def failing(*args: Any) -> Any:
        nonlocal failures
        if failures:
            failures -= 1
            raise error
        return await getattr(hello.store, call)(*args)

    await hello.work(Wrapped(hello.store, **{call: failing}), max_concurrent_activity_functions=2)
    await hello.start("fan", "a", "10")
    assert (await hello.end("a")).output == "10"
    assert failures == 0
    assert str(error) in caplog.text


async def test_events_keep_their_order_through_a_failing_store(hello: Any) -> None:
    failures = 2

    async def commit(commit: Commit) -> Any:
        nonlocal failures
        if any(isinstance(each, EventRaised) for each in commit.events) and failures:
            failures -= 1
            raise StoreError("busy")
        return await hello.store.commit(commit)

    await hello.work(Wrapped(hello.store, commit=commit))
    await hello.start("wait", "a")
    await hello.until("a", lambda record: record.runtime_status is S.Running)
    await hello.send("a", raised("go", "1"))
    await hello.send("a", raised("go", "2"))
    assert (await hello.end("a")).output == "[1,2]"


async def test_a_turn_that_cannot_be_stored_fails_its_instance_readably(
    hello: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def commit(commit: Commit) -> Any:
        if any(isinstance(each, TaskCompleted) for each in commit.events):
            raise ValueError("a value that cannot be encoded")
        return await hello.store.commit(commit)

    await hello.work(Wrapped(hello.store, commit=commit))
    await hello.start("chain", "a", '"x"')
    await hello.start("chain", "b", '"x"')
    record = await hello.end("a")
    assert record.runtime_status is S.Failed
    assert "a value that cannot be encoded" in record.output
    await hello.end("b")
    (letter, _) = await hello.store.list_dead_letters()
    assert letter.kind == "orchestrator"
    assert "Hello x!" in letter.payload


async def test_stop_stores_what_has_ended_and_gives_back_the_rest(hello: Any, eventually: Eventually) -> None:
    running, started = [], asyncio.Event()

    @hello.activity
    async def endless(value: Any) -> str:
        running.append(value)
        if len(running) > 1:
            return "second time"
        started.set()
        await asyncio.Event().wait()
        return "never"

    @hello.activity
    async def quick(value: Any) -> str:
        running_quick.append(1)
        await started.wait()
        return "quick"

    running_quick: list[int] = []

    @hello.orchestrator
    def both(context: Any) -> Any:
        results = yield context.task_all([context.call_activity("quick"), context.call_activity("endless")])
        return results

    first = await hello.work()
    await hello.start("both", "a")
    await started.wait()
    await first.stop(0.05)
    await first.stop(0.05)
    assert (await hello.store.get_instance("a")).runtime_status is S.Running
    history: list[HistoryEvent] = await hello.store.read_history("a")
    assert not any(isinstance(each, TaskFailed) for each in history)
    items = await hello.store.receive_work(10)
    assert [(each.name, each.tries) for each in items] == [("endless", 1)]
    assert len(running_quick) == 1


async def test_stop_without_start_does_nothing(hello: Any) -> None:
    await hello.make_worker().stop(1)


async def test_logs_name_the_instance_once_per_phase(hello: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "durable_ext")
    await hello.work()
    await hello.start("chain", "a", '"x"')
    await hello.end("a")
    assert [each.getMessage() for each in caplog.records if each.name.startswith("durable_ext.runtime")] == [
        "orchestrator 'chain' started: instance a",
        "orchestrator 'chain' completed: instance a",
    ]
