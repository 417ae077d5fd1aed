from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from durable_ext.errors import ConfigurationError
from durable_ext.history import OrchestrationRuntimeStatus
from durable_ext.http.keys import DevelopmentKeys, HubKeys
from durable_ext.http.routes import ROUTES, Scope

KEY = "hub key, long enough"
OTHER = "another key, long enough"
HUB_ONLY = [
    ("GET", "/instances"),
    ("DELETE", "/instances?createdTimeFrom=2018-01-01"),
    ("POST", "/orchestrators/Hello"),
    ("POST", "/orchestrators/Hello/one"),
    ("GET", "/deadletters"),
    ("POST", "/makeprimary"),
]
OF_ONE = [
    ("GET", "/instances/one"),
    ("DELETE", "/instances/one"),
    ("POST", "/instances/one/raiseEvent/Go"),
    ("POST", "/instances/one/terminate"),
    ("POST", "/instances/one/suspend"),
    ("POST", "/instances/one/resume"),
    ("POST", "/instances/one/rewind"),
    ("POST", "/instances/one/restart"),
    ("GET", "/instances/one/history"),
]


def with_code(target: str, code: str) -> str:
    return f"{target}{'&' if '?' in target else '?'}code={code}"


@pytest.fixture
def guarded(calling: Callable[..., Any]) -> Any:
    return calling(keys=HubKeys("TestHub", KEY))


def test_the_two_lists_cover_every_route() -> None:
    assert len(HUB_ONLY) == sum(route.scope is Scope.HUB for route in ROUTES)
    assert len(OF_ONE) == sum(route.scope is Scope.INSTANCE for route in ROUTES)


@pytest.mark.parametrize(("method", "target"), HUB_ONLY + OF_ONE)
async def test_without_a_key_everything_is_401(guarded: Any, stage: Any, method: str, target: str) -> None:
    await stage.put("one", OrchestrationRuntimeStatus.Completed)
    for refused in (target, with_code(target, ""), with_code(target, "wrong"), with_code(target, "%C3%A4")):
        response = await guarded(method, refused)
        assert (response.status, response.body) == (401, b"")
    assert (await guarded(method, target, headers={"x-functions-key": OTHER})).status == 401
    assert (await guarded("GET", "/instances/one", headers={"x-functions-key": KEY})).status == 200


@pytest.mark.parametrize(("method", "target"), HUB_ONLY + OF_ONE)
async def test_the_hub_key_opens_everything_in_the_query_or_in_the_header(
    guarded: Any, stage: Any, method: str, target: str
) -> None:
    await stage.put("one", OrchestrationRuntimeStatus.Completed)
    assert (await guarded(method, with_code(target, KEY.replace(" ", "%20")))).status != 401
    assert (await guarded(method, target, headers={"X-Functions-Key": KEY})).status != 401


@pytest.mark.parametrize(("method", "target"), OF_ONE)
async def test_the_token_in_a_link_opens_its_instance(guarded: Any, stage: Any, method: str, target: str) -> None:
    await stage.put("one", OrchestrationRuntimeStatus.Completed)
    token = HubKeys("TestHub", KEY).code_for("one")
    assert (await guarded(method, with_code(target, token))).status != 401


@pytest.mark.parametrize(("method", "target"), [*HUB_ONLY, *[(m, t.replace("one", "two")) for m, t in OF_ONE]])
async def test_the_token_in_a_link_opens_nothing_else(guarded: Any, stage: Any, method: str, target: str) -> None:
    await stage.put("one")
    await stage.put("two")
    token = HubKeys("TestHub", KEY).code_for("one")
    assert (await guarded(method, with_code(target, token))).status == 401


async def test_links_handed_out_never_carry_the_hub_key(guarded: Any) -> None:
    response = await guarded("POST", "/orchestrators/Hello/one", headers={"x-functions-key": KEY})
    links = response.json()
    codes = {parse_qs(urlsplit(url).query)["code"][0] for name, url in links.items() if name != "id"}
    assert codes == {HubKeys("TestHub", KEY).code_for("one")}
    assert (await guarded("GET", links["statusQueryGetUri"])).status == 202


async def test_a_restarted_instance_gets_a_token_of_its_own(guarded: Any, stage: Any) -> None:
    await stage.put("one")
    token = HubKeys("TestHub", KEY).code_for("one")
    links = (await guarded("POST", f"/instances/one/restart?code={token}")).json()
    assert (await guarded("GET", links["statusQueryGetUri"])).status == 202
    assert (await guarded("GET", f"/instances/{links['id']}?code={token}")).status == 401


async def test_an_unknown_path_is_404_key_or_not(guarded: Any) -> None:
    assert (await guarded("GET", "/nowhere")).status == 404


def test_tokens_differ_by_instance_hub_and_key() -> None:
    keys = [HubKeys("TestHub", KEY), HubKeys("OtherHub", KEY), HubKeys("TestHub", OTHER)]
    tokens = {each.code_for(instance_id) for each in keys for instance_id in ("one", "One", "two", "名前")}
    assert len(tokens) == 12
    assert HubKeys("testhub", KEY).code_for("one") == keys[0].code_for("one")
    assert KEY not in "".join(tokens)


def test_a_key_can_be_replaced_without_breaking_links() -> None:
    old_link = HubKeys("TestHub", OTHER).code_for("one")
    keys = HubKeys("TestHub", KEY, OTHER)
    assert keys.code_for("one") == HubKeys("TestHub", KEY).code_for("one")
    assert keys.admits([old_link], "one")
    assert keys.admits([OTHER], None)
    assert not HubKeys("TestHub", KEY).admits([old_link], "one")


@pytest.mark.parametrize("keys", [(), ("",), ("short",), (KEY, "short")])
def test_a_key_that_can_be_guessed_is_refused(keys: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match="at least 16 characters"):
        HubKeys("TestHub", *keys)


async def test_development_needs_no_keys_and_adds_no_code(calling: Callable[..., Any]) -> None:
    call = calling(keys=DevelopmentKeys())
    links = (await call("POST", "/orchestrators/Hello?code=whatever")).json()
    assert "code=" not in "".join(links.values())


FORWARDED = {"X-Forwarded-Host": "shop.example", "X-Forwarded-Proto": "https"}


async def test_links_use_the_host_of_the_request_unless_a_proxy_is_trusted(calling: Callable[..., Any]) -> None:
    direct = await calling()("POST", "/orchestrators/Hello/one", headers=FORWARDED)
    assert direct.headers["Location"].startswith("http://localhost:7071/runtime/webhooks/durabletask/instances/one?")
    behind = calling(use_forwarded_host=True)
    status = await behind("GET", "/instances/one?taskHub=TestHub", headers=FORWARDED)
    assert status.headers["Location"] == (
        "https://shop.example/runtime/webhooks/durabletask/instances/one?taskHub=TestHub"
    )
    links = (await behind("POST", "/orchestrators/Hello/two", headers=FORWARDED)).json()
    assert links["terminatePostUri"].startswith("https://shop.example/runtime/webhooks/durabletask/instances/two/")
    assert (await behind("POST", "/orchestrators/Hello/three")).headers["Location"].startswith("http://localhost:7071/")
