"""asyncio inside `async def` orchestrators: its own tools work and replay; whatever reaches outside raises."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import os
import subprocess
import sys
import textwrap
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from engine_hub import EPOCH, Hub, Status, play, seconds

from durable_ext.engine import coroutines, loop
from durable_ext.errors import ActivityFailedError
from durable_ext.history import TimerCreated, TimerFired

SLOW = {"activities": {"slow": lambda value: value}, "durations": {"slow": 10}}


def passed(context: Any) -> float:
    """Seconds since the beginning, on the orchestrator's clock."""
    return float((context.current_utc_datetime - EPOCH).total_seconds())


def check(orchestrator: Any, expected: Any, **about: Any) -> Any:
    """Play warm and cold, one event to a turn and all in one: the same output each time."""
    for cold in (False, True):
        for merge in (False, True):
            instance = play(orchestrator, cold=cold, merge=merge, **about)
            assert instance.status is Status.Completed, instance.output
            assert instance.output == expected
    return instance


def test_gather_keeps_the_order_of_its_arguments() -> None:
    async def orchestrator(context: Any) -> Any:
        return await asyncio.gather(*(context.call_activity(name, name) for name in ("slow", "echo", "slow")))

    check(orchestrator, ["slow", "echo", "slow"], **SLOW)


def test_gather_runs_coroutines_side_by_side() -> None:
    async def step(context: Any, number: int) -> Any:
        first = await context.call_activity("slow", number)
        return first + await context.call_activity("slow", 10)

    async def orchestrator(context: Any) -> Any:
        return [await asyncio.gather(*(step(context, n) for n in range(3))), passed(context)]

    check(orchestrator, [[10, 11, 12], 20], **SLOW)


def test_gather_raises_the_first_failure_and_the_others_go_on() -> None:
    async def orchestrator(context: Any) -> Any:
        slow = context.call_activity("slow", 1)
        try:
            await asyncio.gather(slow, context.call_activity("boom", 2))
        except ActivityFailedError as error:
            return [error.message, slow.done(), await slow]

    check(orchestrator, ["boom 2", False, 1], **SLOW)


def test_gather_can_return_the_errors() -> None:
    async def orchestrator(context: Any) -> Any:
        found = await asyncio.gather(
            context.call_activity("boom", 1), context.call_activity("echo", 2), return_exceptions=True
        )
        return [type(found[0]).__name__, found[1]]

    check(orchestrator, ["ActivityFailedError", 2])


def test_wait_tells_done_and_pending() -> None:
    async def orchestrator(context: Any) -> Any:
        tasks = [asyncio.ensure_future(context.call_activity(name, name)) for name in ("slow", "echo")]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        rest, none = await asyncio.wait(pending)
        return [[each.result() for each in done], [each.result() for each in rest], len(none)]

    check(orchestrator, [["echo"], ["slow"], 0], **SLOW)


def test_wait_with_a_timeout_leaves_the_rest_pending() -> None:
    async def orchestrator(context: Any) -> Any:
        call = context.call_activity("slow", 1)
        done, pending = await asyncio.wait([call], timeout=4)
        return [len(done), len(pending), passed(context), await call]

    check(orchestrator, [0, 1, 4, 1], **SLOW)


def test_wait_for_in_time_leaves_no_timer_behind() -> None:
    async def orchestrator(context: Any) -> Any:
        value = await asyncio.wait_for(context.call_activity("slow", 1), 60)
        await asyncio.sleep(600)
        return value

    instance = check(orchestrator, 1, **SLOW)
    assert len(instance.recorded(TimerCreated)) == 2
    assert len(instance.recorded(TimerFired)) == 1


def test_wait_for_too_long_raises_timeout_error() -> None:
    async def orchestrator(context: Any) -> Any:
        try:
            await asyncio.wait_for(context.call_activity("slow", 1), 4)
        except TimeoutError:
            return passed(context)

    check(orchestrator, 4, **SLOW)


def test_wait_for_an_external_event() -> None:
    async def orchestrator(context: Any) -> Any:
        read = []
        for _ in range(3):
            try:
                read.append(await asyncio.wait_for(context.wait_for_external_event("n"), 5))
            except TimeoutError:
                read.append("late")
        return read

    check(orchestrator, [1, "late", 2], events=[(1, "n", 1), (8, "n", 2)])


