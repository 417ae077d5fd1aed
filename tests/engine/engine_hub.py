"""A task hub in a few dictionaries: plays sessions against a simulated outside.

Activities are functions, the clock jumps to whatever is due next, children are instances of their own. Every turn is
checked on the way: no action is asked for twice, and a fresh session that replays the history stands where the live
one does. The order of everything is fixed, so a play can be repeated to the letter.
"""

from __future__ import annotations

import functools
import heapq
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from durable_ext.codec import JsonCodec
from durable_ext.engine.orchestration import OrchestrationSession
from durable_ext.engine.turn import EngineOptions, Turn
from durable_ext.errors import FailureDetails, describe, details_json
from durable_ext.history import (
    EventRaised,
    EventSent,
    ExecutionCompleted,
    ExecutionResumed,
    ExecutionRewound,
    ExecutionStarted,
    ExecutionSuspended,
    ExecutionTerminated,
    HistoryEvent,
    OrchestrationRuntimeStatus,
    SubOrchestrationInstanceCreated,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
    TimerCreated,
    count_rewinds,
    decode_events,
    encode_events,
    outcome_task_id,
)
from durable_ext.messages import Message, WorkItem, answer_to_parent

Status = OrchestrationRuntimeStatus
EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
CODEC = JsonCodec()
NEVER: Any = object()
"""What an activity returns that has no outcome."""

ACTIONS = (TaskScheduled, SubOrchestrationInstanceCreated, TimerCreated, EventSent)


class Instance:
    """One instance: its history, its live session, and what came of each turn."""

    def __init__(self, hub: Hub, instance_id: str, name: str) -> None:
        self.hub, self.instance_id, self.name = hub, instance_id, name
        self.session = hub.new_session(name)
        self.history: list[HistoryEvent] = []
        self.turns: list[Turn] = []
        self.inbox: list[HistoryEvent] = []
        self.kept: list[HistoryEvent] = []  # external events that were left unread
        self.is_cold = False  # the session knows nothing of the kept
        self.custom_status: Any = None
        self.generations: list[list[HistoryEvent]] = []

    @property
    def status(self) -> OrchestrationRuntimeStatus:
        return self.turns[-1].runtime_status if self.turns else Status.Pending

    @property
    def execution_id(self) -> str | None:
        return self.turns[-1].execution_id if self.turns else None

    @property
    def output(self) -> Any:
        """The output: restored if the instance completed, else the text."""
        text = self.turns[-1].output
        return CODEC.decode(text) if self.status is Status.Completed else text

    @property
    def failure(self) -> FailureDetails:
        found = self.end.failure_details
        assert found is not None
        return found

    @property
    def end(self) -> ExecutionCompleted:
        return next(event for event in reversed(self.history) if isinstance(event, ExecutionCompleted))

    @property
    def answer(self) -> Message | None:
        """What its parent was told."""
        started = self.session.started
        assert started is not None
        return answer_to_parent(started, self.end, count_rewinds(self.history))

    def awaits(self, outcome: HistoryEvent) -> bool:
        """Whether a task waits for this outcome."""
        task_id = outcome_task_id(outcome)
        assert task_id is not None
        return self.session.is_open(task_id, outcome)

    def recorded(self, kind: type) -> list[Any]:
        """The events of one kind in the history."""
        return [event for event in self.history if type(event) is kind]

    @property
    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.history]

    @property
    def work(self) -> list[WorkItem]:
        """Every activity call that was sent."""
        return [item for turn in self.turns for item in turn.work]

    @property
    def messages(self) -> list[Message]:
        """Every message that was sent."""
        return [message for turn in self.turns for message in turn.messages]

    def replayed(self) -> OrchestrationSession:
        """A fresh session on what is stored."""
        session = self.hub.new_session(self.name)
        session.replay(decode_events(encode_events(self.history)))
        return session

    def evict(self) -> None:
        """Unload; the next turn replays."""
        self.session.close()
        self.session = self.replayed() if self.history else self.hub.new_session(self.name)
        self.is_cold = True

    def advance(self, events: Sequence[HistoryEvent]) -> Turn:
        if self.hub.cold or (self.status.is_terminal and self.history):
            self.evict()
        if self.is_cold:
            self.kept, events, self.is_cold = [], [*self.kept, *events], False
        turn = self.session.advance(self.hub.now, events)
        self.kept = [each for each in self.kept if not any(each is read for read in turn.read)] + list(turn.unread)
        self._append(turn)
        self.turns.append(turn)
        if self.hub.check:
            self.check()
        return turn

    def _append(self, turn: Turn) -> None:
        if turn.replaces_history:
            self.generations.append(self.history)
            self.history = []
        self.history += turn.events
        asked = [event.event_id for event in self.history if isinstance(event, ACTIONS)]
        assert len(asked) == len(set(asked)), f"an action was asked for twice: {asked}"

    def check(self) -> None:
        """The live session and one that replays what is stored agree."""
        fresh = self.replayed()
        assert state_of(fresh) == state_of(self.session)
        if self.kept:
            again = fresh.advance(self.hub.now, self.kept)
            assert list(again.unread) == self.kept
            assert len(again.events) == 2, "what was left unread is left so again"
        fresh.close()


