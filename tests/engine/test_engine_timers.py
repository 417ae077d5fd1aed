"""Durable timers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from engine_hub import EPOCH, Hub, Status, play, seconds

from durable_ext.history import TimerCreated, TimerFired
from durable_ext.messages import Message

NAP = timedelta(seconds=30)


def sleeping(until: Any) -> Any:
    def orchestrator(context: Any) -> Any:
        result = yield context.create_timer(until)
        return [result, (context.current_utc_datetime - EPOCH).total_seconds()]

    return orchestrator


@pytest.mark.parametrize(
    ("until", "due"),
    [
        (NAP, 30),
        (EPOCH + NAP, 30),
        (datetime(2024, 1, 1, 0, 0, 30), 30),  # naive: UTC
        (datetime(2024, 1, 1, 2, 0, 30, tzinfo=timezone(timedelta(hours=2))), 30),
        (timedelta(days=400), 400 * 86400),
        (datetime(2034, 1, 1, tzinfo=UTC), 315619200),
    ],
)
def test_a_timer_is_due_at_a_time_or_after_a_delay(form: Any, until: Any, due: float) -> None:
    instance = play(form(sleeping(until)))
    assert instance.output == [None, due]
    assert seconds(instance) == [due]


@pytest.mark.parametrize("past", [EPOCH - NAP, timedelta(0), -NAP])
def test_a_timer_in_the_past_fires_at_once(form: Any, past: Any) -> None:
    assert play(form(sleeping(past))).output == [None, 0]


def test_a_long_timer_is_one_timer(form: Any) -> None:
    instance = play(form(sleeping(timedelta(days=30))))
    assert len(instance.recorded(TimerCreated)) == len(instance.recorded(TimerFired)) == 1


def test_a_timer_message_is_visible_when_it_is_due_and_meant_for_one_execution(form: Any) -> None:
    instance = play(form(sleeping(NAP)))
    (message,) = instance.messages
    assert isinstance(message, Message)
    assert message.visible_at == EPOCH + NAP
    assert message.execution_id == "e0"
    assert message.event == TimerFired(timestamp=EPOCH + NAP, timer_id=0, fire_at=EPOCH + NAP)


@pytest.mark.parametrize("wrong", [5, "2024-01-01", None])
def test_anything_but_a_time_or_a_delay_raises_at_that_line(wrong: Any) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            context.create_timer(wrong)
        except ValueError as error:
            return str(error)
        yield

    assert repr(wrong) in play(orchestrator).output


def test_a_timer_cancelled_in_the_turn_that_made_it_is_never_recorded(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        timer = context.create_timer(NAP)
        timer.cancel()
        return [timer.is_cancelled, (yield context.call_activity("echo", 1))]

    instance = play(form(orchestrator))
    assert instance.output == [True, 1]
    assert not instance.recorded(TimerCreated)
    assert [item.task_id for item in instance.work] == [1]  # the number is used up


def test_a_cancelled_timer_that_was_recorded_never_fires(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        timer = context.create_timer(NAP)
        yield context.call_activity("echo", 1)
        timer.cancel()
        timer.cancel()  # once more changes nothing
        yield context.create_timer(2 * NAP)
        return timer.is_completed

    instance = play(form(orchestrator))
    assert len(instance.recorded(TimerCreated)) == 2
    assert [event.timer_id for event in instance.recorded(TimerFired)] == [2]


def test_the_loser_of_a_race_is_cancelled_and_the_instance_ends_at_once(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        timer, work = context.create_timer(timedelta(days=1)), context.call_activity("echo", "won")
        winner = yield context.task_any([work, timer])
        if winner is work:
            timer.cancel()
        return winner.get_result()

    instance = play(form(orchestrator))
    assert instance.output == "won"
    assert len(instance.turns) == 2


def test_an_open_timer_does_not_hold_the_end_open(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        context.create_timer(timedelta(days=1))
        return (yield context.call_activity("echo", "done"))

    hub = Hub(activities={"echo": lambda value: value})
    instance = hub.start(form(orchestrator))
    hub.run(until=10)
    assert instance.status is Status.Completed
    hub.run()
    assert len(instance.turns) == 2


def test_cancelling_a_timer_that_fired_raises() -> None:
    def orchestrator(context: Any) -> Any:
        timer = context.create_timer(NAP)
        yield timer
        try:
            timer.cancel()
        except ValueError as error:
            return str(error)

    assert play(orchestrator).output == "Cannot cancel a completed task."


def test_timers_fire_in_order_of_their_times(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        timers = {name: context.create_timer(timedelta(seconds=delay)) for name, delay in (("b", 2), ("a", 1))}
        order = []
        while timers:
            winner = yield context.task_any(list(timers.values()))
            name = next(name for name, timer in timers.items() if timer is winner)
            order.append(name)
            del timers[name]
        return order

    assert play(form(orchestrator)).output == ["a", "b"]
