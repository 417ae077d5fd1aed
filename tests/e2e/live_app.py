"""The functions of the app whose answers were recorded, for the local host, and the instances they were asked about."""

from __future__ import annotations

import json
import re
from urllib.parse import unquote

from e2e_hub import Hub
from live_answers import Exchange

APP = """
    @app.activity_trigger(input_name="name")
    def say_hello(name: str) -> str:
        return f"Hello {name}!"

    @app.activity_trigger(input_name="text")
    def boom(text: str):
        raise ValueError(f"boom: {text}")

    @app.activity_trigger(input_name="seconds")
    async def nap(seconds: int):
        import asyncio
        await asyncio.sleep(seconds)
        return "rested"

    @app.orchestration_trigger(context_name="context")
    def hello(context):
        return [(yield context.call_activity("say_hello", context.get_input()))]

    @app.orchestration_trigger(context_name="context")
    def echo(context):
        return context.get_input()

    @app.orchestration_trigger(context_name="context")
    def wait_event(context):
        return (yield context.wait_for_external_event("go"))

    @app.orchestration_trigger(context_name="context")
    def slow(context):
        import datetime
        yield context.create_timer(context.current_utc_datetime + datetime.timedelta(seconds=3))
        return "slept"

    @app.orchestration_trigger(context_name="context")
    def failing(context):
        yield context.call_activity("boom", "why")

    @app.orchestration_trigger(context_name="context")
    def failing_itself(context):
        raise ValueError("itself")

    @app.orchestration_trigger(context_name="context")
    def custom_status(context):
        context.set_custom_status({"step": 1, "label": "half"})
        yield context.wait_for_external_event("go")

    @app.orchestration_trigger(context_name="context")
    def big_output(context):
        return "x" * 100_000

    @app.orchestration_trigger(context_name="context")
    def parent(context):
        import datetime
        result = yield context.call_sub_orchestrator("hello", "Child", f"{context.instance_id}-child")
        yield context.create_timer(context.current_utc_datetime + datetime.timedelta(milliseconds=100))
        try:
            yield context.call_activity("boom", "handled")
        except Exception:
            pass
        return result

    @app.orchestration_trigger(context_name="context")
    def failing_parent(context):
        yield context.call_sub_orchestrator("failing", "Child", f"{context.instance_id}-child")

    @app.orchestration_trigger(context_name="context")
    def waiting_parent(context):
        child = context.call_sub_orchestrator("wait_event", "Child", f"{context.instance_id}-child")
        yield context.task_all([child, context.call_activity("nap", 60)])

    @app.orchestration_trigger(context_name="context")
    def again(context):
        round = context.get_input()
        yield context.call_activity("say_hello", f"turn {round}")
        if round == 0:
            context.continue_as_new(1)
        return round
"""

_FUNCTIONS = {"completed": ("hello", "Tokyo"), "failed": ("failing", "in")}
_STARTED_BY_LOG = re.compile(r"orchestrators/[^/]+/([^/?]+)", re.IGNORECASE)
_ASKED = re.compile(r"instances/([^/?]+)", re.IGNORECASE)
_STATES = ("completed", "failed", "running", "suspended", "terminated", "pending", "unknown")
_LISTED = {
    "l-0-completed": ("hello", "Tokyo"),
    "l-1-failed": ("failing", "in"),
    "l-2-running": ("wait_event", "in"),
    "l-3-terminated": ("wait_event", "in"),
    "l-4-suspended": ("wait_event", "in"),
    "l-6-echo": ("echo", {"a": 1}),
    "l-7-custom": ("custom_status", None),
}


def set_up(hub: Hub, section: str, exchanges: list[Exchange]) -> None:
    """Make the instances that a section asks about and does not start itself."""
    if section in ("routing", "start", "start bodies", "start ids", "wait", "version"):
        return
    names = dict(_LISTED) if section == "list" else {}
    started: set[str] = set()
    for exchange in exchanges:
        path = exchange["request"]["path"]
        if (by_log := _STARTED_BY_LOG.search(path)) and section != "start duplicate":
            started.add(by_log[1])
        asked = by_log or _ASKED.search(path)
        if asked is None or asked[1] in started | names.keys() or "%" in asked[1] or asked[1].startswith("@"):
            continue
        if found := _wanted(section, unquote(asked[1]), exchanges):
            names[asked[1]] = found
    # Those whose answer depends on how long they have been waiting come last.
    names = dict(sorted(names.items(), key=lambda each: each[1][0] == "waiting_parent"))
    for instance_id, (function, value) in names.items():
        if not instance_id.endswith("-child"):
            body = None if value is None else json.dumps(value)
            assert hub.manage("POST", f"orchestrators/{function}/{instance_id}", body, version="").status == 202
    for instance_id, (function, _) in names.items():
        if not instance_id.endswith("-child"):
            _bring(hub, instance_id, function)


def _wanted(section: str, instance_id: str, exchanges: list[Exchange]) -> tuple[str, object] | None:
    """The function and the input of an instance; None if it is not to be there."""
    state = next((each for each in _STATES if instance_id.endswith(f"-{each}")), None)
    if state in ("pending", "unknown"):
        return None
    if state is not None:
        return _FUNCTIONS.get(state, ("wait_event", "in"))
    for exchange in exchanges:
        body = exchange.get("body")
        if isinstance(body, dict) and body.get("instanceId") == instance_id:
            return body["name"], body["input"]
    statuses = [each["status"] for each in exchanges if f"instances/{instance_id}" in each["request"]["path"]]
    if set(statuses) <= {404}:
        return None
    return {"r-more": ("hello", "Tokyo"), "p-parent": ("parent", "in")}.get(instance_id, ("wait_event", "in"))


def _bring(hub: Hub, instance_id: str, function: str) -> None:
    if function not in ("wait_event", "custom_status", "waiting_parent", "slow"):
        hub.end_of(instance_id)
        return
    hub.until(instance_id, lambda status: status["runtimeStatus"] == "Running")
    if instance_id.endswith("-terminated"):
        hub.terminate(instance_id, "enough")
        hub.end_of(instance_id)
    if instance_id.endswith("-suspended") or instance_id == "resume-plain":
        hub.manage("POST", f"instances/{instance_id}/suspend", reason="pause")
        hub.until(instance_id, lambda status: status["runtimeStatus"] == "Suspended")


def host_json(**settings: object) -> dict[str, object]:
    """The settings of the recorded host, and more."""
    return {"version": "2.0", "extensions": {"durableTask": json.loads(json.dumps({"hubName": "GoldHub", **settings}))}}