def _shown(value: Any) -> str:
    return re.sub("0x[0-9a-f]+", "0x", repr(value))


def state_of(session: OrchestrationSession) -> Any:
    """Everything about a session that matters to what it does next."""
    if session._broken is not None:
        return (str(session._broken), session.runtime_status)
    feeder = session._feeder
    assert feeder is not None
    execution, driver = feeder.execution, feeder.driver
    return (
        session.runtime_status,
        session.started,
        session._now,
        feeder.has_begun,
        feeder.suspension.held,
        driver.done,
        _shown(driver.value),
        _shown(driver.error),
        execution.next_id,
        list(execution.open),
        [str(call.action) for call in execution.open.values()],
        list(execution.pending),
        execution.mailbox.unread(),
        {name: (box.open, len(box.watched), len(box.covered)) for name, box in execution.mailbox._boxes.items()},
        execution.custom_status,
        execution.uuids,
        execution.now,
    )


class Hub:
    """Instances and what is on its way to them. `merge` puts all that is due into one turn, else each into its own."""

    def __init__(
        self,
        *,
        orchestrators: Mapping[str, Callable[..., Any]] | None = None,
        activities: Mapping[str, Callable[..., Any]] | None = None,
        durations: Mapping[str, float] | None = None,
        merge: bool = True,
        cold: bool = False,
        check: bool = True,
        options: EngineOptions | None = None,
        input_type: Any = None,
    ) -> None:
        self.orchestrators = dict(orchestrators or {})
        self.activities = dict(activities or {})
        self.durations = dict(durations or {})
        self.merge, self.cold, self.check = merge, cold, check
        self.options = options or EngineOptions()
        self.input_type = input_type
        self.now = EPOCH
        self.instances: dict[str, Instance] = {}
        self.dropped: list[Message] = []
        self._due: list[tuple[datetime, int, Message]] = []
        self._order = count()

    def new_session(self, name: str) -> OrchestrationSession:
        return OrchestrationSession(
            self.orchestrators[name], codec=CODEC, options=self.options, input_type=self.input_type
        )

    # --- what clients do ------------------------------------------------------------------------------

    def start(
        self, orchestrator: Any, input_: Any = None, *, instance_id: str = "abc123", version: str | None = None
    ) -> Instance:
        name = orchestrator if isinstance(orchestrator, str) else getattr(orchestrator, "__name__", "Orchestrator")
        if callable(orchestrator):
            self.orchestrators[name] = orchestrator
        started = ExecutionStarted(
            timestamp=self.now,
            name=name,
            instance_id=instance_id,
            execution_id="e0",
            start_id="e0",
            input=CODEC.encode(input_),
            version=version,
        )
        self.instances[instance_id] = Instance(self, instance_id, name)
        self.post(Message(instance_id=instance_id, execution_id="e0", event=started))
        return self.instances[instance_id]

    def raise_event(self, name: str, data: Any = None, *, to: str = "abc123", at: float = 0) -> None:
        self._command(EventRaised(timestamp=self.now, name=name, input=CODEC.encode(data)), to, at)

    def terminate(self, reason: str = "enough", *, to: str = "abc123", at: float = 0, recurse: bool = False) -> None:
        self._command(ExecutionTerminated(timestamp=self.now, reason=reason, recurse=recurse), to, at)

    def suspend(self, reason: str = "wait", *, to: str = "abc123", at: float = 0) -> None:
        self._command(ExecutionSuspended(timestamp=self.now, reason=reason), to, at)

    def resume(self, reason: str = "go", *, to: str = "abc123", at: float = 0) -> None:
        self._command(ExecutionResumed(timestamp=self.now, reason=reason), to, at)

    def rewind(self, reason: str = "again", *, to: str = "abc123", at: float = 0) -> None:
        self._command(ExecutionRewound(timestamp=self.now, reason=reason), to, at)

    def _command(self, event: HistoryEvent, to: str, at: float) -> None:
        self.post(Message(instance_id=to, event=event), EPOCH + timedelta(seconds=at))

    # --- the outside ----------------------------------------------------------------------------------

    def post(self, message: Message, at: datetime | None = None) -> None:
        due = max(at or message.visible_at or self.now, self.now)
        heapq.heappush(self._due, (due, next(self._order), message))

    def run(self, *, until: float | None = None) -> None:
        """Deliver what is on its way, in order of time, until nothing is left (or the clock is past `until`)."""
        while self._due and (until is None or self._due[0][0] <= EPOCH + timedelta(seconds=until)):
            self.now = max(self.now, self._due[0][0])
            while self._due and self._due[0][0] <= self.now:
                self._deliver(heapq.heappop(self._due)[2])
            for instance in list(self.instances.values()):
                self._take_turns(instance)

    def _deliver(self, message: Message) -> None:
        event, instance = message.event, self.instances.get(message.instance_id)
        if isinstance(event, ExecutionStarted):
            if instance is None:
                instance = self.instances[message.instance_id] = Instance(self, message.instance_id, event.name)
            elif instance.turns and not self._admits_again(instance, event):
                return
        if instance is None or self._is_stale(instance, message):
            self.dropped.append(message)
        else:
            instance.inbox.append(event)

    def _admits_again(self, instance: Instance, event: ExecutionStarted) -> bool:
        first = instance.session.started
        assert first is not None
        if first.start_id == event.execution_id or not instance.status.is_terminal:
            if instance.status.is_terminal and (answer := instance.answer):
                self.post(answer)
            elif first.start_id != event.execution_id and event.parent is not None:
                failure = FailureDetails(error_type="ValueError", error_message="the id is live")
                refusal = SubOrchestrationInstanceFailed(
                    timestamp=self.now, task_scheduled_id=event.parent.task_id, reason="x", failure_details=failure
                )
                self.post(Message(instance_id=event.parent.instance_id, event=refusal))
            return False
        self.instances[instance.instance_id] = Instance(self, instance.instance_id, event.name)
        self.instances[instance.instance_id].inbox.append(event)
        return False

    def _is_stale(self, instance: Instance, message: Message) -> bool:
        if instance.status.is_terminal and not isinstance(message.event, ExecutionRewound):
            return True
        return None not in (message.execution_id, instance.execution_id) and (
            message.execution_id != instance.execution_id and not isinstance(message.event, ExecutionStarted)
        )

    def _take_turns(self, instance: Instance) -> None:
        while instance.inbox:
            taken = instance.inbox if self.merge else instance.inbox[:1]
            instance.inbox = [] if self.merge else instance.inbox[1:]
            if instance.status.is_terminal and not self._is_rewound(instance, taken):
                continue
            turn = instance.advance(taken)
            for message in turn.messages:
                self.post(message)
            for item in turn.work:
                self._work(item)

    def _is_rewound(self, instance: Instance, events: Sequence[HistoryEvent]) -> bool:
        """Whether an ended instance runs again; if it ended well, its parent is told once more."""
        if not any(isinstance(event, ExecutionRewound) for event in events):
            return False
        if instance.status is not Status.Failed and (answer := instance.answer):
            self.post(answer)
        return instance.status is Status.Failed

    def _work(self, item: WorkItem) -> None:
        outcome = self._outcome(item)
        if outcome is not None:
            due = self.now + timedelta(seconds=self.durations.get(item.name, 0))
            self.post(Message(instance_id=item.instance_id, execution_id=item.execution_id, event=outcome), due)

    def _outcome(self, item: WorkItem) -> HistoryEvent | None:
        try:
            function = self.activities[item.name]
            result = function(CODEC.decode(item.input))
        except Exception as error:
            return failed(item, error, self.now)
        if result is NEVER:
            return None
        result = CODEC.encode(result)
        return TaskCompleted(timestamp=self.now, task_scheduled_id=item.task_id, result=result, asked=item.asked)


