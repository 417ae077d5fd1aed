from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from durable_ext.clock import SystemClock
from durable_ext.codec import JsonCodec
from durable_ext.engine.turn import EngineOptions
from durable_ext.errors import CodecError
from durable_ext.history import TaskCompleted, TaskFailed, encode_event
from durable_ext.messages import WorkItem
from durable_ext.registry import Activity, FunctionTable, Registry
from durable_ext.runtime import calls as module
from durable_ext.runtime.activities import Activities
from durable_ext.runtime.calls import Calls
from durable_ext.runtime.logs import ActivityLogFilter
from durable_ext.runtime.program import Program
from durable_ext.runtime.register import Register
from durable_ext.runtime.threads import Threads

NOW = datetime(2024, 5, 1, tzinfo=UTC)
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


@dataclass
class Order:
    size: int


class Clock(SystemClock):
    """The machine's, but for the date."""

    offset = 0.0

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return super().monotonic() + self.offset


class Bench:
    """Activities with room for two, and what they settled."""

    def __init__(self) -> None:
        self.table: FunctionTable[Activity] = FunctionTable("activity")
        self.settled: list[tuple[WorkItem, TaskCompleted | TaskFailed]] = []
        program = Program(registry=Registry(activities=self.table), codec=JsonCodec(), options=EngineOptions())
        self.clock = Clock()
        self.keeps_slots = False
        self.given_back: list[WorkItem] = []
        register = Register(None)
        self.activities = Activities(
            Calls(program, self.clock, register),
            2,
            self.clock,
            register,
            self.settle,
            self.given_back.extend,
            lambda item: item.name == "diverted",
        )
        self.numbers = 0

    def settle(self, item: WorkItem, outcome: TaskCompleted | TaskFailed) -> bool:
        self.settled.append((item, outcome))
        return self.keeps_slots

    def add(self, function: Callable[..., Any], input_type: Any = None) -> None:
        self.table.add(Activity(name=function.__name__, function=function, input_name="value", input_type=input_type))

    def item(self, name: str, value: str | None = None, instance_id: str = "i") -> WorkItem:
        self.numbers += 1
        return WorkItem(
            instance_id=instance_id,
            execution_id="e",
            task_id=self.numbers,
            name=name,
            orchestrator="o",
            input=value,
        )

    async def outcome(self, function: Callable[..., Any] | str, value: str | None = None, **rest: Any) -> Any:
        if not isinstance(function, str):
            self.add(function, rest.pop("input_type", None))
            function = function.__name__
        item = self.item(function, value, **rest)
        self.activities.start([item])
        async with asyncio.timeout(10):
            await self.activities.until(lambda: self.activities.is_idle)
        ((settled, outcome),) = self.settled
        assert settled is item
        assert outcome.task_scheduled_id == item.task_id
        assert outcome.timestamp == NOW
        return outcome


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.activities.close(0)


async def test_an_async_activity_runs_on_the_loop(bench: Bench) -> None:
    async def work(value: int) -> list[Any]:
        await asyncio.sleep(0)
        return [value + 1, threading.current_thread() is threading.main_thread()]

    assert (await bench.outcome(work, "1")).result == "[2,true]"


async def test_a_sync_activity_runs_in_a_thread_of_its_own_pool(bench: Bench) -> None:
    def work(value: int) -> list[Any]:
        return [value + 1, threading.current_thread().name.startswith("durable-activity")]

    assert (await bench.outcome(work, "1")).result == "[2,true]"


async def test_the_input_is_restored_as_annotated(bench: Bench) -> None:
    async def work(value: Order) -> int:
        return value.size

    assert (await bench.outcome(work, '{"size": 3}', input_type=Order)).result == "3"


async def test_a_failure_reads_as_users_of_durable_functions_know_it(bench: Bench) -> None:
    def work(value: None) -> None:
        raise ValueError("boom")

    failed = await bench.outcome(work)
    assert failed.reason == "Activity function 'work' failed:  ValueError: boom"
    assert json.loads(failed.details)["Message"] == " ValueError: boom"
    assert (failed.failure_details.error_type, failed.failure_details.error_message) == ("ValueError", "boom")


@pytest.mark.parametrize("is_async", [True, False])
async def test_the_traceback_begins_in_user_code(bench: Bench, is_async: bool) -> None:
    async def works(value: None) -> None:
        raise KeyError("gone")

    def work(value: None) -> None:
        raise KeyError("gone")

    failed = await bench.outcome(works if is_async else work)
    trace = failed.failure_details.stack_trace
    assert "test_activities.py" in trace
    assert "activities.py" not in trace.replace("test_activities.py", "")


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit(), BaseException("odd")]
)
async def test_nothing_an_activity_raises_gets_past_it(bench: Bench, error: BaseException, is_async: bool) -> None:
    async def works(value: None) -> None:
        raise error

    def work(value: None) -> None:
        raise error

    failed = await bench.outcome(works if is_async else work)
    assert failed.failure_details.error_type == type(error).__name__


