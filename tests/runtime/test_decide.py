"""One turn, decided: what becomes of everything that arrived."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from durable_ext.codec import JsonCodec
from durable_ext.engine.turn import EngineOptions
from durable_ext.history import (
    EventRaised,
    ExecutionStarted,
    ExecutionTerminated,
    GenericEvent,
    HistoryEvent,
    OrchestrationRuntimeStatus,
    TaskCompleted,
)
from durable_ext.messages import WorkItem
from durable_ext.registry import Orchestrator, Registry
from durable_ext.runtime.decide import Decision, TurnInput, decide, decide_cold
from durable_ext.runtime.failing import UnreadableHistoryError
from durable_ext.runtime.program import Program
from durable_ext.runtime.state import Arrival, LocalOutcome, Memory
from durable_ext.storage.contract import Delivery, Snapshot

S = OrchestrationRuntimeStatus
NOW = datetime(2024, 5, 1, tzinfo=UTC)


def program(function: Callable[[Any], Any]) -> Program:
    registry = Registry()
    registry.orchestrators.add(Orchestrator(name="o", function=function))
    return Program(registry=registry, codec=JsonCodec(), options=EngineOptions())


def start(execution_id: str = "e") -> Delivery:
    event = ExecutionStarted(timestamp=NOW, name="o", instance_id="i", execution_id=execution_id, start_id=execution_id)
    return Delivery(receipt=f"start of {execution_id}", instance_id="i", event=event, execution_id=execution_id)


def event(receipt: object, name: str = "go", **fields: Any) -> Delivery:
    raised = EventRaised(timestamp=NOW, name=name, input=f'"{receipt}"')
    return Delivery(receipt=str(receipt), instance_id="i", event=raised, **fields)


def snapshot(status: S | None = S.Pending, history: Sequence[HistoryEvent] = (), **fields: Any) -> Snapshot:
    return Snapshot(instance_id="i", version=1, status=status, history=list(history), **fields)


class Instance:
    """An instance whose turns are decided one after the other, and committed if the test does not say otherwise."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.program = program(function)
        self.memory = Memory("i")
        self.history: list[HistoryEvent] = []
        self.status: S | None = S.Pending
        self.turn(start())

    def turn(self, *arrivals: Arrival, cold: bool = False) -> Decision:
        is_first = not self.history
        read = snapshot(self.status, self.history) if cold or is_first else None
        decision = decide(self.memory, read, arrivals, self.program, NOW)
        if decision.turn is not None:
            self.history = [*([] if decision.replaces_history else self.history), *decision.turn.events]
            self.status = decision.turn.runtime_status
        return decision


def two_names(context: Any) -> Any:
    first = yield context.wait_for_external_event("first")
    second = yield context.wait_for_external_event("second")
    return [first, second]


def test_an_event_nobody_waits_for_is_kept_and_consumed_once_it_is_read() -> None:
    instance = Instance(two_names)
    early = instance.turn(event("b", "second"))
    assert (early.kept, early.consumed) == (["b"], [])
    assert early.turn is not None
    assert not any(isinstance(each, EventRaised) for each in early.turn.events)
    late = instance.turn(event("a", "first"))
    assert (late.kept, sorted(map(str, late.consumed))) == ([], ["a", "b"])
    assert late.turn is not None
    assert late.turn.output == '["a","b"]'


def test_a_kept_event_that_comes_again_is_left_alone() -> None:
    instance = Instance(two_names)
    instance.turn(event("b", "second"))
    again = instance.turn(event("b", "second"))
    assert again.is_empty


def test_what_is_kept_is_not_kept_again_after_a_cold_start() -> None:
    instance = Instance(two_names)
    instance.turn(event("b", "second"))
    cold = instance.turn(event("b", "second", is_kept=True), event("c", "other"), cold=True)
    assert (cold.kept, cold.consumed) == (["c"], [])
    last = instance.turn(event("a", "first"))
    assert sorted(map(str, last.consumed)) == ["a", "b"]


