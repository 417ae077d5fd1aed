"""Programs that kill the process they run in, in four ways, among others that do nothing wrong."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from fault_scenarios import SCENARIOS, Expected, Scenario, activity, orchestrator, scenario

EXIT_CODE = 7
FOLDER = "FAULT_FOLDER"
"""The environment variable that names the folder of a case."""

whose = "host"
"""Which process this is; a child of the quarantine says so."""


def _exit() -> None:
    os._exit(EXIT_CODE)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _segmentation_fault() -> None:
    ctypes.string_at(0)


def _recursion_in_c() -> None:
    compare = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    sort = ctypes.PyDLL(None).qsort
    sys.setrecursionlimit(2**31 - 1)

    @compare
    def again(first: int, second: int) -> int:
        sort((ctypes.c_int * 2)(2, 1), 2, 4, again)
        return 0

    again(0, 0)


WAYS: dict[str, tuple[Callable[[], None], str]] = {
    "exit": (_exit, f"exit code {EXIT_CODE}"),
    "kill": (_kill, "signal 9 (SIGKILL)"),
    "segmentation_fault": (_segmentation_fault, "signal 11 (SIGSEGV)"),
    "recursion_in_c": (_recursion_in_c, "signal 11 (SIGSEGV)"),
}
"""How to die, and what is said of it."""


def _die(way: str, function: str) -> None:
    with (Path(os.environ[FOLDER]) / "deaths.log").open("a") as log:
        log.write(f"{whose} {function}\n")
    WAYS[way][0]()


def _add_killers(way: str) -> None:
    def activity_that_kills(nothing: None) -> None:
        _die(way, f"activity_{way}")

    async def async_activity_that_kills(nothing: None) -> None:
        _die(way, f"async_activity_{way}")

    def orchestrator_that_kills(context: Any) -> Any:
        yield context.call_activity("double", 4)
        _die(way, f"orchestrator_{way}")

    activity_that_kills.__name__ = f"activity_{way}"
    async_activity_that_kills.__name__ = f"async_activity_{way}"
    orchestrator_that_kills.__name__ = f"orchestrator_{way}"
    activity(activity_that_kills)
    activity(async_activity_that_kills)
    orchestrator(orchestrator_that_kills)


for _way in WAYS:
    _add_killers(_way)


@orchestrator
def calls(context: Any) -> Any:
    """Calls the activity that is its input."""
    return (yield context.call_activity(context.get_input()))


@orchestrator
def kills_at_once(context: Any) -> Any:
    _die("exit", "kills_at_once")


@orchestrator
def kills_on_event(context: Any) -> Any:
    number = yield context.call_activity("double", 4)
    yield context.wait_for_external_event("now")
    _die("exit", "kills_on_event")
    return number


@orchestrator
def sleeper(context: Any) -> Any:
    for step in range(3):
        yield context.create_timer(timedelta(milliseconds=300))
        yield context.call_activity("add_one", step)
    return "awake"


# --- where no child can be had -------------------------------------------------------------------------

INNOCENTS = [f"innocent-{number:02}" for number in range(50)]
_INNOCENT_ENDS: Expected = dict.fromkeys(INNOCENTS, ("Completed", 7))


async def _start_innocents(hub: Any, some: list[str]) -> None:
    for each in some:
        await hub.start("chain", each, 2)


@scenario({"killer": ("Failed", None), **_INNOCENT_ENDS}, kills=True)
async def an_activity_that_kills(hub: Any) -> None:
    await _start_innocents(hub, INNOCENTS[:25])
    await hub.start("calls", "killer", "activity_exit")
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
    await hub.start("calls", "killer-2", "async_activity_exit")
    await _start_innocents(hub, INNOCENTS[25:])
    await hub.end("killer-1", "killer-2", *INNOCENTS)


@scenario(_INNOCENT_ENDS, kills=True, prepare=lambda hub: _start_innocents(hub, INNOCENTS))
async def nobody_kills(hub: Any) -> None:
    await hub.end(*INNOCENTS)


# --- many killers, and children to run them in ---------------------------------------------------------

HEALTHY = {"chain": (100, 2, 7), "fan_out": (40, None, [0, 1, 2, 3, 4, 5]), "sleeper": (50, None, "awake")}
HEALTHY["chain_of_awaits"] = (20, 2, 7)
KILLERS_OF_A_KIND = 10


def _round_of(seed: int) -> None:
    """A round of killers among the healthy, in an order drawn by lot."""
    lot = random.Random(seed)
    starts: list[tuple[str, str, Any]] = []
    ends: Expected = {}
    for name, (count, value, output) in HEALTHY.items():
        for number in range(count):
            starts.append((name, f"{name}-{number}", value))
            ends[f"{name}-{number}"] = ("Completed", output)
    ways = list(WAYS)
    for number in range(KILLERS_OF_A_KIND):
        way = ways[number % len(ways)]
        prefix = lot.choice(["", "async_"])
        starts.append((f"orchestrator_{way}", f"killer-orchestrator-{number}-{way}", None))
        starts.append(("calls", f"killer-activity-{number}-{way}", f"{prefix}activity_{way}"))
    ends |= {instance_id: ("Failed", None) for _, instance_id, _ in starts if instance_id.startswith("killer")}
    lot.shuffle(starts)

    async def drive(hub: Any) -> None:
        for name, instance_id, value in starts:
            await hub.start(name, instance_id, value)
        await hub.end(*ends)

    SCENARIOS[f"killers_{seed}"] = Scenario(drive=drive, ends=ends, kills=True, has_child=True)


ROUNDS = int(os.environ.get("KILLER_ROUNDS", "2"))

for _seed in range(1, ROUNDS + 1):
    _round_of(_seed)
