"""Sub-orchestrations."""

from __future__ import annotations

from typing import Any

import pytest
from engine_hub import NEVER, Hub, Status

from durable_ext.engine.turn import EngineOptions
from durable_ext.errors import InvalidInstanceIdError, SubOrchestrationFailedError
from durable_ext.history import (
    ExecutionStarted,
    ParentInstance,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceCreated,
    SubOrchestrationInstanceFailed,
)
from durable_ext.ids import child_execution_id


def double(context: Any) -> Any:
    return (yield context.call_activity("echo", context.get_input())) * 2


def hub(form: Any, **orchestrators: Any) -> Hub:
    return Hub(
        activities={"echo": lambda value: value, "never": lambda value: NEVER, "boom": lambda value: 1 / 0},
        orchestrators={name: form(each) for name, each in {"double": double, **orchestrators}.items()},
    )


def run(played: Hub, orchestrator: Any, input_: Any = None) -> Any:
    instance = played.start(orchestrator, input_)
    played.run()
    return instance


def test_a_child_returns_its_output(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        return (yield context.call_sub_orchestrator("double", 21))

    played = hub(form)
    instance = run(played, form(orchestrator))
    assert instance.output == 42
    assert len(instance.recorded(SubOrchestrationInstanceCreated)) == 1
    assert len(instance.recorded(SubOrchestrationInstanceCompleted)) == 1


def test_the_childs_ids_follow_from_the_call(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_activity("echo", 1)
        return (yield context.call_sub_orchestrator("double", 21))

    played = hub(form)
    instance = run(played, form(orchestrator))
    (created,) = instance.recorded(SubOrchestrationInstanceCreated)
    assert created.instance_id == "e0:1"
    (started,) = played.instances["e0:1"].recorded(ExecutionStarted)
    assert started.execution_id == started.start_id == child_execution_id("e0", 1)
    assert started.parent == ParentInstance(name="orchestrator", instance_id="abc123", execution_id="e0", task_id=1)


def test_children_run_in_parallel(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        return (yield context.task_all([context.call_sub_orchestrator("double", n) for n in range(5)]))

    instance = run(hub(form), form(orchestrator))
    assert instance.output == [0, 2, 4, 6, 8]
    assert len(instance.turns) == 2


def test_a_given_id_is_used(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        return (yield context.call_sub_orchestrator("double", 1, "my child"))

    played = hub(form)
    run(played, form(orchestrator))
    assert played.instances["my child"].output == 2


@pytest.mark.parametrize(
    "instance_id", ["@entity", "a/b", "a\\b", "a#b", "a?b", "a\nb", "x" * 257, "abc123"], ids=lambda each: each[:8]
)
def test_a_bad_id_raises_at_the_call_and_takes_no_number(form: Any, instance_id: str) -> None:
    def orchestrator(context: Any) -> Any:
        for call in (context.call_sub_orchestrator, context.start_orchestration):
            with pytest.raises(ValueError, match="instance"):
                call("double", 1, instance_id)
        return (yield context.call_sub_orchestrator("double", 1, "y" * 256))

    instance = run(hub(form), form(orchestrator))
    assert instance.output == 2
    assert instance.recorded(SubOrchestrationInstanceCreated)[0].event_id == 0


def test_a_child_cannot_call_its_parents_id(form: Any) -> None:
    def child(context: Any) -> Any:
        assert context.parent_instance_id == "abc123"
        yield context.call_sub_orchestrator("double", 1, "abc123")

    def orchestrator(context: Any) -> Any:
        assert context.parent_instance_id is None
        try:
            yield context.call_sub_orchestrator("child", instance_id="kid")
        except SubOrchestrationFailedError as error:
            return [error.type, error.message]

    kind, message = run(hub(form, child=child), form(orchestrator)).output
    assert kind == "ValueError"
    assert "must be different than the instance ID of the orchestration that starts it" in message


def test_an_empty_id_means_a_derived_one(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        return (yield context.call_sub_orchestrator("double", 1, ""))

    instance = run(hub(form), form(orchestrator))
    assert instance.recorded(SubOrchestrationInstanceCreated)[0].instance_id == "e0:0"


def test_a_failed_child_raises_a_typed_error(form: Any) -> None:
    def child(context: Any) -> Any:
        yield context.call_activity("boom")

    def orchestrator(context: Any) -> Any:
        try:
            yield context.call_sub_orchestrator("child", instance_id="kid")
        except SubOrchestrationFailedError as error:
            return [
                error.task_name,
                error.task_id,
                error.type,
                error.cause is not None and error.cause.error_type,
                error.is_caused_by(ZeroDivisionError),
                str(error),
            ]

    played = hub(form, child=child)
    name, task_id, kind, cause, caused, text = run(played, form(orchestrator)).output
    assert (name, task_id, kind, cause, caused) == ("child", 0, "ActivityFailedError", "ZeroDivisionError", True)
    assert text.startswith(
        "Orchestrator function 'child' failed: Activity function 'boom' failed:  ZeroDivisionError: division by zero"
    )
    assert played.instances["kid"].status is Status.Failed


def test_a_terminated_child_raises_too(form: Any) -> None:
    def child(context: Any) -> Any:
        yield context.call_activity("never")

    def orchestrator(context: Any) -> Any:
        try:
            yield context.call_sub_orchestrator("child", instance_id="kid")
        except SubOrchestrationFailedError as error:
            return str(error).split(" \n ")[0]

    played = hub(form, child=child)
    instance = played.start(form(orchestrator))
    played.terminate("no more", to="kid", at=5)
    played.run()
    assert instance.output == "Orchestrator function 'child' was terminated: no more"


def test_a_child_answers_its_parent_after_continuing_as_new(form: Any) -> None:
    def child(context: Any) -> Any:
        if context.get_input() < 3:
            yield context.call_activity("echo")
            context.continue_as_new(context.get_input() + 1)
            return None
        return context.parent_instance_id

    def orchestrator(context: Any) -> Any:
        return (yield context.call_sub_orchestrator("child", 0))

    assert run(hub(form, child=child), form(orchestrator)).output == "abc123"


def test_a_start_without_waiting_returns_the_id_and_hears_nothing(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        derived = context.start_orchestration("double", 4)
        given = context.start_orchestration("double", 5, "given")
        return [derived, given, (yield context.call_activity("echo", "done"))]

    played = hub(form)
    instance = run(played, form(orchestrator))
    assert instance.output == ["e0:0", "given", "done"]
    assert [played.instances[name].output for name in ("e0:0", "given")] == [8, 10]
    created = instance.recorded(SubOrchestrationInstanceCreated)
    assert [each.fire_and_forget for each in created] == [True, True]
    assert not played.instances["given"].recorded(ExecutionStarted)[0].parent
    assert not played.instances["given"].messages


def test_a_parent_that_ends_leaves_its_children_be(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        context.call_sub_orchestrator("double", 1, "kid")
        return (yield context.call_activity("echo", "done"))

    played = hub(form)
    instance = run(played, form(orchestrator))
    assert instance.output == "done"
    assert played.instances["kid"].status is Status.Completed
    assert not instance.recorded(SubOrchestrationInstanceCompleted)


def test_a_child_whose_id_is_live_fails_in_the_parent(form: Any) -> None:
    def child(context: Any) -> Any:
        yield context.call_activity("never")

    def orchestrator(context: Any) -> Any:
        context.call_sub_orchestrator("child", instance_id="kid")
        yield context.call_activity("echo")
        try:
            yield context.call_sub_orchestrator("child", instance_id="kid")
        except SubOrchestrationFailedError as error:
            return error.message

    instance = run(hub(form, child=child), form(orchestrator))
    assert instance.output == "the id is live"
    assert len(instance.recorded(SubOrchestrationInstanceFailed)) == 1


def test_a_child_gets_the_version_given_or_the_default_not_its_parents(form: Any) -> None:
    def child(context: Any) -> Any:
        return context.version
        yield

    def orchestrator(context: Any) -> Any:
        given = yield context.call_sub_orchestrator("child", version="7")
        return [context.version, given, (yield context.call_sub_orchestrator("child"))]

    played = hub(form, child=child)
    played.options = EngineOptions(default_version="2")
    instance = played.start(form(orchestrator), version="1")
    played.run()
    assert instance.output == ["1", "7", "2"]


def test_no_version_is_none(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        return [context.version]
        yield

    assert run(hub(form), form(orchestrator)).output == [None]


def test_the_error_of_a_bad_id_names_the_rule(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            yield context.call_sub_orchestrator("double", 1, "@me")
        except InvalidInstanceIdError as error:
            return error.rule

    assert run(hub(form), form(orchestrator)).output == "a leading '@' is reserved for entities"
