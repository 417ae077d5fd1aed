"""External events: every one is read once, in order, by the right wait."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from engine_hub import EPOCH, Hub, Status, play, seconds

from durable_ext.engine.turn import EngineOptions
from durable_ext.errors import DurableError
from durable_ext.history import (
    EventRaised,
    TimerCreated,
    TimerFired,
)


def test_a_wait_takes_no_number_and_returns_the_data(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        data = yield context.wait_for_external_event("go")
        return [data, (yield context.call_activity("echo", 1))]

    instance = play(form(orchestrator), events=[(5, "go", {"a": [1]})])
    assert instance.output == [{"a": [1]}, 1]
    assert instance.work[0].task_id == 0


def test_an_event_before_the_wait_is_not_lost(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.create_timer(timedelta(seconds=10))
        return (yield context.wait_for_external_event("go"))

    instance = play(form(orchestrator), events=[(5, "go", 1)])
    assert instance.output == 1


def test_an_event_with_the_start_is_not_lost(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        return (yield context.wait_for_external_event("go"))

    instance = play(form(orchestrator), events=[(0, "go", 1)])
    assert instance.output == 1
    assert len(instance.turns) == 1


def test_early_events_of_one_name_are_read_once_each_in_order(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.create_timer(timedelta(seconds=10))
        first, second = (yield context.wait_for_external_event("n")), (yield context.wait_for_external_event("n"))
        return [
            first,
            second,
            (yield context.wait_for_external_event("n")),
            (yield context.wait_for_external_event("n")),
        ]

    instance = play(form(orchestrator), events=[(1, "n", 1), (2, "other", 9), (2, "n", 2), (3, "n", 3), (20, "n", 4)])
    assert instance.output == [1, 2, 3, 4]


def test_one_early_event_serves_one_wait_only(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.create_timer(timedelta(seconds=10))
        first = context.wait_for_external_event("n")
        second = context.wait_for_external_event("n")
        yield first
        return [first.is_completed, second.is_completed]

    assert play(form(orchestrator), events=[(1, "n", 1)]).output == [True, False]


def test_of_several_waits_the_newest_is_served_first(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        waits = [context.wait_for_external_event("n") for _ in range(3)]
        order = []
        for _ in waits:
            winner = yield context.task_any([wait for wait in waits if not wait.is_completed])
            order.append([waits.index(winner), winner.get_result()])
        return order

    instance = play(form(orchestrator), events=[(1, "n", "a"), (2, "n", "b"), (3, "n", "c")])
    assert instance.output == [[2, "a"], [1, "b"], [0, "c"]]


def test_a_wait_abandoned_in_a_race_does_not_swallow_the_event(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        for _ in range(3):
            wait, timer = context.wait_for_external_event("n"), context.create_timer(timedelta(seconds=10))
            if (yield context.task_any([wait, timer])) is wait:
                return wait.get_result()

    assert play(form(orchestrator), events=[(25, "n", "read")]).output == "read"


@pytest.mark.parametrize(("sent", "awaited"), [("GO", "go"), ("go", "Go"), ("STRASSE", "straße")])
def test_names_compare_without_case(form: Any, sent: str, awaited: str) -> None:
    def orchestrator(context: Any) -> Any:
        return (yield context.wait_for_external_event(awaited))

    assert play(form(orchestrator), events=[(1, sent, 1)]).output == 1


def test_an_empty_name_raises_at_that_line() -> None:
    def orchestrator(context: Any) -> Any:
        try:
            yield context.wait_for_external_event("")
        except ValueError as error:
            return str(error)

    assert play(orchestrator).output == "external_event_name cannot be empty"


def test_events_while_suspended_are_read_after_the_resume_in_order(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        return [(yield context.wait_for_external_event("n")), (yield context.wait_for_external_event("n"))]

    hub = Hub()
    instance = hub.start(form(orchestrator))
    hub.suspend(at=1)
    hub.raise_event("n", 1, at=2)
    hub.raise_event("n", 2, at=3)
    hub.run()
    assert instance.status is Status.Suspended
    hub.resume(at=4)
    hub.run()
    assert instance.output == [1, 2]


# --- timeout -----------------------------------------------------------------------------------------


def test_a_wait_with_a_timeout_raises_when_it_is_over(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            yield context.wait_for_external_event("go", timeout=timedelta(seconds=90))
        except TimeoutError as error:
            return str(error)

    instance = play(form(orchestrator), events=[(91, "go", 1)])
    assert instance.output == "Event go not received in 0:01:30"


@pytest.mark.parametrize("default", [None, 0, "later"])
def test_a_wait_with_a_default_returns_it_when_the_time_is_over(form: Any, default: Any) -> None:
    def orchestrator(context: Any) -> Any:
        return [(yield context.wait_for_external_event("go", timeout=5, default=default))]

    assert play(form(orchestrator)).output == [default]


def test_an_event_in_time_cancels_the_timer(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        data = yield context.wait_for_external_event("go", timeout=60)
        yield context.create_timer(timedelta(minutes=5))
        return data

    instance = play(form(orchestrator), events=[(5, "go", "in time")])
    assert instance.output == "in time"
    assert [event.timer_id for event in instance.recorded(TimerFired)] == [1]


def test_an_event_that_is_there_already_sets_no_timer(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.create_timer(timedelta(seconds=10))
        return (yield context.wait_for_external_event("go", timeout=60))

    instance = play(form(orchestrator), events=[(5, "go", 1)])
    assert instance.output == 1
    assert len(instance.recorded(TimerCreated)) == 1


def test_a_wait_that_timed_out_takes_no_event(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        first = yield context.wait_for_external_event("go", timeout=5, default="none")
        return [first, (yield context.wait_for_external_event("go"))]

    assert play(form(orchestrator), events=[(9, "go", 1)]).output == ["none", 1]


@pytest.mark.parametrize("timeout", [0, -2.5, timedelta(seconds=-1)])
def test_a_timeout_that_is_not_positive_is_over_at_once(form: Any, timeout: Any) -> None:
    def orchestrator(context: Any) -> Any:
        found = []
        for _ in range(2):
            found.append((yield context.wait_for_external_event("go", timeout=timeout, default="none")))
            yield context.create_timer(timedelta(seconds=10))
        return [*found, (yield context.wait_for_external_event("go"))]

    instance = play(form(orchestrator), events=[(5, "go", 1), (15, "go", 2)])
    assert instance.output == ["none", 1, 2]
    assert instance.turns[1].events[1].timer_id == 0
    assert instance.turns[1].events[0].timestamp == EPOCH


@pytest.mark.parametrize(
    ("timeout", "error"),
    [(timedelta.max, OverflowError), (1e300, OverflowError), (float("nan"), ValueError), ("a while", TypeError)],
)
def test_a_timeout_that_is_no_time_leaves_no_wait_behind(form: Any, timeout: Any, error: Any) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            context.wait_for_external_event("go", timeout=timeout)
        except error:
            yield context.create_timer(timedelta(seconds=10))
        assert not context._execution.mailbox.demand("go")
        return (yield context.call_activity("echo", "went on"))

    instance = play(form(orchestrator), events=[(5, "go", 1)])
    assert instance.output == "went on"
    assert [event.event_id for event in instance.recorded(TimerCreated)] == [0]
    assert not instance.recorded(EventRaised)


def test_a_wait_past_the_action_limit_leaves_nothing_behind(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.create_timer(timedelta(seconds=1))
        try:
            context.wait_for_external_event("go", timeout=60)
        except DurableError:
            return (yield context.wait_for_external_event("go"))

    instance = play(form(orchestrator), events=[(5, "go", "read")], options=EngineOptions(max_actions=1))
    assert instance.output == "read"


# --- continue as new ---------------------------------------------------------------------------------


def counting(*, save: bool | None = None) -> Any:
    """Reads events one per generation, three in all, after a pause that lets them pile up."""

    def orchestrator(context: Any) -> Any:
        read = context.get_input() or []
        if len(read) == 0:
            yield context.create_timer(timedelta(seconds=10))
        read = [*read, (yield context.wait_for_external_event("n"))]
        if len(read) == 3:
            return read
        context.continue_as_new(read, **({} if save is None else {"save_events": save}))

    return orchestrator


def test_unread_events_survive_continue_as_new_in_order(form: Any) -> None:
    instance = play(form(counting()), events=[(1, "n", 1), (2, "n", 2), (3, "n", 3)])
    assert instance.output == [1, 2, 3]


def test_a_wait_with_events_to_spare_sets_no_timer_until_another_wait_has_taken_them(form: Any) -> None:
    """Events read in an earlier generation, but not by the code, are at hand when the next one begins."""

    def orchestrator(context: Any) -> Any:
        if context.get_input() is None:
            context.wait_for_external_event("n")
            yield context.create_timer(timedelta(seconds=10))
            context.continue_as_new("second")
            return None
        yield context.create_timer(timedelta(seconds=1))
        patient = context.wait_for_external_event("n", timeout=5, default="nothing")
        greedy = context.wait_for_external_event("n")
        taken = yield greedy
        return [taken, (yield patient)]

    instance = play(form(orchestrator), events=[(1, "n", 1)])
    assert instance.output == [1, "nothing"]
    assert seconds(instance) == [11, 16]


def test_unread_events_are_dropped_if_the_code_says_so(form: Any) -> None:
    instance = play(form(counting(save=False)), events=[(1, "n", 1), (2, "n", 2), (30, "n", 3), (31, "n", 4)])
    assert instance.output == [1, 3, 4]


def test_what_comes_after_the_end_of_a_generation_in_the_same_turn_goes_to_the_next(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        read = [*(context.get_input() or []), (yield context.wait_for_external_event("n"))]
        if len(read) == 3:
            return read
        context.continue_as_new(read, save_events=False)

    instance = play(form(orchestrator), events=[(5, "n", 1), (5, "n", 2), (5, "n", 3)])
    assert instance.output == [1, 2, 3]
    assert len(instance.turns) == 2


@pytest.mark.parametrize("cold", [False, True])
def test_what_was_held_while_suspended_goes_to_the_next_generation_too(form: Any, cold: bool) -> None:
    def orchestrator(context: Any) -> Any:
        abandoned = context.wait_for_external_event("n")
        read = [*(context.get_input() or []), (yield context.wait_for_external_event("n"))]
        if len(read) == 3:
            return [*read, abandoned.is_completed]
        context.continue_as_new(read)

    hub = Hub(cold=cold)
    instance = hub.start(form(orchestrator))
    hub.suspend(at=1)
    for number in (1, 2, 3):
        hub.raise_event("n", number, at=2)
    hub.resume(at=3)
    hub.run()
    assert instance.output == [1, 2, 3, False]


def test_events_fed_but_not_read_are_recorded_again_in_the_new_history(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        if context.get_input():
            return (yield context.call_activity("never"))
        context.wait_for_external_event("n")
        yield context.create_timer(timedelta(seconds=10))
        context.continue_as_new("second")

    instance = play(form(orchestrator), events=[(1, "n", 1), (2, "n", 2), (3, "other", 3)])
    assert instance.status is Status.Running
    assert [event.input for event in instance.recorded(EventRaised)] == ["1"]
    assert instance.history[0].timestamp == EPOCH + timedelta(seconds=10)
    assert [event.input for event in instance.kept] == ["2", "3"]
