from __future__ import annotations

import pytest

from durable_ext.errors import ConfigurationError
from durable_ext.host.routes import RouteTable, decode_path, parse


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("", "", {}),
        ("orders", "orders", {}),
        ("orders", "ORDERS/", {}),
        ("orders", "orders/7", None),
        ("orders/{id}", "orders/Seven", {"id": "Seven"}),
        ("orders/{id}", "orders", None),
        ("orders/{id}", "orders/7/8", None),
        ("orders/{id?}", "orders", {}),
        ("orders/{id?}", "orders/7", {"id": "7"}),
        ("orders/{id=7}", "orders", {"id": "7"}),
        ("orders/{id:int=7}", "orders/8", {"id": "8"}),
        ("orders/{id:int}", "orders/-7", {"id": "-7"}),
        ("orders/{id:int}", "orders/seven", None),
        ("orders/{id:int}", "orders/99999999999", None),
        ("orders/{id:long}", "orders/99999999999", {"id": "99999999999"}),
        ("orders/{id:int:min(3)?}", "orders", {}),
        ("orders/{id:int:min(3)?}", "orders/2", None),
        ("orders/{id:range(1,9)}", "orders/9", {"id": "9"}),
        ("orders/{id:range(1,9)}", "orders/10", None),
        ("orders/{id:max(9)}", "orders/10", None),
        ("orders/{on:bool}", "orders/True", {"on": "True"}),
        ("orders/{on:datetime}", "orders/2030-01-31", {"on": "2030-01-31"}),
        ("orders/{on:datetime}", "orders/soon", None),
        ("orders/{x:double}", "orders/1.5", {"x": "1.5"}),
        (
            "orders/{id:guid}",
            "orders/cd2c1638-1638-72d5-1638-deadbeef1638",
            {"id": "cd2c1638-1638-72d5-1638-deadbeef1638"},
        ),
        ("orders/{id:guid}", "orders/7", None),
        ("orders/{name:alpha}", "orders/a1", None),
        ("orders/{name:length(2)}", "orders/ab", {"name": "ab"}),
        ("orders/{name:length(2,3)}", "orders/abcd", None),
        ("orders/{name:minlength(2)}", "orders/a", None),
        ("orders/{name:maxlength(2)}", "orders/abc", None),
        (r"orders/{id:regex(^\d{{3}}$)}", "orders/123", {"id": "123"}),
        (r"orders/{id:regex(^\d{{3}}$)}", "orders/12", None),
        ("files/{name}.{kind}", "files/a.b.txt", {"name": "a", "kind": "b.txt"}),
        ("files/{name}.{kind}", "files/a", None),
        ("v{version}/orders", "v2/orders", {"version": "2"}),
        ("files/{*rest}", "files", {}),
        ("files/{*rest}", "files/a/b", {"rest": "a/b"}),
        ("{**rest}", "a/b", {"rest": "a/b"}),
        ("a.c", "abc", None),
        ("{{literal}}", "{literal}", {}),
    ],
)
def test_templates_take_what_asp_net_routes_take(template: str, path: str, expected: dict[str, str] | None) -> None:
    assert parse(template).match(path) == expected


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("orders/{id", "braces do not balance"),
        ("orders//all", "empty segment"),
        ("{rest?}/all", "may only be the last segment"),
        ("{*rest}/all", "may only be the last segment"),
        ("a{*rest}", "must be a segment of its own"),
        ("{id}/{ID}", "a name of its own"),
        ("{id:integer}", "not one of the constraints int, long"),
        ("{id:range(1)}", "'range(1)' is not understood"),
        ("{id:regex([)}", "is not understood"),
        ("{}", "is not a valid segment"),
    ],
)
def test_a_wrong_template_says_what_is_wrong(template: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(template)
    assert complaint in str(caught.value)
    assert f"'{template}'" in str(caught.value)


def test_the_most_specific_route_wins_whatever_the_order() -> None:
    routes = RouteTable[str]()
    for template in ("{*rest}", "orders/{id}", "orders/{id:int}", "orders/new", "orders/{*rest}", "orders"):
        routes.add(parse(template), (), template)

    found = {
        path: routes.find("GET", path) for path in ("", "orders", "orders/new", "orders/7", "orders/x", "orders/x/y")
    }

    assert {path: each[0] for path, each in found.items() if each} == {
        "": "{*rest}",
        "orders": "orders",
        "orders/new": "orders/new",
        "orders/7": "orders/{id:int}",
        "orders/x": "orders/{id}",
        "orders/x/y": "orders/{*rest}",
    }


def test_a_route_is_only_for_its_methods() -> None:
    routes = RouteTable[str]()
    routes.add(parse("orders"), ("get",), "read")
    routes.add(parse("orders"), ("POST",), "write")

    assert routes.find("POST", "orders") == ("write", {})
    assert routes.find("DELETE", "orders") is None


def test_an_encoded_slash_stays_inside_its_segment() -> None:
    path = decode_path("/orders/a%2Fb%20c")
    assert parse("orders/{id}").match(path) == {"id": "a%2Fb c"}