def test_timeout_blocks() -> None:
    async def orchestrator(context: Any) -> Any:
        try:
            async with asyncio.timeout(4) as scope:
                await context.call_activity("slow", 1)
        except TimeoutError:
            return [scope.expired(), passed(context)]

    check(orchestrator, [True, 4], **SLOW)


def test_timeouts_can_be_moved() -> None:
    async def orchestrator(context: Any) -> Any:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(4) as scope:
                scope.reschedule(loop.time() + 7)
                await context.wait_for_external_event("n")
        except TimeoutError:
            return passed(context)

    check(orchestrator, 7)


def test_a_task_group_waits_for_all() -> None:
    async def step(context: Any, number: int) -> Any:
        return await context.call_activity("slow", number)

    async def orchestrator(context: Any) -> Any:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(step(context, n)) for n in range(3)]
        return [task.result() for task in tasks]

    check(orchestrator, [0, 1, 2], **SLOW)


def test_a_task_group_cancels_the_others_of_a_failure_and_raises_a_group() -> None:
    async def step(context: Any, name: str) -> Any:
        await context.call_activity(name, 1)

    async def orchestrator(context: Any) -> Any:
        try:
            async with asyncio.TaskGroup() as group:
                slow = group.create_task(step(context, "slow"))
                group.create_task(step(context, "boom"))
        except* ActivityFailedError as errors:
            found = [error.message for error in errors.exceptions]
        return [found, slow.cancelled()]

    check(orchestrator, [["boom 1"], True], **SLOW)


def test_sleep_is_a_durable_timer() -> None:
    async def orchestrator(context: Any) -> Any:
        result = await asyncio.sleep(3600, "slept")
        await asyncio.sleep(0)
        await asyncio.sleep(-1)
        return [result, passed(context)]

    instance = check(orchestrator, ["slept", 3600])
    assert seconds(instance) == [3600]


def test_a_sleep_without_end_sets_no_timer() -> None:
    async def orchestrator(context: Any) -> Any:
        sleeper = asyncio.create_task(asyncio.sleep(math.inf))
        async with asyncio.timeout(math.inf):
            await context.call_activity("slow", 1)
        sleeper.cancel()
        await asyncio.wait([sleeper])
        return [sleeper.cancelled(), passed(context)]

    instance = check(orchestrator, [True, 10], **SLOW)
    assert not instance.recorded(TimerCreated)


def test_a_sleep_past_the_last_day_there_is_says_so() -> None:
    async def orchestrator(context: Any) -> Any:
        await asyncio.sleep(1e18)

    instance = play(orchestrator)
    assert instance.failure.error_type == "OverflowError"
    assert "a timer of 1e+18 seconds is due past the last day there is" in instance.output


def test_loop_timers_are_durable_and_can_be_cancelled() -> None:
    async def orchestrator(context: Any) -> Any:
        loop, said = asyncio.get_running_loop(), []
        began = loop.time()
        loop.call_later(5, said.append, "later")
        loop.call_at(began + 3, said.append, "at")
        loop.call_soon(said.append, "soon")
        loop.call_later(4, said.append, "never").cancel()
        await asyncio.sleep(9)
        return [said, loop.time() - began]

    instance = check(orchestrator, [["soon", "at", "later"], 9])
    assert len(instance.recorded(TimerCreated)) == 3


def test_cancelling_a_sleep_cancels_its_timer() -> None:
    async def orchestrator(context: Any) -> Any:
        task = asyncio.create_task(asyncio.sleep(3600))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return passed(context)

    instance = check(orchestrator, 1)
    assert [event.timer_id for event in instance.recorded(TimerFired)] == [0]


def test_cancelling_a_durable_timer_through_asyncio_cancels_it() -> None:
    async def orchestrator(context: Any) -> Any:
        timer = context.create_timer(timedelta(hours=1))
        try:
            await asyncio.wait_for(timer, 1)
        except TimeoutError:
            return [timer.is_cancelled, timer.cancelled(), timer.cancel()]

    check(orchestrator, [True, True, False])


def test_events_queues_and_locks() -> None:
    async def worker(context: Any, queue: Any, lock: Any, said: list[Any]) -> None:
        while (item := await queue.get()) is not None:
            async with lock:
                said.append(await context.call_activity("slow", item))

    async def orchestrator(context: Any) -> Any:
        queue: asyncio.Queue[Any] = asyncio.Queue(maxsize=2)
        lock, ready, said = asyncio.Lock(), asyncio.Event(), []
        workers = [asyncio.create_task(worker(context, queue, lock, said)) for _ in range(2)]
        asyncio.get_running_loop().call_later(5, ready.set)
        await ready.wait()
        for item in [1, 2, 3, None, None]:
            await queue.put(item)
        await asyncio.gather(*workers)
        return [said, passed(context)]

    check(orchestrator, [[1, 2, 3], 35], **SLOW)


