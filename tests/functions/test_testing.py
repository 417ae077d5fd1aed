"""Unit tests of orchestrators as people wrote them against azure-functions-durable."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any
from unittest.mock import Mock, PropertyMock, call

import azure.functions as func
import pytest

import durable_ext as df
from durable_ext.testing import orchestrator_generator_wrapper

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.orchestration_trigger(context_name="context")
def greet(context: df.DurableOrchestrationContext) -> Generator[Any, Any, list[str]]:
    greetings = []
    for city in ("Tokyo", "Seattle"):
        try:
            greetings.append((yield context.call_activity("hello", city)))
        except ValueError as error:
            greetings.append(f"no {city}: {error}")
    return greetings


@app.orchestration_trigger(context_name="context")
def at_once(context: df.DurableOrchestrationContext) -> Generator[Any, Any, str]:
    return "done"
    yield


def code_of(decorated: Any) -> Any:
    return decorated.build().get_user_function().orchestrator_function


def fake(**result: Any) -> Mock:
    task = Mock()
    type(task).result = PropertyMock(**result)
    return task


def test_an_orchestrator_is_sent_the_results_of_its_tasks() -> None:
    context = Mock(spec=df.DurableOrchestrationContext)
    tasks = [fake(return_value="Hello Tokyo!"), fake(return_value="Hello Seattle!")]
    context.call_activity.side_effect = tasks
    *yielded, output = orchestrator_generator_wrapper(code_of(greet)(context))
    assert yielded == tasks
    assert output == ["Hello Tokyo!", "Hello Seattle!"]
    assert context.call_activity.mock_calls == [call("hello", "Tokyo"), call("hello", "Seattle")]


def test_what_reading_a_result_raises_is_raised_in_the_orchestrator() -> None:
    context = Mock()
    context.call_activity.side_effect = [fake(side_effect=ValueError("closed")), fake(return_value="Hello Seattle!")]
    *_, output = orchestrator_generator_wrapper(code_of(greet)(context))
    assert output == ["no Tokyo: closed", "Hello Seattle!"]


def test_an_orchestrator_that_returns_at_once_has_its_value_only() -> None:
    assert list(orchestrator_generator_wrapper(code_of(at_once)(Mock()))) == ["done"]


def test_what_the_orchestrator_does_not_catch_comes_out() -> None:
    context = Mock()
    context.call_activity.side_effect = [fake(side_effect=KeyError("gone"))]
    with pytest.raises(KeyError, match="gone"):
        list(orchestrator_generator_wrapper(code_of(greet)(context)))
