"""Programs that kill the process they run in, among others that do nothing wrong."""

from __future__ import annotations

import os
from typing import Any

from fault_scenarios import Expected, activity, orchestrator, scenario

KILLED = 77
"""The exit code of a process that an orchestrator or activity killed."""


@activity
def kill_the_process(nothing: None) -> None:
    os._exit(KILLED)


@orchestrator
def calls_a_killer(context: Any) -> Any:
    return (yield context.call_activity("kill_the_process"))


@orchestrator
def kills_at_once(context: Any) -> Any:
    os._exit(KILLED)


@orchestrator
def kills_on_event(context: Any) -> Any:
    number = yield context.call_activity("double", 4)
    yield context.wait_for_external_event("now")
    os._exit(KILLED)
    return number


INNOCENTS = [f"innocent-{number:02}" for number in range(50)]
_INNOCENT_ENDS: Expected = dict.fromkeys(INNOCENTS, ("Completed", 7))


async def _start_innocents(hub: Any, some: list[str]) -> None:
    for each in some:
        await hub.start("chain", each, 2)


@scenario({"killer": ("Failed", None), **_INNOCENT_ENDS}, kills=True)
async def an_activity_that_kills(hub: Any) -> None:
    await _start_innocents(hub, INNOCENTS[:25])
    await hub.start("calls_a_killer", "killer")
    await _start_innocents(hub, INNOCENTS[25:])
    await hub.end("killer", *INNOCENTS)


@scenario({"killer": ("Failed", None), **_INNOCENT_ENDS}, kills=True)
async def an_orchestrator_that_kills_at_once(hub: Any) -> None:
    await hub.start("kills_at_once", "killer")
    await _start_innocents(hub, INNOCENTS)
    await hub.end("killer", *INNOCENTS)


@scenario({"killer": ("Failed", None), **_INNOCENT_ENDS}, kills=True)
async def an_orchestrator_that_kills_later(hub: Any) -> None:
    await hub.start("kills_on_event", "killer")
    await _start_innocents(hub, INNOCENTS[:25])
    await hub.event("killer", "now")
    await _start_innocents(hub, INNOCENTS[25:])
    await hub.end("killer", *INNOCENTS)


@scenario({**dict.fromkeys(("killer-1", "killer-2"), ("Failed", None)), **_INNOCENT_ENDS}, kills=True)
async def killers_of_both_kinds(hub: Any) -> None:
    await hub.start("kills_at_once", "killer-1")
    await _start_innocents(hub, INNOCENTS[:25])
    await hub.start("calls_a_killer", "killer-2")
    await _start_innocents(hub, INNOCENTS[25:])
    await hub.end("killer-1", "killer-2", *INNOCENTS)
