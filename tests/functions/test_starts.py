"""The orchestration client output: what can be put out, and what becomes of it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import azure.functions as func
import msgspec
import pytest
from azure.functions.queue import QueueMessage
from functions_hub import NOW, Hub

from durable_ext.errors import InstanceAlreadyExistsError, InvalidInstanceIdError
from durable_ext.functions.app import DFApp
from durable_ext.functions.lowering import lower
from durable_ext.functions.starts import StartRequest, read_starts
from durable_ext.history import OrchestrationRuntimeStatus

HELLO = {"FunctionName": "Hello", "Input": {"a": 1}, "InstanceId": "one"}
HELLO_REQUEST = StartRequest(name="Hello", input={"a": 1}, instance_id="one")


@dataclass
class Start:
    FunctionName: str
    Input: Any = None


class FrozenStart(msgspec.Struct):
    FunctionName: str
    InstanceId: str


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, []),
        ([], []),
        ("[]", []),
        (HELLO, [HELLO_REQUEST]),
        ([HELLO, {"FunctionName": "B"}], [HELLO_REQUEST, StartRequest(name="B")]),
        ((HELLO,), [HELLO_REQUEST]),
        (json.dumps(HELLO), [HELLO_REQUEST]),
        (json.dumps(HELLO).encode(), [HELLO_REQUEST]),
        (json.dumps([HELLO, HELLO]), [HELLO_REQUEST, HELLO_REQUEST]),
        ([json.dumps(HELLO)], [HELLO_REQUEST]),
        ({"functionname": "Hello", "INPUT": {"a": 1}, "instanceId": "one"}, [HELLO_REQUEST]),
        ({"FunctionName": "Hello", "InstanceId": None}, [StartRequest(name="Hello")]),
        ({"FunctionName": "Hello", "InstanceId": ""}, [StartRequest(name="Hello")]),
        (Start("Hello", [1]), [StartRequest(name="Hello", input=[1])]),
        (FrozenStart("Hello", "id"), [StartRequest(name="Hello", instance_id="id")]),
        (SimpleNamespace(FunctionName="Hello"), [StartRequest(name="Hello")]),
    ],
)
def test_every_documented_form_is_read(value: Any, expected: list[StartRequest]) -> None:
    assert read_starts(value, "output") == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "output: member FunctionName is missing"),
        ({"Input": 1}, "output: member FunctionName is missing"),
        ({"FunctionName": ""}, "member FunctionName .*cannot be empty"),
        ({"FunctionName": None}, "member FunctionName is not the name.*None"),
        ({"FunctionName": 7}, "member FunctionName is not the name.*7"),
        ({"FunctionName": "A", "InstanceId": 7}, "member InstanceId must be a string or null, not 7 of type int"),
        ({"FunctionName": "A", "Inputs": 7}, "unknown member 'Inputs'; the members are FunctionName, Input and Inst"),
        ({"FunctionName": "A", 7: 7}, "unknown member 7"),
        ({"FunctionName": "A", "functionName": "B"}, "member FunctionName is there twice.*'functionName'"),
        ([{"FunctionName": "A"}, {}], "output, entry 1: member FunctionName is missing"),
        ([[{"FunctionName": "A"}]], "output, entry 0: expected an object"),
        (5, "expected an object with FunctionName.*5 of type int"),
        ("7", "expected an object"),
        ("Hello", "'Hello' is not JSON"),
        (b"\xff", "is not JSON"),
        ("x" * 200, "^output: '" + "x" * 80 + "' is not JSON"),
        (Start, "expected an object"),
    ],
)
def test_bad_values_are_refused_naming_the_member(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_starts(value, "output")


@pytest.fixture
def app() -> DFApp:
    return DFApp()


async def put_out(hub: Hub, value: Any, *, kind: str, form: str, message: Any = "body") -> Any:
    """Run a queue function that puts out `value`, as a coroutine or plainly, by name or as its return value."""
    app = DFApp()
    if form == "$return":

        def plain(msg: Any) -> Any:
            return value

        async def coroutine(msg: Any) -> Any:
            return value
    else:

        def plain(msg: Any, starter: func.Out[Any]) -> Any:  # type: ignore[misc]
            starter.set(value)
            return "returned"

        async def coroutine(msg: Any, starter: func.Out[Any]) -> Any:  # type: ignore[misc]
            starter.set(value)
            return "returned"

    chosen: Any = coroutine if kind == "coroutine" else plain
    chosen.__name__ = "put_out"
    app.queue_trigger("msg", "queue", "conn")(app.orchestration_client_output(form)(chosen))
    lowered = lower(app)
    lowered.clients.provider = hub
    function = lowered.functions[0].function
    if kind == "coroutine":
        return await function(msg=message)
    return await asyncio.to_thread(function, msg=message)


both_kinds = pytest.mark.parametrize("kind", ["coroutine", "plain"])
both_forms = pytest.mark.parametrize("form", ["starter", "$return"])


@both_kinds
@both_forms
async def test_what_is_put_out_is_started_before_the_invocation_ends(hub: Hub, kind: str, form: str) -> None:
    returned = await put_out(hub, [HELLO, {"FunctionName": "B"}], kind=kind, form=form)
    assert hub.started == [("Hello", {"a": 1}), ("B", None)]
    assert hub.store.starts[0].instance_id == "one"
    assert returned == (None if form == "$return" else "returned")


@both_kinds
async def test_nothing_put_out_starts_nothing(hub: Hub, kind: str) -> None:
    await put_out(hub, None, kind=kind, form="starter")
    await put_out(hub, [], kind=kind, form="$return")
    assert hub.started == []


@both_kinds
async def test_one_bad_entry_starts_none(hub: Hub, kind: str) -> None:
    with pytest.raises(ValueError, match="output 'starter' of function 'put_out', entry 1: member FunctionName"):
        await put_out(hub, [HELLO, {}], kind=kind, form="starter")
    with pytest.raises(ValueError, match="the return value of function 'put_out': 'x' is not JSON"):
        await put_out(hub, "x", kind=kind, form="$return")
    assert hub.started == []


async def test_refused_starts_fail_the_invocation(hub: Hub) -> None:
    with pytest.raises(InvalidInstanceIdError):
        await put_out(hub, {**HELLO, "InstanceId": "a/b"}, kind="coroutine", form="starter")
    await put_out(hub, HELLO, kind="coroutine", form="starter")
    with pytest.raises(InstanceAlreadyExistsError):
        await put_out(hub, HELLO, kind="coroutine", form="starter")


async def test_box_says_what_it_holds(app: DFApp, hub: Hub) -> None:
    @app.timer_trigger(schedule="0 * * * * *", arg_name="timer")
    @app.orchestration_client_output(arg_name="starter")
    async def tick(timer: Any, starter: func.Out[Any]) -> None:
        assert isinstance(starter, func.Out)
        assert starter.get() is None
        starter.set({"FunctionName": "dropped"})
        starter.set(HELLO)
        assert starter.get() is HELLO

    lowered = lower(app)
    lowered.clients.provider = hub
    await lowered.functions[0].function(timer=None)
    assert [name for name, _ in hub.started] == ["Hello"]


async def test_typed_inputs_reach_the_codec(hub: Hub) -> None:
    await put_out(hub, {"FunctionName": "A", "Input": Start("x")}, kind="coroutine", form="starter")
    await put_out(hub, Start("A", Start("y")), kind="coroutine", form="starter")
    assert [value["FunctionName"] for _, value in hub.started] == ["x", "y"]


def message(delivery: int | None, **more: Any) -> QueueMessage:
    return QueueMessage(id="message-1", body=b"", dequeue_count=delivery, **more)


@both_kinds
@both_forms
async def test_a_message_that_comes_again_starts_nothing_twice(hub: Hub, kind: str, form: str) -> None:
    value = [{"FunctionName": "A"}, {"FunctionName": "A"}]
    for delivery in (1, 2, 3):
        await put_out(hub, value, kind=kind, form=form, message=message(delivery))
        for instance_id in hub.store.rows:
            hub.store.end(instance_id, OrchestrationRuntimeStatus.Completed)
    assert hub.started == [("A", None), ("A", None)]
    assert len(hub.store.rows) == 2


@both_kinds
async def test_a_message_delivered_twice_at_once_starts_once(hub: Hub, kind: str) -> None:
    for _ in range(2):
        await put_out(hub, {"FunctionName": "A"}, kind=kind, form="starter", message=message(1))
    assert hub.started == [("A", None)]


@both_kinds
async def test_a_redelivery_goes_on_where_the_first_one_failed(hub: Hub, kind: str) -> None:
    inserted = {"insertion_time": (NOW - timedelta(minutes=1)).replace(tzinfo=None)}
    value = [HELLO, {"FunctionName": "B"}]
    hub.store.refuse_name = "B"
    with pytest.raises(OSError, match="unreachable"):
        await put_out(hub, value, kind=kind, form="starter", message=message(1, **inserted))
    hub.store.refuse_name = None
    await put_out(hub, value, kind=kind, form="starter", message=message(2, **inserted))
    assert hub.started == [("Hello", {"a": 1}), ("B", None)]


async def test_an_instance_older_than_the_message_was_not_started_by_it(hub: Hub) -> None:
    await hub.client().start_new("Hello", "one")
    with pytest.raises(InstanceAlreadyExistsError):
        await put_out(
            hub,
            HELLO,
            kind="coroutine",
            form="starter",
            message=message(2, insertion_time=NOW + timedelta(minutes=1)),
        )
    hub.store.end("one", OrchestrationRuntimeStatus.Failed)
    await put_out(hub, HELLO, kind="coroutine", form="starter", message=message(2))
    assert len(hub.started) == 2


async def test_messages_and_functions_have_ids_of_their_own(hub: Hub) -> None:
    for name in ("m1", "m2"):
        await put_out(hub, {"FunctionName": "A"}, kind="plain", form="starter", message=func.QueueMessage(id=name))
    await put_out(hub, {"FunctionName": "A"}, kind="plain", form="$return", message=func.QueueMessage(id="m1"))
    assert len(hub.store.rows) == 3
    await put_out(hub, {"FunctionName": "A"}, kind="plain", form="starter", message=func.QueueMessage())
    assert len(hub.store.rows) == 4
