"""How failures look to the code that catches them, and to those who read the output."""

from __future__ import annotations

import json
from typing import Any

import pytest
from engine_hub import Hub, Status, boom, play

from durable_ext.errors import (
    ActivityFailedError,
    DurableError,
    SubOrchestrationFailedError,
    TaskFailedError,
)
from durable_ext.history import ExecutionCompleted, TaskFailed


def caught(form: Any, activity: Any) -> Any:
    """The facts an orchestrator gets of a failed activity."""
    found: dict[str, Any] = {}

    def orchestrator(context: Any) -> Any:
        try:
            yield context.call_activity("fails", "input")
        except ActivityFailedError as error:
            found.update(error=error)

    play(form(orchestrator), activities={"fails": activity}, check=False)
    return found["error"]


def test_the_text_of_a_failed_activity_is_reason_and_details_as_field_code_parses_them(form: Any) -> None:
    error = caught(form, boom)
    reason, details = str(error).split("\n")
    assert reason == "Activity function 'fails' failed:  ValueError: boom input "
    assert json.loads(details)["Message"] == " ValueError: boom input"
    assert json.loads(details)["Message"].split(":", 1)[1].strip() == "boom input"


def test_a_failure_carries_type_message_traceback_attempt_and_cause(form: Any) -> None:
    def fails(value: Any) -> Any:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ValueError("outer") from inner

    error = caught(form, fails)
    assert isinstance(error, TaskFailedError)
    assert isinstance(error, DurableError)
    assert (error.task_name, error.task_id, error.attempt) == ("fails", 0, 1)
    assert (error.type, error.message, error.traceback) == ("ValueError", "outer", "the activity's traceback")
    assert error.cause is not None
    assert (error.cause.error_type, error.cause.error_message) == ("KeyError", "'inner'")
    assert error.details.inner == error.cause
    for kind in (ValueError, KeyError, "ValueError", "KeyError", "builtins.KeyError"):
        assert error.is_caused_by(kind)
    assert not error.is_caused_by(OSError)


def test_a_failed_activity_is_recorded_with_its_details(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_activity("boom", 1)

    instance = play(form(orchestrator))
    (event,) = instance.recorded(TaskFailed)
    assert event.failure_details.error_type == "ValueError"


def test_an_uncaught_failure_nests_its_text_in_the_output(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_activity("boom", 1)

    instance = play(form(orchestrator))
    assert instance.status is Status.Failed
    assert instance.output == (
        "Orchestrator function 'orchestrator' failed: "
        "Activity function 'boom' failed:  ValueError: boom 1 \n "
        '{"Message": " ValueError: boom 1"}'
    )
    assert instance.failure.error_type == "ActivityFailedError"
    assert instance.failure.is_caused_by(ValueError)


def test_an_uncaught_error_of_the_code_fails_the_instance_readably(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_activity("echo")
        raise KeyError("missing")

    instance = play(form(orchestrator))
    assert instance.output == "Orchestrator function 'orchestrator' failed: 'missing'"
    assert instance.failure.error_type == "KeyError"
    assert instance.end.orchestration_status is Status.Failed
    trace = instance.failure.stack_trace
    assert trace is not None
    assert 'raise KeyError("missing")' in trace
    assert "durable_ext" not in trace


def test_an_error_without_text_shows_its_type(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        raise ValueError
        yield

    assert play(form(orchestrator)).output == "Orchestrator function 'orchestrator' failed: <class 'ValueError'>"


def test_an_error_before_the_first_yield_fails_alike_in_every_form() -> None:
    def plain(context: Any) -> Any:
        raise ValueError("boom")

    def generator(context: Any) -> Any:
        raise ValueError("boom")
        yield

    async def coroutine(context: Any) -> Any:
        raise ValueError("boom")

    for orchestrator in (plain, generator, coroutine):
        instance = play(orchestrator)
        assert instance.output == f"Orchestrator function '{orchestrator.__name__}' failed: boom"
        assert instance.kinds == [
            "OrchestratorStarted",
            "ExecutionStarted",
            "ExecutionCompleted",
            "OrchestratorCompleted",
        ]


def test_what_was_asked_for_before_the_error_still_goes_out(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        context.call_activity("never", 1)
        raise ValueError("boom")
        yield

    instance = play(form(orchestrator))
    assert [item.name for item in instance.work] == ["never"]
    assert isinstance(instance.history[-2], ExecutionCompleted)


@pytest.mark.parametrize("value", [object(), {1, object()}, lambda: 1, float, b"\xff".decode("latin-1") and iter(())])
def test_an_output_that_cannot_be_stored_fails_the_instance(form: Any, value: Any) -> None:
    def orchestrator(context: Any) -> Any:
        return value
        yield

    instance = play(form(orchestrator), check=False)
    assert instance.status is Status.Failed
    assert instance.failure.error_type == "CodecError"


def test_a_task_returned_by_mistake_fails_the_instance(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        return context.call_activity("never")
        yield

    instance = play(form(orchestrator), check=False)
    assert instance.status is Status.Failed


def test_an_error_caught_and_compensated_completes(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            yield context.call_activity("boom", 1)
        except ActivityFailedError as error:
            return [(yield context.call_activity("echo", "compensated")), error.message]

    assert play(form(orchestrator)).output == ["compensated", "boom 1"]


def test_finally_blocks_may_call_activities(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            yield context.call_activity("boom", 1)
        finally:
            yield context.call_activity("echo", "cleaned up")

    instance = play(form(orchestrator))
    assert instance.status is Status.Failed
    assert [item.name for item in instance.work] == ["boom", "echo"]


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit("no"), BaseException("bare")])
def test_errors_that_are_no_exceptions_fail_the_instance_not_the_worker(form: Any, error: BaseException) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_activity("echo")
        raise error

    assert play(form(orchestrator)).status is Status.Failed


def test_a_keyboard_interrupt_is_for_the_process(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        play(form(orchestrator))


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_error_whose_text_raises_fails_the_instance_all_the_same(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_activity("echo")
        raise UnprintableError

    instance = play(form(orchestrator), check=False)
    assert instance.status is Status.Failed
    assert "UnprintableError" in instance.output


def test_errors_that_cause_each_other_are_described_once(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            yield context.call_activity("boom", 1)
        except ActivityFailedError as first:
            try:
                raise ValueError("second") from first
            except ValueError as second:
                third = RuntimeError("third")
                third.__cause__ = second
                second.__cause__ = third
                raise third  # noqa: B904 - the ring is the point

    instance = play(form(orchestrator))
    assert instance.failure.error_type == "RuntimeError"
    assert instance.failure.inner is not None
    assert instance.failure.inner.error_type == "ValueError"


def test_a_parent_sees_its_childs_failure_as_the_child_told_it(form: Any) -> None:
    def child(context: Any) -> Any:
        raise ValueError
        yield

    def orchestrator(context: Any) -> Any:
        try:
            yield context.call_sub_orchestrator("child")
        except SubOrchestrationFailedError as error:
            return [error.reason, error.type, str(error).split(" \n ")[1].split(",")[0]]

    hub = Hub(orchestrators={"child": form(child)})
    instance = hub.start(form(orchestrator))
    hub.run()
    reason, kind, details = instance.output
    assert reason == "Orchestrator function 'child' failed: <class 'ValueError'>"
    assert kind == "ValueError"
    assert details == "Message: "
