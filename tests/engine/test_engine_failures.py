"""How failures look to the code that catches them, and to those who read the output."""

from __future__ import annotations

import contextlib
import json
from datetime import timedelta
from typing import Any

import pytest
from engine_hub import Hub, Status, boom, play

from durable_ext.errors import (
    ActivityFailedError,
    CodecError,
    DurableError,
    SubOrchestrationFailedError,
    TaskFailedError,
)
from durable_ext.history import (
    ExecutionCompleted,
    SubOrchestrationInstanceFailed,
    TaskFailed,
    encode_events,
)
from durable_ext.retry import RetryPolicy

POLICY = RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=3)


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


def test_an_uncaught_failure_is_told_once_in_the_output(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_activity("boom", 1)

    instance = play(form(orchestrator))
    assert instance.status is Status.Failed
    assert instance.output == (
        "Orchestrator function 'orchestrator' failed: Activity function 'boom' failed:  ValueError: boom 1"
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


def failed_through(form: Any, depth: int, fail: Any = None) -> Any:
    """An instance that fails `depth` levels below itself; `fail` is what each level does with the error."""

    def level(context: Any) -> Any:
        left = context.get_input()
        if left == 0:
            yield context.call_activity("boom", 1)
        try:
            yield context.call_sub_orchestrator("level", left - 1)
        except SubOrchestrationFailedError as error:
            if fail is not None:
                fail(error)
            raise

    hub = Hub(orchestrators={"level": form(level)}, activities={"boom": boom})
    instance = hub.start("level", depth)
    hub.run()
    assert instance.status is Status.Failed
    return instance


def test_a_failure_through_many_levels_names_each_of_them_once(form: Any) -> None:
    instance = failed_through(form, 12)
    assert instance.output.count("Orchestrator function 'level' failed: ") == 13
    assert instance.output.count("boom 1") == 1
    assert instance.output.endswith("Activity function 'boom' failed:  ValueError: boom 1")
    assert instance.failure.is_caused_by(ValueError)
    (told,) = instance.recorded(SubOrchestrationInstanceFailed)
    assert told.failure_details.stack_trace.count("boom 1") == 1


def test_the_text_of_a_failure_grows_with_its_levels_and_no_faster(form: Any) -> None:
    few, more, many = (len(encode_events(failed_through(form, depth).history)) for depth in (10, 20, 40))
    assert many - more < 2.2 * (more - few)
    assert many < 80_000


def wrap(error: Exception) -> None:
    raise RuntimeError(f"gave up: {error}") from error


def test_a_failure_that_every_level_tells_anew_has_a_longest_text(form: Any) -> None:
    instance = failed_through(form, 14, wrap)
    assert len(instance.output) < 10_000
    assert "characters left out" in instance.output
    assert instance.output.count("ValueError: boom 1") >= 1
    assert len(encode_events(instance.history)) < 1_000_000


def test_an_endless_row_of_levels_keeps_the_nearest_and_the_first_cause(form: Any) -> None:
    instance = failed_through(form, 300)
    assert "left out" in instance.output
    assert instance.output.endswith("left out)")
    assert "ValueError: boom 1" in instance.output
    assert instance.failure.is_caused_by(ValueError)
    assert len(encode_events(instance.history)) < 150_000


def test_the_output_names_each_cause_once(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            try:
                yield context.call_activity("boom", 1)
            except ActivityFailedError as error:
                raise KeyError("price") from error
        except KeyError as error:
            raise ValueError("no offer") from error

    assert play(form(orchestrator)).output == (
        "Orchestrator function 'orchestrator' failed: no offer; caused by KeyError: 'price'; "
        "caused by Activity function 'boom' failed:  ValueError: boom 1"
    )


def test_a_cause_that_the_error_names_itself_is_not_named_again(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            yield context.call_activity("boom", 1)
        except ActivityFailedError as error:
            raise ValueError(f"no offer: {error.reason}") from error

    assert play(form(orchestrator)).output == (
        "Orchestrator function 'orchestrator' failed: no offer: Activity function 'boom' failed:  ValueError: boom 1"
    )


def test_no_status_shows_where_the_code_is(form: Any) -> None:
    def child(context: Any) -> Any:
        raise ValueError("boom")
        yield

    def orchestrator(context: Any) -> Any:
        try:
            yield context.call_sub_orchestrator("child")
        except SubOrchestrationFailedError as error:
            raise RuntimeError(f"gave up: {error}") from error

    hub = Hub(orchestrators={"child": form(child)})
    instance = hub.start(form(orchestrator))
    hub.run()
    assert "boom" in instance.output
    assert ".py" not in instance.output
    (told,) = instance.recorded(SubOrchestrationInstanceFailed)
    assert ".py" in told.failure_details.stack_trace


def test_a_long_text_is_cut_and_says_by_how_much(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        raise ValueError("begin" + "x" * 1_000_000 + "end")
        yield

    instance = play(form(orchestrator))
    assert len(instance.output) < 10_000
    assert instance.output.startswith("Orchestrator function 'orchestrator' failed: beginxxx")
    assert instance.output.endswith("xxxend")
    assert "(992,008 characters left out)" in instance.output
    assert len(encode_events(instance.history)) < 50_000


@pytest.mark.parametrize("cause", [True, False])
def test_thousands_of_chained_causes_do_not_hide_the_error(form: Any, cause: bool) -> None:
    def orchestrator(context: Any) -> Any:
        error = first = ValueError("the error")
        for number in range(3_000):
            other = KeyError(number)
            if cause:
                error.__cause__ = other
            else:
                error.__context__ = other
            error = other
        raise first
        yield

    instance = play(form(orchestrator))
    assert instance.output.startswith("Orchestrator function 'orchestrator' failed: the error; caused by KeyError: 0")
    assert "more causes" in instance.output
    assert instance.failure.error_type == "ValueError"


def test_groups_in_groups_do_not_hide_the_error(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        error: Exception = ValueError("innermost")
        for _ in range(2_000):
            error = ExceptionGroup("group", [error])
        raise error
        yield

    instance = play(form(orchestrator), check=False)
    assert instance.output == "Orchestrator function 'orchestrator' failed: group (1 sub-exception)"


@pytest.mark.parametrize("depth", [0, 1])
def test_an_error_whose_text_is_no_unicode_is_the_error_all_the_same(form: Any, depth: int) -> None:
    def child(context: Any) -> Any:
        raise ValueError("no text: \ud800")
        yield

    def orchestrator(context: Any) -> Any:
        yield context.call_sub_orchestrator("child")

    hub = Hub(orchestrators={"child": form(child), "parent": form(orchestrator)})
    instance = hub.start("parent" if depth else "child")
    hub.run()
    assert "no text: \\ud800" in instance.output
    assert instance.failure.is_caused_by(ValueError)
    encode_events(instance.history)


@pytest.mark.parametrize(
    "ask",
    [
        lambda context: context.call_activity("no\ud800"),
        lambda context: context.call_activity("no\ud800", timeout=5),
        lambda context: context.call_sub_orchestrator("no\ud800"),
        lambda context: context.call_sub_orchestrator("child", version="no\ud800"),
    ],
)
def test_a_name_that_is_no_unicode_is_refused_at_the_call(form: Any, ask: Any) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            yield ask(context)
        except CodecError as error:
            return [str(error), (yield context.call_activity("echo", "goes on"))]

    instance = play(form(orchestrator))
    text, went_on = instance.output
    assert "lone surrogate" in text
    assert went_on == "goes on"
    assert [item.task_id for item in instance.work] == [0]


def test_a_child_whose_failure_would_come_again_is_final(form: Any) -> None:
    def unstorable(context: Any) -> Any:
        return object()
        yield

    def failing(context: Any) -> Any:
        raise ValueError("perhaps not the next time")
        yield

    def orchestrator(context: Any) -> Any:
        for name in ("unstorable", "failing"):
            with contextlib.suppress(SubOrchestrationFailedError):
                yield context.call_sub_orchestrator(name, retry_policy=POLICY)

    hub = Hub(orchestrators={"unstorable": form(unstorable), "failing": form(failing)})
    instance = hub.start(form(orchestrator))
    hub.run()
    failures = [event.failure_details.error_type for event in instance.recorded(SubOrchestrationInstanceFailed)]
    assert failures == ["CodecError", "ValueError", "ValueError", "ValueError"]


def test_what_fails_for_good_in_a_child_fails_the_child_for_good(form: Any) -> None:
    class FinalError(Exception):
        final = True

    def fails(value: Any) -> Any:
        raise FinalError

    def child(context: Any) -> Any:
        yield context.call_activity("fails")

    def orchestrator(context: Any) -> Any:
        yield context.call_sub_orchestrator("child", retry_policy=POLICY)

    hub = Hub(orchestrators={"child": form(child)}, activities={"fails": fails})
    instance = hub.start(form(orchestrator))
    hub.run()
    assert len(instance.recorded(SubOrchestrationInstanceFailed)) == 1
    assert instance.failure.is_non_retriable
