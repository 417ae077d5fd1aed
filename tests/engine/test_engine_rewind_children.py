"""Sub-orchestrations whose parent is rewound."""

from __future__ import annotations

from typing import Any

from engine_rewinding import fail_and_rewind

from durable_ext.errors import SubOrchestrationFailedError
from durable_ext.history import (
    ExecutionRewound,
)


def test_a_failed_child_is_rewound_instead_of_started_again(form: Any) -> None:
    def child(context: Any) -> Any:
        first = yield context.call_activity("works", "in the child")
        return [first, (yield context.call_activity("flaky", "fixed"))]

    def orchestrator(context: Any) -> Any:
        return (yield context.call_sub_orchestrator("child", instance_id="kid"))

    instance, calls, _ = fail_and_rewind(form(orchestrator), orchestrators={"child": form(child)})
    assert instance.output == ["in the child", "fixed"]
    assert calls.made == ["in the child"]
    request = next(message for message in instance.messages if isinstance(message.event, ExecutionRewound))
    assert request.instance_id == "kid"
    assert request.event.parent == instance.hub.instances["kid"].session.parent
    assert request.event.reason == "try again"
    assert instance.hub.instances["kid"].recorded(ExecutionRewound)[0].parent is None


def test_a_grandchild_that_failed_is_reached(form: Any) -> None:
    def grandchild(context: Any) -> Any:
        return (yield context.call_activity("flaky", "deep"))

    def child(context: Any) -> Any:
        return (yield context.call_sub_orchestrator("grandchild"))

    def orchestrator(context: Any) -> Any:
        return (yield context.task_all([context.call_sub_orchestrator("child") for _ in range(2)]))

    instance, _, _ = fail_and_rewind(
        form(orchestrator), failures=2, orchestrators={"child": form(child), "grandchild": form(grandchild)}
    )
    assert instance.output == ["deep", "deep"]


def test_a_rewound_child_that_fails_again_tells_its_parent(form: Any) -> None:
    def child(context: Any) -> Any:
        return (yield context.call_activity("flaky", "x"))

    def orchestrator(context: Any) -> Any:
        try:
            return (yield context.call_sub_orchestrator("child", instance_id="kid"))
        except SubOrchestrationFailedError as error:
            raise RuntimeError("because of the child") from error

    instance, _, _ = fail_and_rewind(form(orchestrator), failures=3, rewinds=3, orchestrators={"child": form(child)})
    assert instance.output == "x"
