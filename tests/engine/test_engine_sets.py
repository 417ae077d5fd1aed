"""Tasks in sets: they iterate alike in every replay, so what the code does with them replays too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import engine_programs as made_up
import pytest
from engine_hub import Instance, Status, play
from hypothesis import given, settings
from hypothesis import strategies as st

ACTIVITIES = {f"slow{n}": lambda value: value for n in range(4)}
DURATIONS = {f"slow{n}": n for n in range(4)}


def calls(context: Any, count: int) -> list[Any]:
    return [context.call_activity(f"slow{n * 7 % 4}", n) for n in range(count)]


def check(orchestrator: Any, **about: Any) -> Instance:
    """Play warm and cold, one event to a turn and all in one: the same output, and of each way the same history."""
    about = {"activities": ACTIVITIES, "durations": DURATIONS, **about}
    outputs = []
    for merge in (False, True):
        warm, cold = (play(orchestrator, cold=cold, merge=merge, **about) for cold in (False, True))
        assert warm.status is Status.Completed, warm.output
        assert warm.history == cold.history
        outputs.append(warm.output)
    assert outputs[0] == outputs[1]
    return warm


def test_a_set_of_tasks_iterates_alike_in_every_replay() -> None:
    def orchestrator(context: Any) -> Any:
        made = calls(context, 20)
        made += [context.create_timer(timedelta(seconds=n)) for n in range(20)]
        made += [context.wait_for_external_event(f"e{n}") for n in range(20)]
        made += [context.task_all(made[n : n + 2]) for n in range(20)]
        made += [context.task_any(made[n : n + 2]) for n in range(20)]
        return [made.index(each) for each in set(made)]
        yield

    assert play(orchestrator).output == list(range(100))


def test_tasks_taken_out_of_a_set_one_by_one_as_they_complete() -> None:
    def orchestrator(context: Any) -> Any:
        pending, order = set(calls(context, 12)), []
        while pending:
            done = yield context.task_any(pending)
            pending.remove(done)
            order.append(done.result)
            if done.result < 100:
                pending.add(context.call_activity("echo", done.result + 100))
        return order

    check(orchestrator)


def test_work_is_called_in_the_order_of_a_set_of_tasks() -> None:
    def orchestrator(context: Any) -> Any:
        first = calls(context, 12)
        yield context.task_any(first)
        open_ones = {each for each in first if not each.is_completed}
        return (yield context.task_all([context.call_activity("echo", first.index(each)) for each in open_ones]))

    check(orchestrator)


# --- cancelled timers in compounds ------------------------------------------------------------------


def said(step: Any) -> Any:
    """An orchestrator that says what became of it."""

    def orchestrator(context: Any) -> Any:
        try:
            return (yield from step(context))
        except Exception as error:
            return [type(error).__name__, str(error)]

    return orchestrator


def all_then_cancelled(context: Any) -> Any:
    timer = context.create_timer(timedelta(hours=1))
    both = context.task_all([timer, context.call_activity("echo", 1)])
    timer.cancel()
    yield both


def any_then_cancelled(context: Any) -> Any:
    timers = [context.create_timer(timedelta(hours=n)) for n in (1, 2)]
    first = context.task_any(timers)
    for each in timers:
        each.cancel()
    yield first


def any_of_cancelled(context: Any) -> Any:
    timer = context.create_timer(timedelta(hours=1))
    timer.cancel()
    yield context.task_any([timer, timer])


def nested(context: Any) -> Any:
    timer = context.create_timer(timedelta(hours=1))
    inner = context.task_any([timer])
    outer = context.task_all([context.call_activity("echo", 1), inner])
    timer.cancel()
    yield outer


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (all_then_cancelled, "OrchestratorCodeError"),
        (any_then_cancelled, "OrchestratorCodeError"),
        (any_of_cancelled, "ValueError"),
        (nested, "OrchestratorCodeError"),
    ],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_a_compound_that_waits_for_cancelled_timers_raises_instead_of_waiting_for_ever(step: Any, kind: str) -> None:
    found, text = check(said(step)).output
    assert found == kind
    assert text.endswith("it would wait for ever")


def test_of_cancelled_timers_and_others_the_others_count() -> None:
    def orchestrator(context: Any) -> Any:
        early, late = (context.create_timer(timedelta(hours=n)) for n in (1, 2))
        early.cancel()
        call = context.call_activity("slow1", 1)
        first = context.task_any([early, late, call])
        late.cancel()
        return (yield first) is call

    assert check(orchestrator).output is True


def test_a_compound_that_has_completed_does_not_mind_a_timer_cancelled_afterwards() -> None:
    def orchestrator(context: Any) -> Any:
        timer, call = context.create_timer(timedelta(hours=1)), context.call_activity("slow1", 1)
        first = context.task_any([timer, call])
        yield first
        timer.cancel()
        return (yield first) is call

    assert check(orchestrator).output is True


# --- depth ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("combine", ["task_any", "task_all"])
def test_compounds_over_compounds_may_be_any_number_deep(form: Any, combine: str) -> None:
    def orchestrator(context: Any) -> Any:
        chain = [context.call_activity("slow2", 0)]
        for _ in range(1500):
            chain.append(getattr(context, combine)([chain[-1]]))
        yield chain[-1]
        return all(each.is_completed and not each.is_failed for each in chain)

    assert play(form(orchestrator), activities=ACTIVITIES, durations=DURATIONS, check=False).output is True


def test_a_race_that_grows_round_by_round() -> None:
    def orchestrator(context: Any) -> Any:
        race = context.call_activity("slow3", 0)
        for n in range(1500):
            race = context.task_any([race, context.wait_for_external_event(f"e{n}")])
        depth = 0
        while (yield race) is not None and hasattr(race.result, "result"):
            race, depth = race.result, depth + 1
        return depth

    assert play(orchestrator, activities=ACTIVITIES, durations=DURATIONS, check=False).output == 1500


def test_a_deep_failure_and_a_deep_cancellation_arrive() -> None:
    def orchestrator(context: Any) -> Any:
        timer, said = context.create_timer(timedelta(hours=1)), []
        for leaf in (context.call_activity("boom", 1), timer):
            chain = leaf
            for _ in range(1500):
                chain = context.task_all([chain])
            if leaf is timer:
                timer.cancel()
            try:
                yield chain
            except Exception as error:
                said.append(type(error).__name__)
        return said

    assert play(orchestrator, check=False).output == ["ActivityFailedError", "OrchestratorCodeError"]


# --- asyncio's sets ---------------------------------------------------------------------------------


async def step(context: Any, number: int) -> Any:
    first = await context.call_activity(f"slow{number * 7 % 4}", number)
    return await context.call_activity("echo", first)


async def as_completed_over_coroutines(context: Any) -> Any:
    return [await each for each in asyncio.as_completed([step(context, n) for n in range(20)])]


async def as_completed_over_one_coroutine_twice(context: Any) -> Any:
    made = step(context, 1)
    return [await each for each in asyncio.as_completed((made, step(context, 2), made))]


async def as_completed_in_time_and_not(context: Any) -> Any:
    said = []
    for each in asyncio.as_completed([step(context, n) for n in range(20)], timeout=2):
        try:
            said.append(await each)
        except TimeoutError:
            said.append("late")
    return said


async def wait_for_gathers(context: Any) -> Any:
    pending: Any = [asyncio.gather(step(context, n), step(context, n + 1)) for n in range(0, 40, 2)]
    numbers = {each: n for n, each in enumerate(pending)}
    order = []
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            order.append(numbers[each])
            await context.call_activity("echo", numbers[each])
    return order


async def as_completed_over_gathers(context: Any) -> Any:
    made = [asyncio.gather(step(context, n), step(context, n + 1)) for n in range(0, 40, 2)]
    return [await each for each in asyncio.as_completed(made)]


async def a_set_of_futures_and_tasks(context: Any) -> Any:
    loop = asyncio.get_running_loop()
    made: list[Any] = [asyncio.create_task(step(context, n)) for n in range(10)]
    made += [asyncio.ensure_future(step(context, n)) for n in range(10)]
    made += [asyncio.shield(each) for each in made[:10]]
    made += [asyncio.gather(each, loop.create_future()) for each in made[:10]]
    return [await context.call_activity("echo", made.index(each)) for each in set(made)]


ORDERED = [
    as_completed_over_coroutines,
    as_completed_over_one_coroutine_twice,
    as_completed_in_time_and_not,
    wait_for_gathers,
    as_completed_over_gathers,
    a_set_of_futures_and_tasks,
]


@pytest.mark.parametrize("orchestrator", ORDERED, ids=lambda each: each.__name__)
def test_what_asyncio_puts_into_sets_replays(orchestrator: Any) -> None:
    check(orchestrator)


def test_tasks_of_as_completed_begin_in_the_order_they_were_given() -> None:
    instance = check(as_completed_over_coroutines)
    assert [item.input for item in instance.work[:20]] == [str(n) for n in range(20)]


def test_a_gather_can_still_be_cancelled() -> None:
    async def orchestrator(context: Any) -> Any:
        both = asyncio.gather(context.call_activity("never"), context.call_activity("never"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(both, 1)
        return repr(both)

    assert check(orchestrator).output == "<_GatheringFuture finished exception=CancelledError()>"


async def make_a_future(context: Any) -> Any:
    asyncio.Future()


async def make_a_future_of_ones_own(context: Any) -> Any:
    class Mine(asyncio.Future[Any]):
        def __init__(self) -> None:
            super().__init__()

    Mine()


async def make_a_task(context: Any) -> Any:
    made = step(context, 1)
    try:
        asyncio.Task(made)
    finally:
        made.close()


@pytest.mark.parametrize(
    "make", [make_a_future, make_a_future_of_ones_own, make_a_task], ids=lambda each: each.__name__
)
def test_a_future_or_task_made_past_the_loop_raises_at_that_line(make: Callable[..., Any]) -> None:
    async def orchestrator(context: Any) -> Any:
        await context.call_activity("echo", 1)
        await make(context)

    instance = play(orchestrator)
    assert instance.failure.error_type == "OrchestratorCodeError"
    assert "create_future() or asyncio.create_task(...)" in instance.output
    assert make.__name__ in (instance.failure.stack_trace or "")


@pytest.mark.parametrize("kind", [set, frozenset, iter, "mixed"])
def test_as_completed_over_coroutines_in_no_order_raises_and_says_what_to_do(kind: Any) -> None:
    async def orchestrator(context: Any) -> Any:
        made: list[Any] = [step(context, n) for n in range(3)]
        others = [context.call_activity("echo", 1)] if kind == "mixed" else []
        try:
            given = [*made, *others] if kind == "mixed" else kind(made)
            return [await each for each in asyncio.as_completed(given)]
        finally:
            for each in made:
                each.close()

    instance = play(orchestrator)
    assert instance.failure.error_type == "OrchestratorCodeError"
    assert "asyncio.create_task(step(n))" in instance.output


def test_the_debug_mode_and_the_task_factory_can_be_asked_for() -> None:
    async def orchestrator(context: Any) -> Any:
        loop = asyncio.get_running_loop()
        return [loop.get_debug(), loop.get_task_factory()]

    assert check(orchestrator).output == [False, None]


# --- programs made up -------------------------------------------------------------------------------

POOLS = st.builds(made_up.Pool, st.lists(made_up.tasks, min_size=3, max_size=8).map(tuple))
TOGETHER = st.builds(
    made_up.Branches,
    st.lists(st.lists(POOLS | made_up.calls, max_size=2).map(tuple), min_size=3, max_size=5).map(tuple),
    st.sampled_from(["gathers", "as_completed", "wait", "group"]),
)


def programs(*steps: st.SearchStrategy[Any]) -> st.SearchStrategy[made_up.Program]:
    body = st.lists(st.one_of(*steps), min_size=1, max_size=2).map(tuple)
    return st.builds(made_up.Program, st.tuples(body))


def answer(value: Any) -> Any:
    failures, result = value
    if failures:
        raise ValueError(result)
    return result


def check_replay(orchestrator: Any) -> None:
    """Play warm and cold, one event to a turn and all in one: each way the same history, whatever the order in sets."""
    for merge in (False, True):
        warm, cold = (
            play(
                orchestrator,
                activities=dict.fromkeys(("a0", "a1", "a2", "left"), answer),
                durations={"a0": 2, "a1": 1, "left": 1},
                orchestrators={"child": lambda context: answer(context.get_input())},
                events=[(1, "x", 1), (3, "y", 2), (4, "x", 3)],
                merge=merge,
                cold=cold,
            )
            for cold in (False, True)
        )
        assert warm.history == cold.history
        assert warm.turns[-1].output == cold.turns[-1].output


@settings(max_examples=40, deadline=None, database=None, derandomize=True)
@given(programs(POOLS))
def test_generators_with_sets_of_tasks_replay(program: made_up.Program) -> None:
    check_replay(made_up.as_generator(program))


@settings(max_examples=40, deadline=None, database=None, derandomize=True)
@given(programs(POOLS, TOGETHER))
def test_coroutines_with_sets_of_tasks_replay(program: made_up.Program) -> None:
    check_replay(made_up.as_coroutine(program))
