"""Events that nobody waits for yet: they stay where they are stored until they are read."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from engine_hub import CODEC, EPOCH, Flaky, Hub, Instance, Status, play

from durable_ext.engine import intake, orchestration
from durable_ext.engine.turn import Turn
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
    def orchestrator(context: Any) -> Any:
        if context.get_input() is None:
            yield context.create_timer(timedelta(seconds=10))
            context.continue_as_new("second", save_events=False)
        else:
            yield context.wait_for_external_event("n")

    instance = play(form(orchestrator), events=[(1, "n", 1), (2, "n", 2), (3, "other", 3)])
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


def test_a_turn_cut_while_a_wait_is_open_goes_on_with_the_next(form: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def orchestrator(context: Any) -> Any:
        return (yield context.task_all([context.wait_for_external_event("n") for _ in range(3)]))

    monkeypatch.setattr(intake, "MAX_EVENTS_PER_TURN", 1)
    instance = play(form(orchestrator), events=[(0, "other", 0), (1, "n", 1), (1, "n", 2), (1, "n", 3)], check=False)
    assert sorted(instance.output) == [1, 2, 3]
    assert [len(turn.messages) for turn in instance.turns] == [0, 1, 1, 0]
    assert [event.input for event in instance.kept] == ["0"]


def test_a_suspended_turn_is_not_cut_so_that_no_event_overtakes_another(
    form: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def orchestrator(context: Any) -> Any:
        waits = [context.wait_for_external_event("n") for _ in range(2)]
        return [(yield waits[0]), (yield waits[1])]

    monkeypatch.setattr(intake, "MAX_EVENTS_PER_TURN", 1)
    hub = Hub()
    instance = hub.start(form(orchestrator))
    hub.suspend(at=1)
    for number in (1, 2):
        hub.raise_event("n", number, at=1)
    hub.raise_event("n", 3, at=2)
    hub.resume(at=3)
    hub.run()
    assert instance.output == [1, 2]


@pytest.mark.parametrize("cold", [False, True])
def test_what_a_cut_turn_has_left_has_not_arrived_for_a_generation_that_drops_its_events(
    form: Any, cold: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropped is what came before the event that ended the generation; how many events go into a turn does not show."""

    def orchestrator(context: Any) -> Any:
        read = context.get_input()
        if read is None:
            yield context.create_timer(timedelta(seconds=10))
        read = [*(read or []), (yield context.wait_for_external_event("n"))]
        if len(read) == 3:
            return [*read, (yield context.wait_for_external_event("m", timeout=1, default="dropped"))]
        context.continue_as_new(read, save_events=False)

    events = [(1, "m", 1), (1, "n", 2), (1, "n", 3), (10, "m", 4), (10, "n", 5), (10, "n", 6)]
    for limit in (1, 1_000):
        monkeypatch.setattr(intake, "MAX_EVENTS_PER_TURN", limit)
        hub = Hub(cold=cold, check=False)
        instance = hub.start(form(orchestrator))
        hub.run(until=0)
        for at, name, data in events:
            hub.raise_event(name, data, at=at)
        hub.run(until=9)
        hub.raise_event("n", 7, at=11)
        hub.run()
        assert instance.output == [2, 5, 6, "dropped"]


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
