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
    outcome_task_id,
)
from durable_ext.messages import answer_to_parent
from durable_ext.runtime.admission import Admission, Standing, admit
from durable_ext.storage.contract import Delivery, Snapshot

S = OrchestrationRuntimeStatus
NOW = datetime(2024, 5, 1, tzinfo=UTC)
PARENT = ParentInstance(name="boss", instance_id="p", execution_id="pe", task_id=7)
OTHER_PARENT = ParentInstance(name="boss", instance_id="q", execution_id="qe", task_id=1)

UNKNOWN = Standing("i")
PENDING = Standing("i", S.Pending)


def live(status: S = S.Running, parent: ParentInstance | None = None, execution_id: str = "e1") -> Standing:
    return Standing("i", status, msgspec.structs.replace(start("e1", parent), execution_id=execution_id))


def ended(status: S = S.Completed, parent: ParentInstance | None = None, result: str | None = '"done"') -> Standing:
    completed = ExecutionCompleted(timestamp=NOW, orchestration_status=status, result=result)
    return Standing("i", status, start("e1", parent), completed)


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


def judge(standing: Standing, *events: HistoryEvent | tuple[str, HistoryEvent], open_tasks: Any = (0,)) -> Admission:
    deliveries = []
    for number, each in enumerate(events):
        execution_id, fact = each if isinstance(each, tuple) else (None, each)
        deliveries.append(Delivery(receipt=number, instance_id="i", event=fact, execution_id=execution_id))
    return admit(
        standing, deliveries, lambda fact: outcome_task_id(fact) is None or outcome_task_id(fact) in open_tasks, NOW
    )


@pytest.mark.parametrize("standing", [UNKNOWN, PENDING, ended(), ended(S.Failed), ended(S.Terminated), live(S.Pending)])
def test_a_start_begins_a_line_where_none_is_live(standing: Standing) -> None:
    begun = start("e2")
    admission = judge(standing, begun)
    assert (admission.begins, admission.events, admission.drops) == (begun, [begun], [])


@pytest.mark.parametrize("standing", [live(), live(S.Suspended), live(execution_id="e9"), ended()])
def test_the_start_of_the_present_line_is_a_duplicate(standing: Standing) -> None:
    admission = judge(standing, start("e1"))
    assert admission.events == []
    assert [each.is_loss for each in admission.drops] == [False]
    assert admission.replies == []


def test_a_repeated_start_of_a_finished_child_tells_the_parent_again() -> None:
    (reply,) = judge(ended(parent=PARENT), start("e1", PARENT)).replies
    assert (reply.instance_id, reply.execution_id) == ("p", "pe")
    assert reply.event == SubOrchestrationInstanceCompleted(timestamp=NOW, task_scheduled_id=7, result='"done"')


@pytest.mark.parametrize("status", [S.Failed, S.Terminated])
def test_a_repeated_failure_is_the_message_that_was_sent_first(status: S) -> None:
    standing = ended(status, PARENT, "why")
    assert standing.started is not None
    assert standing.completed is not None
    assert judge(standing, start("e1", PARENT)).replies == [answer_to_parent(standing.started, standing.completed, 0)]


def test_a_child_start_on_a_live_id_fails_in_its_parent_naming_the_id() -> None:
    admission = judge(live(), start("e2", PARENT))
    (reply,) = admission.replies
    assert isinstance(reply.event, SubOrchestrationInstanceFailed)
    assert reply.event.task_scheduled_id == 7
    assert "status Running already exists" in reply.event.reason
    assert "'i'" in reply.event.reason
    assert len(admission.drops) == 1


def test_a_stray_start_on_a_live_id_is_dropped_as_a_loss() -> None:
    admission = judge(live(), start("e2"))
    assert admission.events == []
    assert [each.is_loss for each in admission.drops] == [True]


def test_of_two_starts_the_clients_begins_and_the_parents_is_refused() -> None:
    ours = start("e3")
    admission = judge(UNKNOWN, start("e2", PARENT), ours)
    assert admission.begins == ours
    assert [each.instance_id for each in admission.replies] == ["p"]


def test_starts_go_first_and_the_rest_keeps_its_order() -> None:
    begun, first, second = start(), event("first"), event("second")
    assert judge(PENDING, first, second, begun).events == [begun, first, second]


def test_terminate_of_a_pending_instance_goes_through_the_session_with_its_start() -> None:
    begun, stop = start(), ExecutionTerminated(timestamp=NOW)
    assert judge(PENDING, stop, begun).events == [begun, stop]


