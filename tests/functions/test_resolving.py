from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, Optional

import pytest

from durable_ext.functions.app import DFApp
from durable_ext.functions.resolving import resolve


@pytest.fixture
def app() -> DFApp:
    return DFApp()


def test_a_name_is_taken_as_it_is() -> None:
    callee = resolve("Anything goes", "activity")
    assert (callee.name, callee.result_type) == ("Anything goes", None)


@pytest.mark.parametrize("kind", ["activity", "orchestrator"])
def test_empty_name_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=r"^function_name cannot be empty$"):
        resolve("", kind)


def test_decorated_activity_is_called_by_the_name_its_trigger_gives(app: DFApp) -> None:
    def act(x: int) -> dict[str, int]: ...  # type: ignore[empty-body]

    assert resolve(app.activity_trigger("x")(act), "activity").name == "act"
    assert resolve(app.activity_trigger("x", "Named")(act), "activity").name == "Named"
    assert resolve(app.function_name("Other")(app.activity_trigger("x")(act)), "activity").name == "Other"
    both = app.function_name("Other")(app.activity_trigger("x", "Named")(act))
    assert resolve(both, "activity").name == "Named"
    assert resolve(both.build(), "activity").result_type == dict[str, int]


def test_generic_trigger_resolves_like_ours(app: DFApp) -> None:
    def act(x: int) -> int: ...  # type: ignore[empty-body]

    callee = resolve(app.generic_trigger("x", "activityTrigger", activity="Named")(act), "activity")
    assert (callee.name, callee.result_type) == ("Named", int)


def generator(context: Any) -> Generator[Any, Any, int]:
    yield
    return 1


def vague_generator(context: Any) -> Iterator[Any]:
    yield


async def coroutine(context: Any) -> list[int]: ...  # type: ignore[empty-body]
def plain(context: Any) -> Optional[str]: ...  # noqa: UP045
def nothing(context: Any) -> None: ...
def anything(context: Any) -> Any: ...
def silent(context: Any): ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (generator, int),
        (vague_generator, None),
        (coroutine, list[int]),
        (plain, Optional[str]),  # noqa: UP045
        (nothing, None),
        (anything, None),
        (silent, None),
    ],
)
def test_result_type_of_an_orchestrator_is_what_it_returns(app: DFApp, function: Any, expected: Any) -> None:
    assert resolve(app.orchestration_trigger("context")(function), "orchestrator").result_type == expected


def test_wrong_kind_is_refused_naming_both_triggers(app: DFApp) -> None:
    orchestrator = app.orchestration_trigger("context")(generator)
    text = "Received function with Trigger-type `orchestrationTrigger` but expected `ActivityTrigger`"
    with pytest.raises(ValueError, match=f"^{text}.*activity_trigger"):
        resolve(orchestrator, "activity")

    def act(x: int) -> None: ...

    text = "Received function with Trigger-type `activityTrigger` but expected `OrchestrationTrigger`"
    with pytest.raises(ValueError, match=f"^{text}.*orchestration_trigger"):
        resolve(app.activity_trigger("x")(act), "orchestrator")
    with pytest.raises(ValueError, match="Trigger-type `None`"):
        resolve(app.function_name("x")(act), "activity")


@pytest.mark.parametrize("kind", ["activity", "orchestrator"])
def test_undecorated_function_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=r"^The `call_activity` API received a `Callable`.*generator"):
        resolve(generator, kind)


@pytest.mark.parametrize("value", [None, 5, ["a"]])
def test_anything_else_is_refused_naming_its_type(value: Any) -> None:
    with pytest.raises(ValueError, match=f"not by .*{type(value).__name__}"):
        resolve(value, "activity")
