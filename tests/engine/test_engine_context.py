"""What the context offers besides calls: status, time, ids, logger, events to others, input, and its limits."""

from __future__ import annotations

import enum
import inspect
import logging
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pydantic
import pytest
from engine_hub import ACTIVITIES, EPOCH, Hub, Status, play

from durable_ext.engine.turn import Callee, EngineOptions
from durable_ext.errors import CodecError, DurableError, InvalidInstanceIdError
from durable_ext.history import EventSent, TaskScheduled

# --- custom status -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, "", {}, False, [], "text", {"done": 3}])
def test_any_json_value_is_a_custom_status_falsy_ones_too(form: Any, status: Any) -> None:
    def orchestrator(context: Any) -> Any:
        assert context.custom_status is None
        context.set_custom_status(status)
        assert context.custom_status == status
        yield context.call_activity("echo")

    instance = play(form(orchestrator))
    assert msgspec.json.decode(instance.turns[0].custom_status) == status


def test_none_clears_the_custom_status_and_never_setting_one_leaves_it_alone(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_activity("echo")
        context.set_custom_status("half way")
        yield context.call_activity("echo")
        context.set_custom_status(None)
        yield context.call_activity("echo")

    turns = play(form(orchestrator)).turns
    assert [turn.custom_status for turn in turns] == [msgspec.UNSET, '"half way"', None, None]
    assert [turn.status_changed for turn in turns] == [True, True, True, True]


def test_a_status_set_before_a_failure_is_shown(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        yield context.call_activity("echo")
        context.set_custom_status("last words")
        raise ValueError

    assert play(form(orchestrator)).turns[-1].custom_status == '"last words"'


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("x" * 8190, True),  # with its two quotes exactly 16 KB of UTF-16
        ("x" * 8191, False),
        ("é" * 8190, True),
        ("😀" * 4095, True),  # a pair of UTF-16 units each
        ("😀" * 4096, False),
    ],
)
def test_a_custom_status_may_have_16_kb_of_utf16(form: Any, text: str, fits: bool) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            context.set_custom_status(text)
        except ValueError as error:
            return str(error)
        return None
        yield

    instance = play(form(orchestrator))
    assert (instance.output is None) == fits
    if not fits:
        assert "16384" in instance.output
        assert instance.turns[0].custom_status is msgspec.UNSET


def test_a_status_that_cannot_be_stored_raises_at_that_line(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            context.set_custom_status(object())
        except CodecError:
            return "at the call"
        yield

    assert play(form(orchestrator)).output == "at the call"


# --- ids and time ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (
            datetime(2019, 12, 8, 23, 18, 41, 324092, tzinfo=UTC),
            [
                "26e2cc5f-aed2-5994-a5aa-aacadda6a49c",
                "def590ed-71fa-5a9c-81bc-0c49ce37261c",
                "ed885e7f-8fe7-5062-8e89-fa7cf3cdc322",
            ],
        ),
        (
            datetime(2024, 1, 1, tzinfo=UTC),
            [
                "8e1902b2-0496-5aa4-84b1-8a7a587d100a",
                "6b9b2c7e-0624-5aee-9a31-0b94f55af6f2",
                "0d96c55d-5c8a-5599-9875-ed32799a35c5",
            ],
        ),
    ],
)
def test_generated_ids_are_those_of_durable_functions(form: Any, now: datetime, expected: list[str]) -> None:
    def orchestrator(context: Any) -> Any:
        first, second, third = context.new_uuid(), context.new_uuid(), context.new_guid()
        assert isinstance(first, str)
        assert isinstance(third, UUID)
        return [first, second, str(third)]
        yield

    hub = Hub()
    hub.now = now
    instance = hub.start(form(orchestrator))
    hub.run()
    assert instance.output == expected