def test_semaphores_conditions_and_barriers() -> None:
    async def step(context: Any, limit: Any, number: int) -> Any:
        async with limit:
            return await context.call_activity("slow", number)

    async def orchestrator(context: Any) -> Any:
        limit = asyncio.BoundedSemaphore(2)
        results = await asyncio.gather(*(step(context, limit, n) for n in range(4)))
        barrier = asyncio.Barrier(2)
        await asyncio.gather(barrier.wait(), barrier.wait())
        return [results, passed(context)]

    check(orchestrator, [[0, 1, 2, 3], 20], **SLOW)


def test_as_completed_gives_results_as_they_come() -> None:
    async def orchestrator(context: Any) -> Any:
        calls = [context.call_activity(name, name) for name in ("slow", "echo")]
        return [await each for each in asyncio.as_completed(calls)]

    check(orchestrator, ["echo", "slow"], **SLOW)


def test_shield_keeps_what_it_covers() -> None:
    async def orchestrator(context: Any) -> Any:
        call = context.call_activity("slow", 1)
        try:
            await asyncio.wait_for(asyncio.shield(call), 4)
        except TimeoutError:
            return [call.cancelled(), await call]

    check(orchestrator, [False, 1], **SLOW)


def test_async_generators_comprehensions_and_context_managers() -> None:
    async def numbers(context: Any) -> Any:
        for number in range(3):
            yield await context.call_activity("echo", number)

    async def orchestrator(context: Any) -> Any:
        found = [number async for number in numbers(context)]
        return [found, await anext(numbers(context))]

    check(orchestrator, [[0, 1, 2], 0])


def test_asyncio_and_context_combinators_mix() -> None:
    async def step(context: Any) -> Any:
        return await context.call_activity("echo", "step")

    async def orchestrator(context: Any) -> Any:
        first = await context.task_any([step(context), context.call_activity("slow", 1)])
        both = await context.task_all([step(context), context.create_timer(timedelta(seconds=1))])
        return [first.result(), both]

    check(orchestrator, ["step", ["step", None]], **SLOW)


def test_a_cancelled_member_fails_task_all() -> None:
    async def orchestrator(context: Any) -> Any:
        call = context.call_activity("slow", 1)
        joined = context.task_all([call, context.call_activity("echo", 2)])
        call.cancel()
        try:
            await joined
        except asyncio.CancelledError:
            return "cancelled"

    check(orchestrator, "cancelled", **SLOW)


def test_background_tasks_do_not_hold_the_end_open() -> None:
    async def background(context: Any) -> None:
        await asyncio.sleep(10_000)

    async def orchestrator(context: Any) -> Any:
        task = asyncio.create_task(background(context))
        return [await context.call_activity("echo", "done"), task.done()]

    instance = check(orchestrator, ["done", False])
    assert len(instance.turns) == 2


def test_code_that_cancels_itself_fails() -> None:
    async def orchestrator(context: Any) -> Any:
        asyncio.current_task().cancel()  # type: ignore[union-attr]
        await context.call_activity("echo")

    instance = play(orchestrator)
    assert instance.status is Status.Failed
    assert instance.failure.error_type == "CancelledError"


def test_task_names_and_the_current_task_are_the_instances_own() -> None:
    async def named() -> Any:
        return asyncio.current_task().get_name()  # type: ignore[union-attr]

    async def orchestrator(context: Any) -> Any:
        return [await named(), await asyncio.create_task(named()), await asyncio.create_task(named(), name="mine")]

    check(orchestrator, ["Task-1", "Task-2", "mine"])


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="empty")


async def test_context_variables_start_empty_and_do_not_leak() -> None:
    VARIABLE.set("the host's")

    async def orchestrator(context: Any) -> Any:
        before = VARIABLE.get()
        VARIABLE.set("the orchestrator's")
        await context.call_activity("echo")
        return [before, VARIABLE.get()]

    check(orchestrator, ["empty", "the orchestrator's"])
    assert VARIABLE.get() == "the host's"


