"""What holds for every program and every order of events."""

from __future__ import annotations

import os
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import engine_programs as made_up
import msgspec
import pytest
from engine_hub import ACTIONS, CODEC, EPOCH, Status, state_of
from engine_programs import Program, as_coroutine, as_generator, async_steps, either, ordered_steps, programs, steps
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from durable_ext.engine import intake
from durable_ext.engine.orchestration import OrchestrationSession
from durable_ext.engine.turn import EngineOptions, Turn
from durable_ext.engine.waits import EventWait
from durable_ext.errors import FailureDetails
from durable_ext.history import (
    EventRaised,
    ExecutionResumed,
    ExecutionStarted,
    ExecutionSuspended,
    GenericEvent,
    HistoryEvent,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
    TimerFired,
    decode_events,
    encode_events,
    outcome_task_id,
)
from durable_ext.messages import Message, WorkItem

settings.register_profile(
    "default",
    max_examples=120,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=2000, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

MAX_STEPS = 300
STARTED = ExecutionStarted(
    timestamp=EPOCH, name="Program", instance_id="i", execution_id="e", start_id="e", input="null"
)


@dataclass
class Arrival:
    """Something on its way: the event, whom it is for, and the turn from which on it can be delivered."""

    event: HistoryEvent
    execution_id: str | None
    since: int = 0


@dataclass
class Run:
    """One instance, its history, and what it has asked for."""

    function: Callable[..., Any]
    session: OrchestrationSession = field(init=False)
    history: list[HistoryEvent] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    arrived: list[Arrival] = field(default_factory=list)  # in the order they were fed
    kept: list[HistoryEvent] = field(default_factory=list)  # left unread, in the order they arrived
    left: list[list[HistoryEvent]] = field(default_factory=list)  # those, after each turn
    is_cold: bool = False

    def __post_init__(self) -> None:
        self.session = self.new_session()

    def new_session(self) -> OrchestrationSession:
        return OrchestrationSession(self.function, codec=CODEC, options=EngineOptions())

    def replayed(self) -> OrchestrationSession:
        session = self.new_session()
        session.replay(decode_events(encode_events(self.history)))
        return session

    def evict(self) -> None:
        self.session.close()
        self.session = self.replayed()
        self.is_cold = True

    def feed(self, now: datetime, events: Sequence[HistoryEvent]) -> Turn:
        """Take a turn. What is left unread is noted apart: a cold session says it again."""
        if self.is_cold:
            self.kept, events, self.is_cold = [], [*self.kept, *events], False
        turn = self.session.advance(now, events)
        self.kept = [each for each in self.kept if not any(each is read for read in turn.read)] + list(turn.unread)
        self.left.append(self.kept)
        turn = msgspec.structs.replace(turn, unread=(), read=())
        if turn.replaces_history:
            self.history = []
        self.history += turn.events
        self.turns.append(turn)
        return turn

    @property
    def is_over(self) -> bool:
        return bool(self.turns) and self.turns[-1].runtime_status.is_terminal

    @property
    def execution_id(self) -> str:
        return self.turns[-1].execution_id if self.turns else "e"

    def can_take(self, arrival: Arrival) -> bool:
        return arrival.execution_id in (None, self.execution_id)


def consequences(turn: Turn, number: int) -> list[Arrival]:
    """What comes back from the outside for what a turn sent."""
    found = [Arrival(outcome_of(item), item.execution_id, number) for item in turn.work]
    for message in turn.messages:
        if isinstance(message.event, TimerFired):
            found.append(Arrival(message.event, message.execution_id, number))
        elif isinstance(message.event, ExecutionStarted) and message.event.parent is not None:
            found.append(Arrival(answer_of(message), message.event.parent.execution_id, number))
    return found


def outcome_of(item: WorkItem) -> HistoryEvent:
    failures, value = CODEC.decode(item.input)
    if item.attempt > failures:
        return TaskCompleted(timestamp=EPOCH, task_scheduled_id=item.task_id, result=CODEC.encode(value))
    failure = FailureDetails(error_type="ValueError", error_message=str(value))
    return TaskFailed(timestamp=EPOCH, task_scheduled_id=item.task_id, reason="failed", failure_details=failure)


def answer_of(message: Message) -> HistoryEvent:
    started = message.event
    assert isinstance(started, ExecutionStarted)
    assert started.parent is not None
    failures, value = CODEC.decode(started.input)
    task_id = started.parent.task_id
    if not failures:
        return SubOrchestrationInstanceCompleted(timestamp=EPOCH, task_scheduled_id=task_id, result=str(value))
    failure = FailureDetails(error_type="ValueError", error_message=str(value))
    return SubOrchestrationInstanceFailed(
        timestamp=EPOCH, task_scheduled_id=task_id, reason="failed", failure_details=failure
    )


def clock(number: int) -> datetime:
    return EPOCH + timedelta(seconds=number)


class Order:
    """Which of the arrivals comes next: a fixed list of choices, over and over."""

    def __init__(self, choices: Sequence[int]) -> None:
        self._choices, self._at = choices or [0], 0

    def pick(self, among: int) -> int:
        self._at += 1
        return self._choices[self._at % len(self._choices)] % among


def run(
    function: Callable[..., Any],
    choices: Sequence[int],
    external: Sequence[str],
    *,
    each_turn: Callable[[Run], None] = lambda run: None,
) -> Run:
    """Feed one event at a time in the order of `choices`, until nothing is left."""
    order, played = Order(choices), Run(function)
    waiting = [Arrival(STARTED, "e")]
    news = [Arrival(external_event(name, number), None) for number, name in enumerate(external)]
    while waiting and not played.is_over and len(played.turns) < MAX_STEPS:
        arrival = waiting.pop(order.pick(len(waiting)))
        if not played.can_take(arrival):
            continue
        played.arrived.append(arrival)
        turn = played.feed(clock(len(played.turns)), [arrival.event])
        waiting += consequences(turn, len(played.turns)) + news
        news = []
        each_turn(played)
    return played


def external_event(name: str, number: int) -> HistoryEvent:
    match name:
        case "suspend":
            return ExecutionSuspended(timestamp=EPOCH)
        case "resume":
            return ExecutionResumed(timestamp=EPOCH)
        case _:
            return EventRaised(timestamp=EPOCH, name=name, input=str(number))


def again(
    function: Callable[..., Any],
    first: Run,
    sizes: Sequence[int],
    *,
    each_turn: Callable[[Run], None] = lambda run: None,
) -> Run:
    """Feed the events of another run in the same order, in batches that the outside could have delivered.

    But nothing that controls the instance comes with its start: that is looked at before the code.
    """
    order, played = Order(sizes), Run(function)
    at = 0
    while at < len(first.arrived):
        end = at + 1
        limit = at + 1 + order.pick(6)
        while end < min(limit, len(first.arrived)) and first.arrived[end].since <= at:
            if not at and isinstance(first.arrived[end].event, ExecutionSuspended | ExecutionResumed):
                break
            end += 1
        batch = [each.event for each in first.arrived[at:end]]
        played.feed(clock(at), batch)
        each_turn(played)
        at = end
    return played


def actions(played: Run) -> list[Any]:
    """What was asked for, but for timers: one cancelled in the turn that made it leaves no trace."""
    asked = [(item.execution_id, item.task_id, item.name, item.input) for turn in played.turns for item in turn.work]
    sent = [
        (message.instance_id, type(message.event).__name__, getattr(message.event, "input", None))
        for turn in played.turns
        for message in turn.messages
        if not isinstance(message.event, TimerFired)
    ]
    return [asked, sent]


def outcome(played: Run) -> Any:
    last = played.turns[-1]
    return (last.runtime_status, last.output, last.execution_id, played.session._feeder.execution.next_id)


choices = st.lists(st.integers(0, 30), min_size=1, max_size=40)
external = st.lists(st.sampled_from(["x", "y", "X", "suspend", "resume"]), max_size=8)
events_only = st.lists(st.sampled_from(["x", "y", "X"]), max_size=8)


@st.composite
def written(draw: st.DrawFn, *, reads_time: bool = True, save: Any = either) -> Any:
    """A program in one of its forms: the function, and what it was made from."""
    if draw(st.booleans()):
        program = draw(programs(steps, reads_time=reads_time, save=save))
        return as_generator(program), program
    program = draw(programs(async_steps, reads_time=reads_time, save=save))
    return as_coroutine(program), program


@given(written(reads_time=False), choices, external, choices)
def test_how_messages_are_batched_never_shows(made: Any, order: Any, names: Any, sizes: Any) -> None:
    function, program = made
    first = run(function, order, names)
    second = again(function, first, sizes)
    assert outcome(second) == outcome(first)
    assert second.kept == first.kept
    (work, messages), (first_work, first_messages) = actions(second), actions(first)
    assert messages == first_messages
    if "Branches" in repr(program):
        # They cancel calls: of one cancelled in the turn that made it only a record is left.
        assert work == [each for each in first_work if each in work]
    else:
        assert work == first_work


@given(written(), choices, external)
def test_a_cold_replay_at_any_point_gives_the_same_turns_as_the_warm_session(made: Any, order: Any, names: Any) -> None:
    function, _ = made

    def compare(played: Run) -> None:
        fresh = played.replayed()
        assert state_of(fresh) == state_of(played.session)
        fresh.close()

    warm = run(function, order, names, each_turn=compare)
    cold = run(function, order, names, each_turn=Run.evict)
    assert cold.turns == warm.turns
    assert cold.left == warm.left


@given(written(), choices, external, choices)
def test_how_messages_are_batched_never_shows_to_a_session_that_is_cold(
    made: Any, order: Any, names: Any, sizes: Any
) -> None:
    first = run(made[0], order, names)
    warm, cold = again(made[0], first, sizes), again(made[0], first, sizes, each_turn=Run.evict)
    assert cold.turns == warm.turns
    assert cold.left == warm.left


@given(written(reads_time=False), choices, external, choices, st.integers(1, 3), st.booleans())
def test_how_many_events_go_into_a_turn_never_shows(
    made: Any, order: Any, names: Any, sizes: Any, limit: int, is_cold: bool
) -> None:
    first = run(made[0], order, names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intake, "MAX_EVENTS_PER_TURN", limit)
        second = again(made[0], first, sizes, each_turn=Run.evict if is_cold else lambda played: None)
        while wake_up := [each for each in second.turns[-1].messages if isinstance(each.event, GenericEvent)]:
            second.feed(clock(len(first.arrived)), [wake_up[0].event])
    assert outcome(second) == outcome(first)
    assert second.kept == first.kept


@given(written(reads_time=False), external, st.booleans())
def test_what_came_with_the_start_to_control_it_comes_before_the_rest(made: Any, names: Any, is_cold: bool) -> None:
    news = [external_event(name, number) for number, name in enumerate(names)]
    together, apart = Run(made[0]), Run(made[0])
    together.feed(EPOCH, [STARTED, *news])
    controls = [event for event in news if not isinstance(event, EventRaised)]
    apart.feed(EPOCH, [STARTED, *controls])
    for event in news:
        if isinstance(event, EventRaised) and not apart.is_over:
            if is_cold:
                apart.evict()
            apart.feed(EPOCH, [event])
    assert outcome(apart) == outcome(together)
    assert apart.is_over or apart.kept == together.kept


@given(written(save=st.just(True)), choices, external)
def test_no_event_is_lost_or_read_twice(made: Any, order: Any, names: Any) -> None:
    read: list[str | None] = []

    def bind(wait: EventWait) -> None:
        read.append(wait._box.fed[0][1].input)
        really_bind(wait)

    really_bind = EventWait.bind
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EventWait, "bind", bind)
        played = run(made[0], order, names)
    feeder = played.session._feeder
    assert feeder is not None
    fed = [*feeder.execution.mailbox.unread(), *feeder.suspension.held, *played.kept]
    unread = [event.input for event in fed if isinstance(event, EventRaised)]
    arrived = [arrival.event.input for arrival in played.arrived if isinstance(arrival.event, EventRaised)]
    assert sorted([*read, *unread], key=str) == sorted(arrived, key=str)


