from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from durable_ext.history import (
    EventRaised,
    ExecutionCompleted,
    ExecutionRewound,
    ExecutionStarted,
    ExecutionTerminated,
    HistoryEvent,
    OrchestrationRuntimeStatus,
    OrchestratorStarted,
    ParentInstance,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TimerFired,
)
from durable_ext.messages import answer_to_parent
from durable_ext.runtime.message_filter import Filtered, filter_messages
from durable_ext.runtime.state import InstanceState
from durable_ext.storage.contract import Delivery, Snapshot

S = OrchestrationRuntimeStatus
NOW = datetime(2024, 5, 1, tzinfo=UTC)
PARENT = ParentInstance(name="boss", instance_id="p", execution_id="pe", task_id=7)
OTHER_PARENT = ParentInstance(name="boss", instance_id="q", execution_id="qe", task_id=1)

UNKNOWN = InstanceState("i")
PENDING = InstanceState("i", S.Pending)


def live(status: S = S.Running, parent: ParentInstance | None = None, execution_id: str = "e1") -> InstanceState:
    return InstanceState("i", status, msgspec.structs.replace(start("e1", parent), execution_id=execution_id))


def ended(
    status: S = S.Completed, parent: ParentInstance | None = None, result: str | None = '"done"'
) -> InstanceState:
    completed = ExecutionCompleted(timestamp=NOW, orchestration_status=status, result=result)
    return InstanceState("i", status, start("e1", parent), completed)


def start(execution_id: str = "e1", parent: ParentInstance | None = None) -> ExecutionStarted:
    return ExecutionStarted(
        timestamp=NOW, name="o", instance_id="i", execution_id=execution_id, start_id=execution_id, parent=parent
    )


def event(name: str = "go") -> EventRaised:
    return EventRaised(timestamp=NOW, name=name)


def outcome(task_id: int = 0) -> TaskCompleted:
    return TaskCompleted(timestamp=NOW, task_scheduled_id=task_id)


def rewound(parent: ParentInstance | None = None) -> ExecutionRewound:
    return ExecutionRewound(timestamp=NOW, parent=parent)


def sort(state: InstanceState, *events: HistoryEvent | tuple[str, HistoryEvent], open_tasks: Any = (0,)) -> Filtered:
    deliveries = []
    for number, each in enumerate(events):
        execution_id, fact = each if isinstance(each, tuple) else (None, each)
        deliveries.append(Delivery(receipt=number, instance_id="i", event=fact, execution_id=execution_id))
    return filter_messages(state, deliveries, lambda task_id, fact: task_id in open_tasks, NOW)


@pytest.mark.parametrize("state", [UNKNOWN, PENDING, ended(), ended(S.Failed), ended(S.Terminated), live(S.Pending)])
def test_a_start_begins_a_line_where_none_is_live(state: InstanceState) -> None:
    begun = start("e2")
    filtered = sort(state, begun)
    assert (filtered.begins, filtered.events, filtered.drops) == (begun, [begun], [])


@pytest.mark.parametrize("state", [live(), live(S.Suspended), live(execution_id="e9"), ended()])
def test_the_start_of_the_present_line_is_a_duplicate(state: InstanceState) -> None:
    filtered = sort(state, start("e1"))
    assert filtered.events == []
    assert [each.is_loss for each in filtered.drops] == [False]
    assert filtered.replies == []


def test_a_repeated_start_of_a_finished_child_tells_the_parent_again() -> None:
    (reply,) = sort(ended(parent=PARENT), start("e1", PARENT)).replies
    assert (reply.instance_id, reply.execution_id) == ("p", "pe")
    assert reply.event == SubOrchestrationInstanceCompleted(timestamp=NOW, task_scheduled_id=7, result='"done"')


@pytest.mark.parametrize("status", [S.Failed, S.Terminated])
def test_a_repeated_failure_is_the_message_that_was_sent_first(status: S) -> None:
    state = ended(status, PARENT, "why")
    assert state.started is not None
    assert state.completed is not None
    assert sort(state, start("e1", PARENT)).replies == [answer_to_parent(state.started, state.completed, 0)]


