"""Tasks in sets: they iterate alike in every replay, so what the code does with them replays too."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from engine_hub import Instance, Status, play

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
