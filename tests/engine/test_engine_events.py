"""External events: every one is read once, in order, by the right wait."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from engine_hub import CODEC, EPOCH, Flaky, Hub, Instance, Status, play, seconds

from durable_ext.engine import orchestration
from durable_ext.engine.turn import EngineOptions, Turn
from durable_ext.errors import DurableError
from durable_ext.history import (
    EventRaised,
    GenericEvent,
    OrchestratorCompleted,
    OrchestratorStarted,
    TaskCompleted,
    TaskScheduled,
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


# --- the backlog -------------------------------------------------------------------------------------


def test_an_event_nobody_waits_for_is_not_recorded_and_said_to_be_unread(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.create_timer(timedelta(seconds=10))
        return (yield context.wait_for_external_event("n"))

    hub = Hub()
    instance = hub.start(form(orchestrator))
    hub.run(until=0)
    raised = [EventRaised(timestamp=EPOCH, name="N", input=str(number)) for number in range(2)]
    turn = instance.advance(raised)
    assert len(turn.events) == 2
    assert all(unread is event for unread, event in zip(turn.unread, raised, strict=True))
    assert not turn.status_changed
    hub.run()
    turn = instance.turns[-1]
    assert instance.output == 0
    assert turn.read == [raised[0]]
    assert turn.read[0] is raised[0]
    assert not turn.unread
    assert [type(event).__name__ for event in turn.events] == [
        "OrchestratorStarted",
        "TimerFired",
        "EventRaised",
        "ExecutionCompleted",
        "OrchestratorCompleted",
    ]


def test_an_event_read_in_the_turn_it_came_with_is_neither_unread_nor_read(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.create_timer(timedelta(seconds=0))
        return (yield context.wait_for_external_event("n"))

    hub = Hub()
    instance = hub.start(form(orchestrator))
    instance.advance([hub._due.pop()[2].event])
    fired = TimerFired(timestamp=EPOCH, timer_id=0, fire_at=EPOCH)
    turn = instance.advance([EventRaised(timestamp=EPOCH, name="n", input="1"), fired])
    assert (turn.unread, turn.read, turn.output) == ([], [], "1")


def test_the_oldest_event_waited_for_is_read_first_and_code_runs_before_the_next(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.create_timer(timedelta(seconds=10))
        waits = {name: context.wait_for_external_event(name) for name in "abc"}
        order = []
        while waits:
            winner = yield context.task_any(list(waits.values()))
            order.append(winner.get_result())
            waits = {name: wait for name, wait in waits.items() if wait is not winner}
        return order

    events = [(1, "c", 1), (2, "x", 9), (3, "a", 2), (4, "b", 3), (5, "a", 9)]
    instance = play(form(orchestrator), events=events)
    assert instance.output == [1, 2, 3]
    assert [event.input for event in instance.kept] == ["9", "9"]


def test_events_dropped_by_continue_as_new_are_said_to_be_read(form: Any) -> None:
    instance = play(form(counting(save=False)), events=[(1, "n", 1), (2, "n", 2), (3, "other", 3)])
    assert instance.status is Status.Running
    assert [event.input for event in instance.turns[-1].read] == ["1", "2", "3"]
    assert not instance.kept
    assert not instance.recorded(EventRaised)


def test_events_unread_at_the_end_stay_unread(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.wait_for_external_event("go")

    instance = play(form(orchestrator), events=[(1, "n", 1), (2, "go", 2), (2, "n", 3)])
    assert instance.status is Status.Completed
    assert [event.input for event in instance.kept] == ["1", "3"]
    assert not instance.turns[-1].read


def test_a_rewound_instance_reads_what_was_left_unread_before_its_failure(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_activity("flaky", 1)
        first = yield context.wait_for_external_event("n")
        return [first, (yield context.wait_for_external_event("n"))]

    hub = Hub(activities={"flaky": Flaky(1)}, durations={"flaky": 5})
    instance = hub.start(form(orchestrator))
    hub.raise_event("n", 1, at=1)
    hub.raise_event("n", 2, at=5)
    hub.run()
    assert instance.status is Status.Failed
    assert [event.input for event in instance.kept] == ["1", "2"]
    hub.rewind()
    hub.run()
    assert instance.output == [1, 2]
    assert not instance.kept


def reader(context: Any) -> Any:
    """Reads one event per generation."""
    yield context.wait_for_external_event("n")
    context.continue_as_new((context.get_input() or 0) + 1)


def drain(form: Any, backlog: int, *, cold: bool) -> tuple[Instance, list[Turn]]:
    """The turns it takes to read so many events that are there before anybody waits for them."""

    def pausing(context: Any) -> Any:
        if context.get_input() is None:
            yield context.create_timer(timedelta(seconds=10))
        yield from reader(context)

    hub = Hub(cold=cold, check=False)
    instance = hub.start(form(pausing))
    hub.run(until=0)
    instance.advance([EventRaised(timestamp=EPOCH, name="n", input=str(number)) for number in range(backlog)])
    before = len(instance.turns)
    hub.run()
    return instance, instance.turns[before:]


@pytest.mark.parametrize("cold", [False, True])
def test_reading_a_large_backlog_writes_each_event_once_at_most(form: Any, cold: bool) -> None:
    instance, turns = drain(form, 3_000, cold=cold)
    assert not instance.kept
    assert instance.session.started is not None
    assert CODEC.decode(instance.session.started.input) == 3_000
    written = [sum(isinstance(event, EventRaised) for event in turn.events) for turn in turns]
    assert max(written) <= 1, "each generation has read one, and carries none over"
    assert sum(len(turn.messages) + len(turn.work) for turn in turns) == len(turns) - 1


@pytest.mark.parametrize("cold", [False, True])
def test_a_turn_reads_so_many_events_and_sends_itself_a_message_to_go_on(form: Any, cold: bool) -> None:
    instance, turns = drain(form, 2_500, cold=cold)
    assert len(turns) == 3
    for turn in turns[:2]:
        (message,) = turn.messages
        assert isinstance(message.event, GenericEvent)
        assert (message.instance_id, message.execution_id) == (instance.instance_id, turn.execution_id)
    assert not turns[2].messages


def test_a_batch_beyond_the_bound_is_left_unread_for_the_next_turn(form: Any) -> None:
    hub = Hub(check=False)
    instance = hub.start(form(reader))
    hub.run()
    raised = [EventRaised(timestamp=EPOCH, name="n", input=str(number)) for number in range(1_200)]
    turn = instance.advance(raised)
    assert list(turn.unread) == raised[1_000:]
    (message,) = turn.messages
    turn = instance.advance([message.event])
    assert turn.read == raised[1_000:]
    assert not turn.messages


def test_a_turn_with_other_news_is_not_cut(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        timer = context.create_timer(timedelta(seconds=10))
        for _ in range(1_200):
            yield context.wait_for_external_event("n")
        return timer.is_completed

    hub = Hub(check=False)
    instance = hub.start(form(orchestrator))
    hub.run(until=0)
    raised = [EventRaised(timestamp=EPOCH, name="n", input=str(number)) for number in range(1_200)]
    turn = instance.advance([*raised, TimerFired(timestamp=EPOCH, timer_id=0, fire_at=EPOCH + timedelta(seconds=10))])
    assert turn.output == "false"
    assert not turn.unread


def test_more_generations_than_an_endless_loop_may_have_are_fine_if_each_reads_an_event(
    form: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orchestration, "_MAX_IDLE_GENERATIONS", 10)
    instance, _ = drain(form, 200, cold=False)
    assert instance.status is Status.Running
    assert not instance.kept


def test_generations_that_only_pass_an_event_on_are_an_endless_loop(form: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def orchestrator(context: Any) -> Any:
        context.wait_for_external_event("n")
        if context.get_input() is None:
            yield context.create_timer(timedelta(seconds=10))
        context.continue_as_new("again")

    monkeypatch.setattr(orchestration, "_MAX_IDLE_GENERATIONS", 10)
    instance = play(form(orchestrator), events=[(1, "n", 1)])
    assert "endless loop" in instance.output


def test_a_history_with_events_recorded_before_anybody_waited_is_replayed(form: Any) -> None:
    """Other releases record them as they arrive, and serve the waits at once: one with a timeout sets no timer."""

    def orchestrator(context: Any) -> Any:
        yield context.create_timer(timedelta(seconds=10))
        first = yield context.wait_for_external_event("n", timeout=60)
        second = yield context.wait_for_external_event("n")
        return [first, second, (yield context.call_activity("echo", 3))]

    hub = Hub()
    instance = hub.start(form(orchestrator))
    due = EPOCH + timedelta(seconds=10)
    instance.history = [
        OrchestratorStarted(timestamp=EPOCH),
        hub._due[0][2].event,
        EventRaised(timestamp=EPOCH, name="n", input="1"),
        TimerCreated(timestamp=EPOCH, event_id=0, fire_at=due),
        OrchestratorCompleted(timestamp=EPOCH),
        OrchestratorStarted(timestamp=EPOCH),
        EventRaised(timestamp=EPOCH, name="N", input="2"),
        OrchestratorCompleted(timestamp=EPOCH),
        OrchestratorStarted(timestamp=due),
        TimerFired(timestamp=due, timer_id=0, fire_at=due),
        TaskScheduled(timestamp=due, event_id=1, name="echo"),
        OrchestratorCompleted(timestamp=due),
    ]
    session = instance.replayed()
    assert session.non_determinism is None
    turn = session.advance(due, [TaskCompleted(timestamp=due, task_scheduled_id=1, result="3")])
    assert turn.output == "[1,2,3]"