@given(written(), choices, external)
def test_no_action_is_asked_for_twice(made: Any, order: Any, names: Any) -> None:
    played = run(made[0], order, names)
    asked = [(turn.execution_id, e.event_id) for turn in played.turns for e in turn.events if isinstance(e, ACTIONS)]
    assert len(asked) == len(set(asked))
    work = [item.receipt for turn in played.turns for item in turn.work]
    assert len(work) == len(set(work))
    for turn in played.turns:
        numbers = [event.event_id for event in turn.events if isinstance(event, ACTIONS)]
        assert numbers == sorted(numbers)


@given(written(), choices, events_only)
def test_replaying_a_finished_history_changes_nothing(made: Any, order: Any, names: Any) -> None:
    played = run(made[0], order, names)
    fresh = played.replayed()
    assert fresh._broken is None
    assert fresh.runtime_status is played.session.runtime_status
    assert not fresh._feeder.execution.pending
    if played.is_over:
        assert fresh.is_finished
        turn = fresh.advance(clock(1000), [arrival.event for arrival in played.arrived])
        assert len(turn.events) == 2  # nothing but the frame of a turn
        assert not turn.work
        assert not turn.messages
        assert turn.output == played.turns[-1].output


@given(programs(ordered_steps, reads_time=True), choices, external)
def test_generator_and_coroutine_agree(program: Program, order: Any, names: Any) -> None:
    first, second = run(as_generator(program), order, names), run(as_coroutine(program), order, names)
    assert outcome(first)[:3] == outcome(second)[:3]
    strip = [
        [msgspec.structs.replace(turn, events=[bare(event) for event in turn.events]) for turn in each.turns]
        for each in (first, second)
    ]
    assert strip[0] == strip[1]