def test_kept_events_survive_an_end_and_not_another_line() -> None:
    instance = Instance(two_names)
    instance.turn(event("b", "second"))
    stop = ExecutionTerminated(timestamp=NOW)
    ended = instance.turn(Delivery(receipt="stop", instance_id="i", event=stop))
    assert ended.consumed == ["stop"]
    instance.memory.forget()
    left = instance.turn(event("b", "second", is_kept=True), cold=True)
    assert left.is_empty
    anew = instance.turn(event("b", "second", is_kept=True), start("e2"), cold=True)
    assert anew.replaces_history
    assert sorted(map(str, anew.consumed)) == ["b", "start of e2"]


def test_a_message_that_came_twice_counts_once() -> None:
    instance = Instance(two_names)
    decision = instance.turn(event("a", "first"), event("a", "first"), event("a", "first"))
    assert decision.consumed == ["a"]
    assert decision.kept == []


def test_the_work_items_of_local_outcomes_are_completed_also_if_nobody_waits_for_them() -> None:
    def call(context: Any) -> Any:
        return (yield context.call_activity("work"))

    instance = Instance(call)
    items = [WorkItem(instance_id="i", execution_id="e", task_id=n, name="work", orchestrator="o") for n in (0, 5)]
    outcomes = [
        LocalOutcome(each, TaskCompleted(timestamp=NOW, task_scheduled_id=each.task_id, result="1")) for each in items
    ]
    decision = instance.turn(*outcomes)
    assert decision.completed == [each.receipt for each in items]
    assert [each.reason for each in decision.drops] == ["task 5 is not open"]


def test_a_history_that_cannot_be_read_is_tried_again_and_then_fails_its_instance() -> None:
    unreadable = snapshot(S.Running, unreadable="expected an object")
    arrivals = [event("a", "first"), event("k", "second", is_kept=True)]
    with pytest.raises(UnreadableHistoryError, match="cannot be read: expected an object"):
        decide(Memory("i"), unreadable, arrivals, program(two_names), NOW)
    decision = decide(Memory("i"), unreadable, arrivals, program(two_names), NOW, fault=RuntimeError("tried"))
    assert decision.turn is not None
    assert (decision.turn.runtime_status, decision.turn.events) == (S.Failed, ())
    assert "Purge it" in str(decision.turn.output)
    assert decision.consumed == ["a"]
    (letter,) = decision.dead_letters
    assert letter.payload is not None
    assert '"first"' in letter.payload


def test_what_comes_for_an_ended_instance_with_an_unreadable_history_is_dropped() -> None:
    decision = decide(Memory("i"), snapshot(S.Failed, unreadable="odd"), [event("a", "first")], program(two_names), NOW)
    assert decision.turn is None
    assert decision.consumed == ["a"]
    assert [each.is_loss for each in decision.drops] == [True]


def test_an_instance_with_an_unreadable_history_can_be_started_again() -> None:
    decision = decide(Memory("i"), snapshot(S.Failed, unreadable="odd"), [start("e2")], program(two_names), NOW)
    assert decision.replaces_history


def test_a_message_that_cannot_be_read_fails_the_instance_that_may_wait_for_it() -> None:
    instance = Instance(two_names)
    odd = Delivery(
        receipt="x", instance_id="i", event=GenericEvent(timestamp=NOW, data="{odd"), unreadable="expected a quote"
    )
    decision = instance.turn(odd)
    assert decision.turn is not None
    assert decision.turn.runtime_status is S.Failed
    assert decision.consumed == ["x"]
    assert [(each.kind, each.payload) for each in decision.dead_letters] == [("message", "{odd")]


def test_a_turn_decided_elsewhere_is_the_same_turn() -> None:
    """What a turn starts from and what it leads to can be sent to another process and back."""
    arrivals: list[Arrival] = [start(), event("b", "second"), event("a", "first")]
    turn = TurnInput(snapshot=snapshot(), arrivals=arrivals, now=NOW)
    there = msgspec.msgpack.decode(msgspec.msgpack.encode(turn), type=TurnInput)
    here, apart = decide_cold(program(two_names), turn), decide_cold(program(two_names), there)
    back = msgspec.msgpack.decode(msgspec.msgpack.encode(apart), type=Decision)
    assert msgspec.json.encode(back) == msgspec.json.encode(here)
    assert here.turn is not None
    assert here.turn.output == '["a","b"]'