def test_what_comes_before_the_start_of_a_pending_instance_waits_for_it() -> None:
    admission = judge(PENDING, event())
    assert [each.event for each in admission.deferred] == [event()]
    assert admission.drops == []


@pytest.mark.parametrize("standing", [UNKNOWN, ended(), ended(S.Failed), Standing("i", S.Terminated)])
def test_an_event_nobody_can_receive_is_a_loss(standing: Standing) -> None:
    admission = judge(standing, event())
    assert (admission.events, admission.deferred) == ([], [])
    assert [each.is_loss for each in admission.drops] == [True]


@pytest.mark.parametrize("standing", [UNKNOWN, PENDING, live(), ended()])
def test_a_message_for_another_execution_is_dropped_in_silence(standing: Standing) -> None:
    admission = judge(standing, ("old", outcome()))
    assert (admission.events, admission.deferred) == ([], [])
    assert [each.is_loss for each in admission.drops] == [False]


def test_the_first_outcome_of_an_open_task_counts() -> None:
    first = TaskCompleted(timestamp=NOW, task_scheduled_id=0, result="1")
    second = TaskCompleted(timestamp=NOW, task_scheduled_id=0, result="2")
    admission = judge(live(), ("e1", first), ("e1", second), ("e1", outcome(5)))
    assert admission.events == [first]
    assert [each.reason for each in admission.drops] == ["task 0 is not open", "task 5 is not open"]


def test_a_timer_answers_its_task_like_any_outcome() -> None:
    fired = TimerFired(timestamp=NOW, timer_id=3, fire_at=NOW)
    assert judge(live(), ("e1", fired), open_tasks=(3,)).events == [fired]
    assert judge(live(), ("e1", fired), open_tasks=()).events == []


def test_no_outcome_is_awaited_by_an_execution_that_has_not_begun() -> None:
    begun = start("e2")
    assert judge(ended(), ("e2", outcome()), begun).events == [begun]


def test_a_rewind_revives_a_failed_instance_and_what_follows_it_waits_for_the_next_turn() -> None:
    again, later = rewound(), event()
    admission = judge(ended(S.Failed), again, later)
    assert admission.rewinds
    assert admission.events == [again]
    assert [each.event for each in admission.deferred] == [later]


def test_a_second_rewind_has_nothing_to_do() -> None:
    admission = judge(ended(S.Failed), rewound(), rewound())
    assert len(admission.events) == 1
    assert len(admission.drops) == 1


def test_a_rewind_of_a_live_instance_is_dropped() -> None:
    assert judge(live(), rewound()).events == []


@pytest.mark.parametrize("status", [S.Completed, S.Terminated])
def test_a_rewind_that_reaches_a_child_which_did_not_fail_tells_its_outcome_again(status: S) -> None:
    admission = judge(ended(status, PARENT), rewound(PARENT))
    assert admission.events == []
    assert [each.instance_id for each in admission.replies] == ["p"]


@pytest.mark.parametrize("standing", [UNKNOWN, ended(S.Failed, OTHER_PARENT), live(parent=OTHER_PARENT)])
def test_a_rewind_of_a_child_that_is_gone_fails_in_the_parent(standing: Standing) -> None:
    admission = judge(standing, rewound(PARENT))
    (reply,) = admission.replies
    assert reply.instance_id == "p"
    assert isinstance(reply.event, SubOrchestrationInstanceFailed)
    assert "cannot be rewound" in reply.event.reason
    assert admission.events == []


def test_standing_reads_a_finished_history() -> None:
    completed = ExecutionCompleted(timestamp=NOW, orchestration_status=S.Completed, result="1")
    history: list[HistoryEvent] = [OrchestratorStarted(timestamp=NOW), start(parent=PARENT), completed]
    standing = Standing.of(Snapshot(instance_id="i", version=1, status=S.Completed, history=history))
    assert standing == Standing("i", S.Completed, start(parent=PARENT), completed)


def test_standing_of_a_revived_instance_has_no_end() -> None:
    completed = ExecutionCompleted(timestamp=NOW, orchestration_status=S.Failed, result="1")
    history: list[HistoryEvent] = [OrchestratorStarted(timestamp=NOW), start(), completed, rewound()]
    standing = Standing.of(Snapshot(instance_id="i", version=1, status=S.Running, history=history))
    assert standing.completed is None
    assert not standing.has_ended