def test_a_child_start_on_a_live_id_fails_in_its_parent_naming_the_id() -> None:
    filtered = sort(live(), start("e2", PARENT))
    (reply,) = filtered.replies
    assert isinstance(reply.event, SubOrchestrationInstanceFailed)
    assert reply.event.task_scheduled_id == 7
    assert "status Running already exists" in reply.event.reason
    assert "'i'" in reply.event.reason
    assert len(filtered.drops) == 1


def test_a_stray_start_on_a_live_id_is_dropped_as_a_loss() -> None:
    filtered = sort(live(), start("e2"))
    assert filtered.events == []
    assert [each.is_loss for each in filtered.drops] == [True]


def test_of_two_starts_the_clients_begins_and_the_parents_is_refused() -> None:
    ours = start("e3")
    filtered = sort(UNKNOWN, start("e2", PARENT), ours)
    assert filtered.begins == ours
    assert [each.instance_id for each in filtered.replies] == ["p"]


def test_starts_go_first_and_the_rest_keeps_its_order() -> None:
    begun, first, second = start(), event("first"), event("second")
    assert sort(PENDING, first, second, begun).events == [begun, first, second]


def test_terminate_of_a_pending_instance_goes_through_the_session_with_its_start() -> None:
    begun, stop = start(), ExecutionTerminated(timestamp=NOW)
    assert sort(PENDING, stop, begun).events == [begun, stop]


def test_what_comes_before_the_start_of_a_pending_instance_waits_for_it() -> None:
    filtered = sort(PENDING, event())
    assert [each.event for each in filtered.deferred] == [event()]
    assert filtered.drops == []


@pytest.mark.parametrize("state", [UNKNOWN, ended(), ended(S.Failed), InstanceState("i", S.Terminated)])
def test_an_event_nobody_can_receive_is_a_loss(state: InstanceState) -> None:
    filtered = sort(state, event())
    assert (filtered.events, filtered.deferred) == ([], [])
    assert [each.is_loss for each in filtered.drops] == [True]


@pytest.mark.parametrize("state", [UNKNOWN, PENDING, live(), ended()])
def test_a_message_for_another_execution_is_dropped_in_silence(state: InstanceState) -> None:
    filtered = sort(state, ("old", outcome()))
    assert (filtered.events, filtered.deferred) == ([], [])
    assert [each.is_loss for each in filtered.drops] == [False]


def test_the_first_outcome_of_an_open_task_counts() -> None:
    first = TaskCompleted(timestamp=NOW, task_scheduled_id=0, result="1")
    second = TaskCompleted(timestamp=NOW, task_scheduled_id=0, result="2")
    filtered = sort(live(), ("e1", first), ("e1", second), ("e1", outcome(5)))
    assert filtered.events == [first]
    assert [each.reason for each in filtered.drops] == ["task 0 is not open", "task 5 is not open"]


def test_a_timer_answers_its_task_like_any_outcome() -> None:
    fired = TimerFired(timestamp=NOW, timer_id=3, fire_at=NOW)
    assert sort(live(), ("e1", fired), open_tasks=(3,)).events == [fired]
    assert sort(live(), ("e1", fired), open_tasks=()).events == []


def test_no_outcome_is_awaited_by_an_execution_that_has_not_begun() -> None:
    begun = start("e2")
    assert sort(ended(), ("e2", outcome()), begun).events == [begun]


def test_a_rewind_revives_a_failed_instance_and_what_follows_it_waits_for_the_next_turn() -> None:
    again, later = rewound(), event()
    filtered = sort(ended(S.Failed), again, later)
    assert filtered.rewinds
    assert filtered.events == [again]
    assert [each.event for each in filtered.deferred] == [later]