async def test_the_hosts_loop_and_task_are_untouched() -> None:
    async def orchestrator(context: Any) -> Any:
        await asyncio.sleep(1)

    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    hooks = sys.get_asyncgen_hooks()
    play(orchestrator)
    assert asyncio.get_running_loop() is loop
    assert asyncio.current_task() is task
    assert sys.get_asyncgen_hooks() == hooks
    await asyncio.sleep(0)


async def test_the_hosts_task_is_not_current_while_an_orchestrator_runs(form: Any) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    seen: list[Any] = []

    def orchestrator(context: Any) -> Any:
        seen.append(asyncio.current_task(loop))
        yield context.call_activity("echo")
        seen.append(asyncio.current_task(loop))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play(form(orchestrator))
    assert seen == [None, None, None]  # begun, replayed by the hub's check, gone on
    assert asyncio.current_task() is task


def test_orchestrators_can_play_in_several_threads_at_once() -> None:
    async def orchestrator(context: Any) -> Any:
        return await asyncio.gather(*(context.call_activity("echo", n) for n in range(50)))

    outputs: list[Any] = []
    threads = [threading.Thread(target=lambda: outputs.append(play(orchestrator).output)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == [list(range(50))] * 4


def test_a_loop_that_never_waits_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async def orchestrator(context: Any) -> Any:
        while True:
            await asyncio.sleep(0)

    monkeypatch.setattr(coroutines, "_MAX_CALLBACKS", 1000)
    instance = play(orchestrator)
    assert instance.status is Status.Failed
    assert "a loop around asyncio.sleep(0)?" in instance.output
    instance.session.close()


# --- sets --------------------------------------------------------------------------------------------

SETS = """
    import asyncio, sys
    sys.path.insert(0, {here!r})
    from engine_hub import play

    async def step(context, number):
        return await context.call_activity("echo", number)

    async def orchestrator(context):
        calls = {{context.call_activity("echo", n) for n in range(20)}}
        tasks = {{asyncio.create_task(step(context, n)) for n in range(20)}}
        loop = asyncio.get_running_loop()
        plain = {{loop.create_future(): n for n in range(5)}}
        ordered = [await each for each in calls] + [await each for each in tasks]
        done, _ = await asyncio.wait([context.call_activity("echo", n) for n in range(20)])
        return ordered + [each.result() for each in done] + [plain[each] for each in set(plain)]

    print(play(orchestrator).output)
"""


def test_sets_of_futures_iterate_alike_in_every_process() -> None:
    script = textwrap.dedent(SETS).format(here=str(Path(__file__).parent))
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    (output,) = outputs
    assert output.count(",") == 64


def test_hashes_differ_between_instances() -> None:
    hashes: dict[str, list[int]] = {}

    async def orchestrator(context: Any) -> Any:
        hashes[context.instance_id] = [hash(context.call_activity("echo", n)) for n in range(100)]

    hub = Hub(activities={"echo": str}, check=False)
    for name in ("a", "b"):
        hub.start(orchestrator, instance_id=name)
    hub.run()
    assert len({*hashes["a"], *hashes["b"]}) == 200


@pytest.mark.parametrize("activity", ["boom", "echo"])
@pytest.mark.parametrize("in_task", [False, True])
def test_a_loop_around_a_call_that_has_its_outcome_fails_the_instance_and_names_the_line(
    activity: str, in_task: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "MAX_AWAITS", 1_000)
    monkeypatch.setattr(coroutines, "MAX_AWAITS", 1_000)

    async def spin(context: Any) -> None:
        task = context.call_activity(activity)
        while True:
            with contextlib.suppress(Exception):
                await task

    async def orchestrator(context: Any) -> None:
        await (asyncio.create_task(spin(context)) if in_task else spin(context))

    instance = play(orchestrator, check=False)
    instance.session.close()
    assert instance.status is Status.Failed
    assert instance.failure.error_type == "OrchestratorCodeError"
    line = spin.__code__.co_firstlineno + 4
    assert f"awaited 1,000 times in a row ({Path(__file__).name}:{line})" in instance.output


async def many_awaits(context: Any) -> int:
    calls = [context.call_activity("echo", n) for n in range(900)]
    await asyncio.gather(*calls)
    return sum([await call for call in calls])


def test_many_awaits_of_calls_that_have_their_outcomes_are_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "MAX_AWAITS", 1_000)
    assert play(many_awaits, check=False).output == sum(range(900))