def bare(event: HistoryEvent) -> HistoryEvent:
    """Without the traceback, which shows the two interpreters."""
    failure = getattr(event, "failure_details", None)
    if failure is None or isinstance(event, TaskFailed | SubOrchestrationInstanceFailed):
        return event
    return msgspec.structs.replace(event, failure_details=msgspec.structs.replace(failure, stack_trace=None))


@given(written(), choices, external, st.randoms(use_true_random=False))
def test_repeated_outcomes_change_nothing(made: Any, order: Any, names: Any, chance: Any) -> None:
    first = run(made[0], order, names)
    played, seen = Run(made[0]), list[HistoryEvent]()
    for number, arrival in enumerate(first.arrived):
        # Outcomes of an earlier execution are kept out by their address, which is not the engine's to check.
        late = [event for event in seen if chance.random() < 0.3]
        is_outcome = outcome_task_id(arrival.event) is not None
        played.feed(clock(number), [*late, arrival.event, *([arrival.event, *late] if is_outcome else [])])
        assert played.history == first_history(first, number)
        assert played.turns[-1] == first.turns[number]
        if is_outcome:
            seen.append(arrival.event)
        if played.turns[-1].replaces_history:
            seen.clear()


def first_history(first: Run, number: int) -> list[HistoryEvent]:
    history: list[HistoryEvent] = []
    for turn in first.turns[: number + 1]:
        history = list(turn.events) if turn.replaces_history else [*history, *turn.events]
    return history