def test_generated_ids_go_on_from_turn_to_turn(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        made = [context.new_uuid()]
        yield context.create_timer(timedelta(seconds=1))
        made += [context.new_uuid(), str(context.new_guid())]
        yield context.create_timer(timedelta(seconds=1))
        return [*made, context.new_uuid()]

    warm = play(form(orchestrator))
    cold = play(form(orchestrator), cold=True)
    assert warm.output == cold.output
    assert len(set(warm.output)) == 4


def test_the_time_is_that_of_the_turn(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        times = [context.current_utc_datetime]
        yield context.create_timer(timedelta(seconds=90))
        times.append(context.current_utc_datetime)
        yield context.call_activity("slow")
        times.append(context.current_utc_datetime)
        assert all(time.tzinfo is not None for time in times)
        return [(time - EPOCH).total_seconds() for time in times]

    for cold in (False, True):
        instance = play(form(orchestrator), activities={"slow": str}, durations={"slow": 7}, cold=cold)
        assert instance.output == [0, 90, 97]


def test_facts_about_the_instance(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        return [context.instance_id, context.name, context.parent_instance_id]
        yield

    assert play(form(orchestrator)).output == ["abc123", "orchestrator", None]


# --- replaying and logging ---------------------------------------------------------------------------


def test_is_replaying_is_true_over_the_past_only(form: Any) -> None:
    seen: list[bool] = []

    def orchestrator(context: Any) -> Any:
        seen.append(context.is_replaying)
        yield context.call_activity("echo")
        seen.append(context.is_replaying)
        yield context.call_activity("echo")
        seen.append(context.is_replaying)

    play(form(orchestrator), check=False)
    assert seen == [False, False, False]
    seen.clear()
    play(form(orchestrator), check=False, cold=True)
    assert seen == [False, True, False, True, True, False]


def test_the_replay_safe_logger_says_everything_once(form: Any, caplog: pytest.LogCaptureFixture) -> None:
    def orchestrator(context: Any) -> Any:
        logger = context.create_replay_safe_logger(logging.getLogger("user"))
        for step in (1, 2, 3):
            logger.info("step %d", step)
            yield context.call_activity("echo")
        logger.info("done")

    with caplog.at_level(logging.INFO, "user"):
        play(form(orchestrator), cold=True)
    assert [record.getMessage() for record in caplog.records] == ["step 1", "step 2", "step 3", "done"]


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error", "exception", "critical"])
def test_a_log_record_names_the_users_line_and_the_instance(level: str, caplog: pytest.LogCaptureFixture) -> None:
    lines = []

    def orchestrator(context: Any) -> Any:
        logger = context.create_replay_safe_logger(logging.getLogger("user"))
        assert logger.isEnabledFor(logging.CRITICAL)
        lines.append(inspect.currentframe().f_lineno + 1)  # type: ignore[union-attr]
        getattr(logger, level)("hello %s", "you", extra={"more": 1})
        logger.log(logging.WARNING, "direct")
        return None
        yield

    with caplog.at_level(logging.DEBUG, "user"):
        play(orchestrator, check=False)
    first, direct = caplog.records
    assert (first.lineno, direct.lineno) == (lines[0], lines[0] + 1)
    assert first.pathname == direct.pathname == __file__
    assert first.levelname == {"exception": "ERROR"}.get(level, level.upper())
    assert (first.instance_id, first.orchestrator, first.more) == (  # type: ignore[attr-defined]
        "abc123",
        "orchestrator",
        1,
    )
    assert (first.exc_info is not None) == (level == "exception")


# --- events to others --------------------------------------------------------------------------------


def test_an_event_is_sent_to_another_instance(form: Any) -> None:
    def receiver(context: Any) -> Any:
        return (yield context.wait_for_external_event("news"))

    def orchestrator(context: Any) -> Any:
        assert context.send_event("receiver", "news", {"a": 1}) is None
        return "sent"
        yield

    hub = Hub()
    hub.start(form(receiver), instance_id="receiver")
    instance = hub.start(form(orchestrator))
    hub.run()
    assert hub.instances["receiver"].output == {"a": 1}
    (sent,) = instance.recorded(EventSent)
    assert (sent.event_id, sent.instance_id, sent.name) == (0, "receiver", "news")
    (message,) = instance.messages
    assert message.execution_id is None


def test_an_instance_can_send_itself_an_event(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        context.send_event(context.instance_id, "self", 5)
        return (yield context.wait_for_external_event("self"))

    assert play(form(orchestrator)).output == 5


def test_a_bad_target_or_name_raises_at_the_call(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        with pytest.raises(InvalidInstanceIdError):
            context.send_event("@no", "name")
        with pytest.raises(ValueError, match="event_name"):
            context.send_event("yes", "")
        with pytest.raises(CodecError):
            context.send_event("yes", "name", object())
        return (yield context.call_activity("echo", 1))

    instance = play(form(orchestrator))
    assert instance.output == 1
    assert not instance.recorded(EventSent)
    assert instance.recorded(TaskScheduled)[0].event_id == 0


# --- limits ------------------------------------------------------------------------------------------


def test_one_execution_may_ask_for_so_many_actions_and_no_more(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        for _ in range(4):
            yield context.call_activity("echo")
        try:
            context.call_activity("echo")
        except DurableError as error:
            return str(error)

    instance = play(form(orchestrator), options=EngineOptions(max_actions=4))
    assert instance.output.startswith("Maximum amount of orchestration actions (4) has been reached")
    assert len(instance.work) == 4


def test_the_limit_counts_anew_after_continue_as_new(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        for _ in range(3):
            yield context.call_activity("echo")
        if not context.get_input():
            context.continue_as_new(True)
            return None
        return "done"

    assert play(form(orchestrator), options=EngineOptions(max_actions=4)).output == "done"


# --- types -------------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Order:
    item: str
    due: datetime | None = None


class Point(msgspec.Struct):
    x: int
    y: int = 0


class Model(pydantic.BaseModel):
    name: str
    when: date


TYPED = [
    (Order, Order("tea", datetime(2024, 1, 2, tzinfo=UTC))),
    (Colour, Colour.RED),
    (datetime, datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
    (UUID, UUID("12345678-1234-5678-1234-567812345678")),
    (Point, Point(1, 2)),
    (Model, Model(name="m", when=date(2024, 1, 1))),
    (list[Order], [Order("a"), Order("b")]),
    (dict[str, Point], {"p": Point(3)}),
]
ids = [str(getattr(kind, "__name__", kind)) + str(at) for at, (kind, _) in enumerate(TYPED)]


@pytest.mark.parametrize(("kind", "value"), TYPED, ids=ids)
def test_inputs_results_and_events_come_back_as_the_type_asked_for(form: Any, kind: Any, value: Any) -> None:
    def child(context: Any) -> Any:
        return context.get_input()
        yield

    def orchestrator(context: Any) -> Any:
        given = context.get_input(kind)
        assert context.get_input() == given  # from the decorator
        result = yield context.call_activity("same", given, kind)
        event = yield context.wait_for_external_event("typed", kind)
        from_child = yield context.call_sub_orchestrator("child", event, expected_type=kind)
        assert given == result == event == from_child == value
        assert {type(each) for each in (given, result, event, from_child)} == {type(value)}
        return from_child

    hub = Hub(activities={"same": lambda stored: stored}, orchestrators={"child": form(child)}, input_type=kind)
    instance = hub.start(form(orchestrator), value)
    hub.raise_event("typed", value, at=1)
    hub.run()
    assert instance.status is Status.Completed, instance.output


def test_the_resolver_names_functions_and_types_their_results(form: Any) -> None:
    def find(function: Any, kind: str) -> Callee:
        return Callee(name=f"{kind} {function.__name__}", result_type=Point)

    def make_point() -> None: ...

    def orchestrator(context: Any) -> Any:
        point = yield context.call_activity(make_point, {"x": 1})
        plain = yield context.call_activity(make_point, {"x": 1}, dict)
        return [point.x, plain]

    instance = play(
        form(orchestrator),
        activities={"activity make_point": lambda value: value},
        options=EngineOptions(resolve=find),
    )
    assert instance.output == [1, {"x": 1}]


def test_an_input_that_does_not_fit_raises_where_it_is_read(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            context.get_input(Point)
        except CodecError as error:
            return str(error)
        yield

    text = play(form(orchestrator), {"x": "not a number"}).output
    assert "Point" in text
    assert "not a number" in text


def test_a_result_that_does_not_fit_raises_at_the_await(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        task = context.call_activity("echo", "text", Point)
        try:
            yield task
        except CodecError as error:
            return str(error)

    assert "Point" in play(form(orchestrator)).output


def test_an_event_that_does_not_fit_raises_at_the_await_and_is_read(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        try:
            yield context.wait_for_external_event("n", Point)
        except CodecError:
            return (yield context.wait_for_external_event("n", Point)).x

    assert play(form(orchestrator), events=[(1, "n", "text"), (2, "n", {"x": 5})]).output == 5


def test_a_result_that_does_not_fit_is_not_retried(form: Any) -> None:
    from durable_ext.retry import RetryOptions

    def orchestrator(context: Any) -> Any:
        try:
            yield context.call_activity_with_retry("echo", RetryOptions(1, 5), "text", Point)
        except CodecError:
            return "once"

    instance = play(form(orchestrator))
    assert instance.output == "once"
    assert len(instance.work) == 1


def test_an_input_that_cannot_be_stored_raises_at_the_call_and_takes_no_number(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        for call in (context.call_activity, context.call_sub_orchestrator, context.start_orchestration):
            with pytest.raises(CodecError):
                call("echo", object())
        with pytest.raises(CodecError):
            context.continue_as_new(object())
        return (yield context.call_activity("echo", 1))

    instance = play(form(orchestrator), activities=ACTIVITIES)
    assert instance.output == 1
    assert instance.recorded(TaskScheduled)[0].event_id == 0
