"""The adapter to what azure-functions records: what is told to a host, and that the record outlives it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from durable_ext.functions.app import DFApp
from durable_ext.functions.azure import builders_of, copy_with, function_of, make_reachable, only, user_function
from durable_ext.functions.bindings import Role, role_of


async def start(req: Any, client: Any) -> str:
    return ""


def test_a_copy_has_the_settings_and_kept_bindings_and_leaves_the_original_alone() -> None:
    app = DFApp()
    app.function_name("Start")(
        app.retry("fixed_delay", "3")(app.route(route="go")(app.durable_client_input("client")(start)))
    )
    (builder,) = builders_of(app)
    original = function_of(builder)
    before = str(original)
    kept = [each for each in original.get_bindings() if role_of(each) is not Role.CLIENT]
    copy = function_of(copy_with(original, start, kept))
    assert (copy.get_function_name(), copy.get_user_function()) == ("Start", start)
    assert "3" in str(copy.get_settings_dict("retry_policy"))
    assert [json.loads(each)["type"] for each in copy.get_raw_bindings()] == ["httpTrigger", "http"]
    assert copy.get_trigger() is original.get_trigger()
    assert str(original) == before
    assert "durableClient" in before


def test_a_host_that_refuses_the_functions_leaves_the_record_as_it_was() -> None:
    app = DFApp()
    app.activity_trigger("x")(lambda x: x)
    for _ in range(2):
        app.route()(app.durable_client_input("client")(start))
    recorded = list(builders_of(app))
    with pytest.raises(ValueError, match="unique"):
        app.get_functions()
    assert list(builders_of(app)) == recorded


def test_inside_only_a_container_has_just_these_functions() -> None:
    app = DFApp()
    for _ in range(2):
        app.route()(start)
    first, second = builders_of(app)
    with only(app, [second]):
        assert list(builders_of(app)) == [second]
    assert list(builders_of(app)) == [first, second]


def test_the_written_function_is_reachable_once_however_often_it_is_asked_for() -> None:
    app = DFApp()
    function = function_of(app.durable_client_input("client")(start))
    outer: Any = function.get_user_function()
    make_reachable(function, "orchestrator_function")
    assert function.get_user_function() is outer
    assert outer.client_function is start is user_function(function)
    assert not hasattr(start, "client_function")