def failed(item: WorkItem, error: Exception, now: datetime) -> TaskFailed:
    """How a failed activity is told."""
    failure = describe(error, "the activity's traceback")
    if getattr(error, "final", False):
        failure = FailureDetails(
            error_type=failure.error_type, error_message=failure.error_message, is_non_retriable=True
        )
    return TaskFailed(
        timestamp=now,
        task_scheduled_id=item.task_id,
        reason=f"Activity function '{item.name}' failed:  {failure.error_type}: {failure.error_message}",
        details=details_json(failure),
        failure_details=failure,
        asked=item.asked,
    )


def play(orchestrator: Callable[..., Any], input_: Any = None, *, events: Iterable[Any] = (), **about: Any) -> Instance:
    """Start one instance, raise `events` of (seconds, name, data), and run until nothing is on its way."""
    hub = Hub(activities={**ACTIVITIES, **about.pop("activities", {})}, **about)
    instance = hub.start(orchestrator, input_)
    for at, name, data in events:
        hub.raise_event(name, data, at=at)
    hub.run()
    return instance


def boom(value: Any) -> Any:
    raise ValueError(f"boom {value}")


ACTIVITIES: dict[str, Callable[..., Any]] = {
    "hello": lambda name: f"Hello {name}!",
    "echo": lambda value: value,
    "boom": boom,
    "never": lambda value: NEVER,
}


class Flaky:
    """An activity that fails a number of times."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.failures, self.calls, self.error = failures, 0, error or ValueError("not yet")

    def __call__(self, value: Any) -> Any:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return value


def seconds(instance: Instance) -> list[float]:
    """When each timer of an instance was due, in seconds from the start."""
    return [(event.fire_at - EPOCH).total_seconds() for event in instance.recorded(TimerCreated)]


def as_coroutine(orchestrator: Callable[..., Any]) -> Callable[..., Any]:
    """The same orchestrator as a coroutine: each `yield` of a generator becomes an `await`."""

    @functools.wraps(orchestrator)
    async def awaiting(context: Any) -> Any:
        steps = orchestrator(context)
        resume, value = steps.send, None
        try:
            while True:
                try:
                    task = resume(value)
                except StopIteration as stop:
                    return stop.value
                try:
                    resume, value = steps.send, await task
                except Exception as error:
                    resume, value = steps.throw, error
        finally:
            steps.close()

    return awaiting