def test_a_second_rewind_has_nothing_to_do() -> None:
    filtered = sort(ended(S.Failed), rewound(), rewound())
    assert len(filtered.events) == 1
    assert len(filtered.drops) == 1


def test_a_rewind_of_a_live_instance_is_dropped() -> None:
    assert sort(live(), rewound()).events == []


@pytest.mark.parametrize("status", [S.Completed, S.Terminated])
def test_a_rewind_that_reaches_a_child_which_did_not_fail_tells_its_outcome_again(status: S) -> None:
    filtered = sort(ended(status, PARENT), rewound(PARENT))
    assert filtered.events == []
    assert [each.instance_id for each in filtered.replies] == ["p"]


@pytest.mark.parametrize("state", [UNKNOWN, ended(S.Failed, OTHER_PARENT), live(parent=OTHER_PARENT)])
def test_a_rewind_of_a_child_that_is_gone_fails_in_the_parent(state: InstanceState) -> None:
    filtered = sort(state, rewound(PARENT))
    (reply,) = filtered.replies
    assert reply.instance_id == "p"
    assert isinstance(reply.event, SubOrchestrationInstanceFailed)
    assert "cannot be rewound" in reply.event.reason
    assert filtered.events == []


def test_state_reads_a_finished_history() -> None:
    completed = ExecutionCompleted(timestamp=NOW, orchestration_status=S.Completed, result="1")
    history: list[HistoryEvent] = [OrchestratorStarted(timestamp=NOW), start(parent=PARENT), completed]
    state = InstanceState.of(Snapshot(instance_id="i", version=1, status=S.Completed, history=history))
    assert state == InstanceState("i", S.Completed, start(parent=PARENT), completed)


def test_state_of_a_revived_instance_has_no_end() -> None:
    completed = ExecutionCompleted(timestamp=NOW, orchestration_status=S.Failed, result="1")
    history: list[HistoryEvent] = [OrchestratorStarted(timestamp=NOW), start(), completed, rewound()]
    state = InstanceState.of(Snapshot(instance_id="i", version=1, status=S.Running, history=history))
    assert state.completed is None
    assert not state.has_ended


def kept(event: HistoryEvent) -> Delivery:
    return Delivery(receipt="kept", instance_id="i", event=event, is_kept=True)


def messages(state: InstanceState, *deliveries: Delivery) -> Filtered:
    return filter_messages(state, deliveries, lambda task_id, fact: True, NOW)


def test_kept_events_go_ahead_of_what_arrived_since() -> None:
    older, newer = event("older"), event("newer")
    assert messages(live(), Delivery(receipt=1, instance_id="i", event=newer), kept(older)).events == [older, newer]


def test_kept_events_come_right_after_the_rewind_that_revives_their_instance() -> None:
    again, older = rewound(), event("older")
    filtered = messages(ended(S.Failed), kept(older), Delivery(receipt=1, instance_id="i", event=again))
    assert filtered.events == [again, older]
    assert filtered.deferred == []


@pytest.mark.parametrize("state", [ended(), ended(S.Failed), PENDING])
def test_kept_events_of_an_instance_that_does_not_run_stay_kept(state: InstanceState) -> None:
    filtered = messages(state, kept(event()))
    assert (filtered.events, filtered.drops, len(filtered.left)) == ([], [], 1)


def test_kept_events_do_not_reach_the_next_line_on_their_id() -> None:
    begun = start("e2")
    filtered = messages(ended(), kept(event()), Delivery(receipt=1, instance_id="i", event=begun))
    assert filtered.events == [begun]
    assert len(filtered.drops) == 1


def test_an_answer_told_again_says_how_often_the_instance_was_rewound() -> None:
    state = InstanceState("i", S.Completed, start("e1", PARENT), ended(parent=PARENT).completed, rewinds=2)
    (reply,) = sort(state, start("e1", PARENT)).replies
    assert isinstance(reply.event, SubOrchestrationInstanceCompleted)
    assert reply.event.asked == 2
