"""Unloading a live orchestrator: its code ends within a bound, and nothing is scheduled by it."""

# ruff: noqa: SIM105, RUF006 - swallowing loops and tasks nobody keeps are what is tested here

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import logging
import weakref
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from time import perf_counter
from typing import Any

import pytest
from engine_hub import NEVER, Hub, Instance, Status


@pytest.fixture(autouse=True)
def bound() -> Iterator[None]:
    """A test that hangs ends the run with a traceback."""
    faulthandler.dump_traceback_later(60, exit=True)
    yield
    gc.collect()
    faulthandler.cancel_dump_traceback_later()


class Watched:
    """What an orchestrator says on its way, and what it schedules."""

    def __init__(self) -> None:
        self.said: list[Any] = []


def evict(orchestrator: Any, watched: Watched | None = None) -> Instance:
    """Play until the orchestrator waits, then unload it; check that nothing was scheduled and it came to a bound."""
    hub = Hub(
        activities={"echo": lambda value: value, "never": lambda value: NEVER, "late": lambda value: value},
        durations={"late": 100},
        check=False,
    )
    instance = hub.start(orchestrator)
    hub.run(until=50)
    assert instance.status is Status.Running
    if watched is not None:
        watched.said.clear()
    execution = instance.session._feeder.execution
    before = (execution.next_id, list(execution.pending), execution.mailbox.unread())
    began = perf_counter()
    instance.session.close()
    assert perf_counter() - began < 5
    assert (execution.next_id, list(execution.pending), execution.mailbox.unread()) == before
    assert all(number < execution.next_id for number in execution.open)
    return instance


def goes_on(instance: Instance) -> Any:
    """Load it again and let it finish."""
    instance.session = instance.replayed()
    instance.hub.run()
    assert instance.status is Status.Completed, instance.output
    return instance.output