@given(written(), choices, external)
def test_evicting_at_any_point_schedules_nothing(made: Any, order: Any, names: Any) -> None:
    def evict(played: Run) -> None:
        doomed = played.replayed()
        execution = doomed._feeder.execution
        before = (execution.next_id, list(execution.pending), doomed.runtime_status, execution.custom_status)
        doomed.close()
        assert (execution.next_id, list(execution.pending), doomed.runtime_status, execution.custom_status) == before

    run(made[0], order, names, each_turn=evict)


@given(written(), choices)
def test_the_made_up_programs_come_to_an_end_or_wait_for_an_event(made: Any, order: Any) -> None:
    played = run(made[0], order, [])
    if not played.is_over:
        assert len(played.turns) < MAX_STEPS
        assert "Wait(" in repr(made[1])


def test_the_programs_exercise_what_they_are_for() -> None:
    """A fixed sample reaches every kind of event and both ends."""
    kinds: set[str] = set()
    ends: set[Status] = set()

    @settings(max_examples=200)
    @given(written(), choices, external)
    def sample(made: Any, order: Any, names: Any) -> None:
        played = run(made[0], order, names)
        kinds.update(type(event).__name__ for turn in played.turns for event in turn.events)
        ends.add(played.turns[-1].runtime_status)

    sample()
    missing = {kind.__name__ for kind in typing.get_args(HistoryEvent)} - kinds
    assert missing == {"ExecutionTerminated", "ExecutionRewound", "GenericEvent"}
    assert {Status.Completed, Status.Failed, Status.Running, Status.Suspended} <= ends


@pytest.mark.parametrize("form", [as_generator, as_coroutine])
def test_a_program_written_by_hand_runs(form: Any) -> None:
    program = Program(
        (
            (made_up.All((made_up.Call(1), made_up.Child(2))), made_up.Race(made_up.Call(3, 1, 2), after=True)),
            (made_up.Try((made_up.Call(4, 1),), (made_up.Timer(1),)), made_up.Wait("x")),
        )
    )
    played = run(form(program), [0], ["x"])
    assert CODEC.decode(played.turns[-1].output) == [[1, 2], 3, "ActivityFailedError", None, 0]
