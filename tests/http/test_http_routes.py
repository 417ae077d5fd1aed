from __future__ import annotations

from typing import Any

import pytest

from durable_ext.http.routes import ROUTES, match


@pytest.mark.parametrize(
    ("method", "path", "operation", "parameters"),
    [
        ("POST", "/orchestrators/Hello", "start", {"name": "Hello"}),
        ("POST", "orchestrators/Hello/one/", "start", {"name": "Hello", "instance_id": "one"}),
        ("GET", "/instances/one", "status", {"instance_id": "one"}),
        ("GET", "/Instances/", "list_instances", {}),
        ("DELETE", "/INSTANCES/one", "purge", {"instance_id": "one"}),
        ("DELETE", "//instances//", "purge_many", {}),
        ("POST", "/instances/one/RAISEevent/Go", "raise_event", {"instance_id": "one", "event_name": "Go"}),
        ("POST", "/instances/a%20b%25/raiseEvent/x%2Fy", "raise_event", {"instance_id": "a b%", "event_name": "x/y"}),
        ("post", "/instances/one/Terminate", "terminate", {"instance_id": "one"}),
        ("POST", "/instances/one/suspend", "suspend", {"instance_id": "one"}),
        ("POST", "/instances/one/resume", "resume", {"instance_id": "one"}),
        ("POST", "/instances/one/rewind", "rewind", {"instance_id": "one"}),
        ("POST", "/instances/one/restart", "restart", {"instance_id": "one"}),
        ("GET", "/instances/one/History", "history", {"instance_id": "one"}),
        ("GET", "/DeadLetters", "dead_letters", {}),
    ],
)
def test_routes_match_without_case_and_decode_their_parameters(
    method: str, path: str, operation: str, parameters: dict[str, str]
) -> None:
    found = match(method, path)
    assert found is not None
    assert (found[0].operation, found[1]) == (operation, parameters)


UNKNOWN = [
    ("GET", "/"),
    ("GET", ""),
    ("GET", "/orchestrators/Hello"),
    ("POST", "/orchestrators"),
    ("POST", "/orchestrators/a/b/c"),
    ("PUT", "/instances/one"),
    ("HEAD", "/instances/one"),
    ("POST", "/instances/one"),
    ("POST", "/instances"),
    ("POST", "/instances/one/explode"),
    ("GET", "/instances/one/terminate"),
    ("POST", "/instances/one/raiseEvent"),
    ("POST", "/instances//terminate"),
    ("GET", "/entities/Counter/steps"),
    ("POST", "/entities/Counter/steps"),
    ("GET", "/entities"),
    ("POST", "/makeprimary/x"),
]


@pytest.mark.parametrize(("method", "path"), UNKNOWN)
async def test_a_wrong_verb_or_an_unknown_path_is_404_without_a_body(
    call: Any, stage: Any, method: str, path: str
) -> None:
    await stage.put("one")
    response = await call(method, path)
    assert (response.status, response.body) == (404, b"")


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/makeprimary"), ("GET", "/MakePrimary/"), ("PUT", "/makeprimary")]
)
async def test_there_is_no_lease_to_take_whatever_the_verb(call: Any, method: str, path: str) -> None:
    response = await call(method, path)
    assert response.status == 400
    assert response.json() == {
        "Message": "Cannot make current app primary. This app is not using the AppLease feature."
    }


def test_every_operation_of_the_table_is_answered(hub_with: Any) -> None:
    assert {route.operation for route in ROUTES} == set(hub_with().api._operations)