def test_a_waiting_orchestrator_goes_on_after_it_was_unloaded(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        return [(yield context.call_activity("echo", 1)), (yield context.call_activity("late", 2))]

    assert goes_on(evict(form(orchestrator))) == [1, 2]


def test_closing_twice_and_closing_what_never_began_is_harmless(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_activity("never")

    instance = evict(form(orchestrator))
    instance.session.close()
    instance.hub.new_session(instance.name).close()
    hub = Hub()
    finished = hub.start(lambda context: 1)
    hub.run()
    finished.session.close()


def test_finally_blocks_run_and_what_they_call_is_not_scheduled(form: Any) -> None:
    watched = Watched()

    def orchestrator(context: Any) -> Any:
        try:
            return (yield context.call_activity("late", 1))
        finally:
            watched.said.append("finally")
            context.call_activity("never")
            watched.said.append("after the call")

    instance = evict(form(orchestrator), watched)
    assert watched.said == ["finally"]  # the call raised
    assert goes_on(instance) == 1


@pytest.mark.parametrize("mode", ["finally", "except", "with"])
def test_leaving_memory_is_not_heard(form: Any, mode: str, caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched()

    def orchestrator(context: Any) -> Any:
        log = context.create_replay_safe_logger(logging.getLogger("orders"))

        def leave() -> None:
            log.info("closed")
            watched.said.append((context.is_replaying, log.isEnabledFor(logging.INFO)))

        match mode:
            case "finally":
                try:
                    yield context.call_activity("late")
                finally:
                    leave()
            case "except":
                try:
                    yield context.call_activity("late")
                    leave()
                except:
                    leave()
                    raise
            case "with":
                with contextlib.ExitStack() as stack:
                    stack.callback(leave)
                    yield context.call_activity("late")

    with caplog.at_level(logging.INFO, "orders"):
        instance = evict(form(orchestrator), watched)
        assert (watched.said, caplog.messages) == ([(True, False)], [])
        goes_on(instance)
    assert watched.said == [(True, False), (False, True)]
    assert caplog.messages == ["closed"]


def test_tasks_left_behind_by_a_generation_are_not_heard_when_it_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    async def left_behind(context: Any) -> None:
        try:
            await context.call_activity("never")
        finally:
            context.create_replay_safe_logger(logging.getLogger("orders")).info("left")
            context.set_custom_status("left")

    async def orchestrator(context: Any) -> Any:
        if context.get_input() is None:
            asyncio.create_task(left_behind(context))
            await asyncio.sleep(1)
            context.set_custom_status("going on")
            context.continue_as_new(1)
        else:
            await context.call_activity("late")

    with caplog.at_level(logging.INFO, "orders"):
        instance = evict(orchestrator)
    assert not caplog.messages
    assert instance.turns[-1].custom_status == '"going on"'


@pytest.mark.parametrize(
    "call",
    [
        lambda context: context.call_activity("never"),
        lambda context: context.call_sub_orchestrator("never"),
        lambda context: context.start_orchestration("never"),
        lambda context: context.send_event("somebody", "news"),
        lambda context: context.create_timer(timedelta(seconds=1)),
        lambda context: context.wait_for_external_event("news"),
        lambda context: context.wait_for_external_event("news", timeout=5),
        lambda context: context.call_activity("never", timeout=5),
    ],
    ids=["activity", "child", "start", "send", "timer", "event", "event with timeout", "activity with timeout"],
)
def test_every_durable_call_of_a_closed_session_is_refused(form: Any, call: Any) -> None:
    watched = Watched()

    def orchestrator(context: Any) -> Any:
        try:
            yield context.call_activity("never")
        finally:
            for _ in range(10):
                try:
                    call(context)
                    watched.said.append("no error")
                except BaseException as error:
                    watched.said.append(type(error).__name__)

    evict(form(orchestrator), watched)
    assert watched.said[:3] == ["Evicted"] * 3
    assert set(watched.said[3:]) == {"no error"}  # so that code which swallows everything gets to its next wait


def swallowing(context: Any) -> Any:
    while True:
        try:
            yield context.call_activity("never")
        except BaseException:
            pass


def swallowing_one_task(context: Any) -> Any:
    task = context.call_activity("never")
    while True:
        try:
            yield task
        except BaseException:
            pass


def waiting_in_finally(context: Any) -> Any:
    try:
        yield context.call_activity("never")
    finally:
        try:
            yield context.call_activity("never")
        finally:
            yield context.create_timer(timedelta(seconds=1))


def many_finallies(context: Any) -> Any:
    def level(depth: int) -> Any:
        try:
            if depth:
                yield from level(depth - 1)
            yield context.call_activity("never")
        finally:
            yield context.call_activity("never")

    yield from level(20)


def raising_on_the_way_out(context: Any) -> Any:
    try:
        yield context.call_activity("never")
    finally:
        raise ValueError("on the way out")


def returning_on_the_way_out(context: Any) -> Any:
    try:
        yield context.call_activity("never")
    except BaseException:
        return "never mind"


def exiting_on_the_way_out(context: Any) -> Any:
    try:
        yield context.call_activity("never")
    finally:
        raise SystemExit(1)


STUBBORN = [
    swallowing,
    swallowing_one_task,
    waiting_in_finally,
    many_finallies,
    raising_on_the_way_out,
    returning_on_the_way_out,
    exiting_on_the_way_out,
]


# The coroutine form holds a generator of its own; what becomes of that is between it and the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("orchestrator", STUBBORN, ids=lambda each: each.__name__)
def test_stubborn_code_is_left_within_a_bound(form: Any, orchestrator: Any) -> None:
    evict(form(orchestrator))


async def swallowing_await(context: Any) -> Any:
    while True:
        try:
            await context.call_activity("never")
        except BaseException:
            pass


async def swallowing_sleep_zero(context: Any) -> Any:
    with contextlib.suppress(BaseException):
        await context.call_activity("never")
    while True:
        try:
            await asyncio.sleep(0)
        except BaseException:
            pass


async def swallowing_sleep(context: Any) -> Any:
    while True:
        try:
            await asyncio.sleep(1000)
        except BaseException:
            pass


async def many_stubborn_tasks(context: Any) -> Any:
    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(swallowing_await(context))
            group.create_task(swallowing_sleep(context))


async def swallowing_in_layers(context: Any) -> Any:
    while True:
        try:
            try:
                try:
                    await asyncio.sleep(1000)
                except BaseException:
                    await asyncio.sleep(1000)
            except BaseException:
                await asyncio.sleep(1000)
            finally:
                await asyncio.sleep(1000)
        except BaseException:
            pass


async def on_one_line(context: Any) -> Any:
    while True:
        with contextlib.suppress(BaseException): await asyncio.sleep(1000)  # fmt: skip  # noqa: E701


async def breeding(context: Any) -> Any:
    async def child() -> None:
        try:
            await context.call_activity("never")
        finally:
            asyncio.create_task(child())

    await asyncio.gather(*(child() for _ in range(3)))


async def awaiting_foreign(context: Any) -> Any:
    class Foreign:
        def __await__(self) -> Any:
            yield self

    while True:
        try:
            await context.call_activity("never")
        except BaseException:
            with contextlib.suppress(BaseException):
                await Foreign()


async def swallowing_wait_for(context: Any) -> Any:
    while True:
        try:
            async with asyncio.timeout(1000):
                await context.wait_for_external_event("never")
        except BaseException:
            pass


async def stubborn_generator(context: Any) -> AsyncIterator[Any]:
    while True:
        try:
            yield await context.call_activity("never")
        except BaseException:
            pass


async def iterating_stubbornly(context: Any) -> Any:
    async for _ in stubborn_generator(context):
        pass


@pytest.mark.parametrize(
    "orchestrator",
    [
        swallowing_await,
        swallowing_sleep_zero,
        swallowing_sleep,
        many_stubborn_tasks,
        swallowing_in_layers,
        on_one_line,
        breeding,
        awaiting_foreign,
        swallowing_wait_for,
        iterating_stubbornly,
    ],
    ids=lambda each: each.__name__,
)
def test_stubborn_coroutines_are_left_within_a_bound(orchestrator: Any) -> None:
    evict(orchestrator)


def test_async_with_and_finally_end_in_order() -> None:
    watched = Watched()

    @contextlib.asynccontextmanager
    async def resource(name: str) -> AsyncIterator[None]:
        watched.said.append(f"open {name}")
        try:
            yield
        finally:
            watched.said.append(f"close {name}")
            await asyncio.sleep(0)
            watched.said.append(f"closed {name}")

    async def orchestrator(context: Any) -> Any:
        async with resource("outer"), resource("inner"):
            await context.call_activity("never")

    evict(orchestrator, watched)
    assert watched.said == ["close inner", "closed inner", "close outer", "closed outer"]


def test_background_tasks_end_too() -> None:
    watched = Watched()

    async def background(name: str) -> None:
        try:
            await asyncio.sleep(10_000)
        except asyncio.CancelledError:
            watched.said.append(name)
            raise

    async def orchestrator(context: Any) -> Any:
        tasks = [asyncio.create_task(background(name)) for name in "ab"]
        await context.call_activity("never")
        return tasks

    evict(orchestrator, watched)
    assert watched.said == ["a", "b"]


def test_open_async_generators_are_closed() -> None:
    watched = Watched()

    async def numbers(context: Any) -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            watched.said.append("closed")

    async def orchestrator(context: Any) -> Any:
        kept = numbers(context)
        async for _ in kept:
            break
        await context.call_activity("never")
        return kept

    evict(orchestrator, watched)
    assert watched.said == ["closed"]


def test_a_task_group_ends_its_children() -> None:
    watched = Watched()

    async def step(context: Any, number: int) -> None:
        try:
            await context.call_activity("never")
        finally:
            watched.said.append(number)

    async def orchestrator(context: Any) -> Any:
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(step(context, number))

    evict(orchestrator, watched)
    assert sorted(watched.said) == [0, 1, 2]


def test_code_on_its_way_out_knows_no_running_loop_but_its_own() -> None:
    loops = []

    async def orchestrator(context: Any) -> Any:
        loops.append(asyncio.get_running_loop())
        try:
            await context.call_activity("never")
        finally:
            loops.append(asyncio.get_running_loop())

    evict(orchestrator)
    assert loops[0] is loops[1]


def test_a_keyboard_interrupt_on_the_way_out_is_for_the_process(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            yield context.call_activity("never")
        finally:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evict(form(orchestrator))


def test_unloading_leaves_nothing_behind_for_the_collector_to_find() -> None:
    async def orchestrator(context: Any) -> Any:
        await asyncio.gather(context.call_activity("never"), asyncio.sleep(1000))

    dropped = weakref.ref(evict(orchestrator).session)
    gc.collect()
    assert dropped() is None


async def step(context: Any, number: int) -> Any:
    return await context.call_activity("late", number)


async def coroutines_in_a_list(context: Any) -> Any:
    steps = [step(context, n) for n in range(3)]
    return [await each for each in steps]


async def coroutines_in_a_loop(context: Any) -> Any:
    total = 0
    for each in [step(context, n) for n in range(3)]:
        total += await each
    return total


async def coroutines_in_keeping(context: Any) -> Any:
    kept: Any = {"later": (step(context, 1), [step(context, 2)])}
    inside = asyncio.create_task(coroutines_in_a_list(context))
    await context.call_activity("late", 0)
    return [await kept["later"][0], await kept["later"][1][0], await inside]


async def coroutines_of_a_finally(context: Any) -> Any:
    last = step(context, 1)
    try:
        await context.call_activity("late", 0)
    finally:
        await last


@pytest.mark.parametrize(
    "orchestrator",
    [coroutines_in_a_list, coroutines_in_a_loop, coroutines_in_keeping, coroutines_of_a_finally],
    ids=lambda each: each.__name__,
)
def test_coroutines_made_first_and_awaited_later_are_no_news_when_they_are_unloaded(
    orchestrator: Any, recwarn: pytest.WarningsRecorder
) -> None:
    instance = evict(orchestrator)
    instance.session = None
    gc.collect()
    assert [str(each.message) for each in recwarn] == []


def test_coroutines_made_first_go_on_after_the_orchestrator_was_unloaded() -> None:
    assert goes_on(evict(coroutines_in_keeping)) == [1, 2, [0, 1, 2]]


def test_an_evicted_loop_of_tight_generators_can_be_unloaded_a_thousand_times() -> None:
    hub = Hub(activities={"never": lambda value: NEVER}, check=False)
    instance = hub.start(waiting_in_finally)
    hub.run()
    for _ in range(1000):
        instance.session.close()
        instance.session = instance.replayed()
    instance.session.close()