async def test_an_error_whose_text_cannot_be_had_is_still_an_outcome(bench: Bench) -> None:
    class RudeError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    async def work(value: None) -> None:
        raise RudeError

    failed = await bench.outcome(work)
    assert failed.failure_details.error_type == "RudeError"


async def test_an_error_whose_text_is_no_unicode_is_still_an_outcome(bench: Bench) -> None:
    async def work(value: None) -> None:
        raise ValueError("\ud800")

    assert "cannot be stored" in (await bench.outcome(work)).failure_details.error_message


async def test_input_that_does_not_fit_fails_the_activity(bench: Bench) -> None:
    async def work(value: Order) -> None: ...

    assert (await bench.outcome(work, '"text"', input_type=Order)).failure_details.error_type == "CodecError"


async def test_a_result_that_cannot_be_stored_fails_the_activity(bench: Bench) -> None:
    async def work(value: None) -> object:
        return object()

    assert (await bench.outcome(work)).failure_details.error_type == "CodecError"


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("case", ["unknown", "input", "result"])
async def test_what_can_only_fail_again_is_final_and_told_once_in_the_log(
    bench: Bench, caplog: pytest.LogCaptureFixture, case: str, is_async: bool
) -> None:
    runs = []

    async def works(value: Order) -> object:
        return work(value)

    def work(value: Order) -> object:
        runs.append(value)
        return object()

    function = works if is_async else work
    if case == "unknown":
        failed = await bench.outcome("wrok")
    elif case == "input":
        failed = await bench.outcome(function, '"text"', input_type=Order)
    else:
        failed = await bench.outcome(function, '{"size": 1}', input_type=Order)
    assert failed.failure_details.is_non_retriable
    assert len(runs) == (case == "result")
    (told,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert "of i failed, and is not tried again" in told.getMessage()
    assert failed.failure_details.error_type in told.getMessage()


async def test_the_same_errors_from_the_activitys_own_code_may_be_tried_again(bench: Bench) -> None:
    def work(value: None) -> None:
        raise CodecError("of something that is elsewhere by then")

    assert not (await bench.outcome(work)).failure_details.is_non_retriable


async def test_a_failure_names_its_causes_and_each_once(bench: Bench) -> None:
    def work(value: None) -> None:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ValueError("outer") from inner

    failed = await bench.outcome(work)
    assert failed.reason == "Activity function 'work' failed:  ValueError: outer; caused by KeyError: 'inner'"
    assert json.loads(failed.details)["Message"] == " ValueError: outer"


@pytest.mark.parametrize("is_async", [True, False])
async def test_what_the_worker_is_handling_is_no_cause_of_what_an_activity_raises(bench: Bench, is_async: bool) -> None:
    async def works(value: None) -> None:
        raise ValueError("boom")

    def work(value: None) -> None:
        raise ValueError("boom")

    bench.add(works if is_async else work)
    try:
        raise OSError("the store is away")
    except OSError:  # and calls begin meanwhile
        failed = await bench.outcome("works" if is_async else "work")
    assert failed.failure_details.inner_failure is None
    assert "away" not in failed.reason + failed.failure_details.stack_trace


async def test_a_huge_text_is_cut_wherever_a_failure_tells_it(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    def work(value: None) -> None:
        raise ValueError("x" * 1_000_000)

    failed = await bench.outcome(work)
    assert len(encode_event(failed)) < 60_000
    assert "characters left out" in failed.reason


async def test_thousands_of_chained_causes_do_not_hide_the_error(bench: Bench) -> None:
    def work(value: None) -> None:
        error = first = ValueError("the error")
        for number in range(3_000):
            error.__cause__ = KeyError(number)
            error = error.__cause__
        raise first

    failed = await bench.outcome(work)
    assert (failed.failure_details.error_type, failed.failure_details.error_message) == ("ValueError", "the error")


async def test_an_unknown_activity_fails_naming_the_known_ones(bench: Bench) -> None:
    async def work(value: None) -> None: ...

    bench.add(work)
    failed = await bench.outcome("wrok")
    assert failed.reason == (
        "The function 'wrok' doesn't exist, is disabled, or is not an activity function. "
        "Additional info: The following are the known activity functions: 'work'."
    )


async def test_names_are_found_in_any_case(bench: Bench) -> None:
    async def work(value: None) -> int:
        return 1

    bench.add(work)
    assert (await bench.outcome("WORK")).result == "1"


async def test_no_more_run_at_a_time_than_there_are_slots(bench: Bench, eventually: Eventually) -> None:
    gate, running = asyncio.Event(), []

    async def work(value: int) -> None:
        running.append(value)
        await gate.wait()

    bench.add(work)
    assert bench.activities.reserve(1) == 1
    bench.activities.start([bench.item("work", str(number)) for number in range(4)])
    await eventually(lambda: len(running) == 1)
    assert bench.activities.free == 0
    bench.activities.release(1)
    await eventually(lambda: running == [0, 1])
    gate.set()
    await eventually(lambda: running == [0, 1, 2, 3])
    await eventually(lambda: bench.activities.free == 2)


async def test_many_activities_that_end_at_once_do_not_pile_up_on_the_stack(bench: Bench) -> None:
    async def work(value: int) -> int:
        return value

    bench.add(work)
    bench.activities.start([bench.item("work", str(number)) for number in range(sys.getrecursionlimit())])
    await bench.activities.until(lambda: bench.activities.is_idle)
    assert [outcome.result for _, outcome in bench.settled if isinstance(outcome, TaskCompleted)] == [
        str(number) for number in range(sys.getrecursionlimit())
    ]


async def test_asyncio_timeouts_work_in_the_first_step_of_an_activity(bench: Bench) -> None:
    async def work(value: None) -> str:
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            return "late"
        return "never"

    assert (await bench.outcome(work)).result == '"late"'


async def test_log_lines_of_an_activity_carry_its_call(bench: Bench) -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.addFilter(ActivityLogFilter())
    handler.emit = records.append  # type: ignore[method-assign] # the smallest handler there is
    log = logging.getLogger("an.app")
    log.addHandler(handler)

    async def work(value: None) -> None:
        await asyncio.sleep(0)
        log.warning("inside")

    await bench.outcome(work)
    log.warning("outside")
    log.removeHandler(handler)
    inside, outside = (
        (r.instance_id, r.orchestrator, r.activity, r.task_id, r.attempt)  # type: ignore[attr-defined] # the filter's
        for r in records
    )
    assert inside == ("i", "o", "work", 1, 1)
    assert outside == ("", "", "", "", "")


async def test_an_async_activity_that_blocks_the_loop_is_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    moments = iter(range(0, 100, 2))
    monkeypatch.setattr(module, "perf_counter", lambda: next(moments))

    async def work(value: None) -> None: ...

    await bench.outcome(work)
    assert "activity 'work' of i held up the event loop for 2.0 s" in caplog.text


async def test_what_does_not_end_in_time_is_returned_and_has_no_outcome(bench: Bench, eventually: Eventually) -> None:
    release, running = threading.Event(), []

    async def slow(value: None) -> None:
        running.append(1)
        await asyncio.Event().wait()

    def blocked(value: None) -> None:
        running.append(2)
        release.wait(20)

    bench.add(slow)
    bench.add(blocked)
    items = [bench.item("slow"), bench.item("blocked"), bench.item("slow")]
    bench.activities.start(items)
    await eventually(lambda: len(running) == 2)
    unfinished = await bench.activities.close(0)
    release.set()
    assert {each.task_id for each in unfinished} == {1, 2, 3}
    assert bench.settled == []


async def test_nothing_that_a_cancelled_activity_does_on_its_way_out_is_an_outcome(
    bench: Bench, eventually: Eventually
) -> None:
    running = []

    async def work(value: None) -> str:
        running.append(1)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "saved"
        return "never"

    bench.add(work)
    bench.activities.start([bench.item("work")])
    await eventually(lambda: bool(running))
    assert [each.name for each in await bench.activities.close(0)] == ["work"]
    assert bench.settled == []


async def test_an_error_that_an_activity_makes_of_its_cancellation_is_no_outcome(
    bench: Bench, eventually: Eventually
) -> None:
    running = []

    async def work(value: None) -> None:
        running.append(1)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            raise RuntimeError("request aborted") from error

    bench.add(work)
    bench.activities.start([bench.item("work")])
    await eventually(lambda: bool(running))
    assert [each.name for each in await bench.activities.close(0)] == ["work"]
    assert bench.settled == []


async def test_an_outcome_that_a_thread_has_at_the_last_moment_of_a_stop_counts(bench: Bench) -> None:
    def work(value: None) -> str:
        return "done"

    bench.add(work)
    bench.activities._bell_rung = True  # nobody is to tell the loop
    bench.activities.start([bench.item("work")])
    while not bench.activities._finished:
        await asyncio.sleep(0.001)
    assert await bench.activities.close(0) == []
    assert [outcome.result for _, outcome in bench.settled] == ['"done"']  # type: ignore[union-attr]


@pytest.fixture
def stuck(bench: Bench) -> Iterator[threading.Event]:
    """An activity `stuck` that occupies its thread until the event is set."""
    release = threading.Event()

    def stuck(value: None) -> None:
        release.wait(20)

    bench.add(stuck)
    yield release
    release.set()


async def test_a_stuck_thread_gives_its_slot_back_when_nobody_waits_for_it_and_is_named(
    bench: Bench, stuck: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    def work(value: None) -> int:
        return 1

    bench.add(work)
    bench.activities.start([bench.item("stuck", instance_id="a"), bench.item("stuck", instance_id="b")])
    assert bench.activities.free == 0
    bench.activities.start([bench.item("work"), bench.item("work"), bench.item("work")])
    bench.activities.cancel("a", None, "its instance has ended")
    bench.activities.cancel("b", [2], "its timeout has passed")
    async with asyncio.timeout(10):
        await bench.activities.until(lambda: bench.activities.is_idle)
    assert [item.name for item, _ in bench.settled] == ["work"] * 3
    assert "activity 'stuck' of a does not end although its instance has ended" in caplog.text
    assert "activity 'stuck' of b does not end although its timeout has passed" in caplog.text
    stuck.set()


async def test_what_a_stuck_thread_returns_in_the_end_is_not_used(
    bench: Bench, stuck: threading.Event, eventually: Eventually
) -> None:
    bench.activities.start([bench.item("stuck")])
    bench.activities.cancel("i", None, "its instance has ended")
    threads = [each for each in threading.enumerate() if each.name.startswith("durable-activity")]
    stuck.set()
    await eventually(lambda: not any(each.is_alive() for each in threads))
    await asyncio.sleep(0)
    assert bench.settled == []


async def test_only_the_calls_named_are_cancelled_and_those_that_wait_are_forgotten(
    bench: Bench, eventually: Eventually
) -> None:
    begun, cancelled = [], []
    gate = asyncio.Event()

    async def work(value: int) -> int:
        begun.append(value)
        try:
            await gate.wait()
        except asyncio.CancelledError:
            cancelled.append(value)
            raise
        return value

    bench.add(work)
    bench.activities.start([bench.item("work", str(number)) for number in range(1, 6)])
    await eventually(lambda: begun == [1, 2])
    bench.activities.cancel("i", [1, 4], "its timeout has passed")
    gate.set()
    async with asyncio.timeout(10):
        await bench.activities.until(lambda: bench.activities.is_idle)
    assert cancelled == [1]
    assert sorted(outcome.result for _, outcome in bench.settled if isinstance(outcome, TaskCompleted)) == [
        "2",
        "3",
        "5",
    ]


async def test_a_slot_stays_taken_for_what_follows_from_an_outcome(bench: Bench) -> None:
    async def work(value: int) -> int:
        return value

    bench.add(work)
    bench.keeps_slots = True
    bench.activities.start([bench.item("work", "1")])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert bench.activities.free == 1
    bench.keeps_slots = False
    bench.activities.run(bench.item("work", "2"))
    async with asyncio.timeout(10):
        await bench.activities.until(lambda: bench.activities.free == 2)
    assert len(bench.settled) == 2


async def test_what_is_diverted_takes_no_slot(bench: Bench) -> None:
    bench.activities.start([bench.item("diverted") for _ in range(5)])
    assert bench.activities.is_idle
    assert bench.settled == []


async def test_a_shortage_of_threads_fails_no_call_while_one_thread_lives(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(value: int) -> int:
        return value

    bench.add(work)
    allow_threads(monkeypatch, 1)
    bench.activities.start([bench.item("work", str(number)) for number in range(4)])
    async with asyncio.timeout(10):
        await bench.activities.until(lambda: bench.activities.is_idle)
    assert [type(outcome) for _, outcome in bench.settled] == [TaskCompleted] * 4
    assert bench.given_back == []


async def test_without_any_thread_calls_are_given_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(value: int) -> int:
        return value

    bench.add(work)
    allow_threads(monkeypatch, 0)
    bench.activities.start([bench.item("work", "1")])
    assert [each.input for each in bench.given_back] == ["1"]
    assert bench.settled == []
    assert bench.activities.is_idle


def allow_threads(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    started = 0
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        nonlocal started
        if started >= number:
            raise RuntimeError("can't start new thread")
        started += 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)


async def test_what_takes_every_slot_for_long_is_named_once_a_while(
    bench: Bench, stuck: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    bench.activities.start([bench.item("stuck", instance_id="a"), bench.item("stuck", instance_id="b")])
    bench.activities.tell_of_stuck()
    assert caplog.text == ""
    bench.clock.offset = 61
    bench.activities.tell_of_stuck()
    bench.activities.tell_of_stuck()
    assert caplog.text.count("all 2 activity slots are taken, 2 of them by calls older than 60 s") == 1
    assert "'stuck' of a (61 s)" in caplog.text


async def test_threads_do_not_outnumber_their_limit() -> None:
    threads, done = Threads(3), threading.Semaphore(0)
    for _ in range(50):
        threads.submit(done.release)
    for _ in range(50):
        assert done.acquire(timeout=10)
    assert threads._started <= 3
    threads.close()
