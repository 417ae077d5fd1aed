"""A program whose functions end their process in every way there is, and the child that has loaded it.

Run as a script it is that child: quicker to start than one that loads a Function App.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from durable_ext.codec import JsonCodec
from durable_ext.engine.turn import EngineOptions
from durable_ext.registry import Activity, Orchestrator, Registry
from durable_ext.runtime.logs import current_activity
from durable_ext.runtime.program import Program
from durable_ext.runtime.quarantined import Pipes, keep_to_the_parent, serve

COMMAND = [sys.executable, __file__]


def double(value: int) -> int:
    return 2 * value


async def double_later(value: int) -> int:
    await asyncio.sleep(0)
    return 2 * value


async def who_am_i(value: Any) -> str:
    return f"{current_activity.get().instance_id}, attempt {current_activity.get().attempt}"


async def hang(value: Any) -> None:
    await asyncio.Event().wait()


def process_id(value: Any) -> int:
    return os.getpid()


def raise_error(value: Any) -> None:
    raise ValueError("not this one")


def say(value: str) -> str:
    print(value)  # noqa: T201
    return sys.stdin.read()


def surrogate(value: Any) -> str:
    return "\ud800"


def exit_7(value: Any) -> None:
    os._exit(7)


def kill_9(value: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def segmentation_fault(value: Any) -> None:
    ctypes.string_at(0)


def recursion_in_c(value: Any) -> None:
    compare = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    sort = ctypes.PyDLL(None).qsort

    @compare
    def again(first: int, second: int) -> int:
        sys.setrecursionlimit(10**9)
        sort((ctypes.c_int * 2)(2, 1), 2, 4, again)
        return 0

    again(0, 0)


async def exit_7_later(value: Any) -> None:
    await asyncio.sleep(0)
    os._exit(7)


async def signal_all(value: Any) -> str:
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    return "still there"


def exit_once(marker: str) -> str:
    """Kills the first process it runs in, and no other."""
    if not Path(marker).exists():
        Path(marker).touch()
        os._exit(9)
    return "this time it went well"


def touch_and_hang(marker: str) -> None:
    """Leaves word of the process it runs in, and returns when that is taken away."""
    Path(marker).write_text(str(os.getpid()))
    while Path(marker).exists():
        time.sleep(0.02)


def leave_a_thread(value: Any) -> None:
    threading.Thread(target=time.sleep, args=(600,)).start()


ACTIVITIES = [
    double,
    double_later,
    who_am_i,
    hang,
    process_id,
    raise_error,
    say,
    surrogate,
    exit_7,
    kill_9,
    segmentation_fault,
    recursion_in_c,
    exit_7_later,
    signal_all,
    exit_once,
    touch_and_hang,
    leave_a_thread,
]


def chain(context: Any) -> Any:
    first = yield context.call_activity("double", context.get_input())
    return (yield context.call_activity("double", first))


def calls(context: Any) -> Any:
    """Calls, when it is told to, the activity that is its input, or the first of it with the second."""
    yield context.wait_for_external_event("go")
    name, value = context.get_input() if isinstance(context.get_input(), list) else (context.get_input(), None)
    return (yield context.call_activity(name, value))


def turn_exits(context: Any) -> Any:
    os._exit(7)


async def turn_is_killed(context: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def turn_hangs(context: Any) -> Any:
    time.sleep(600)


def waits(context: Any) -> Any:
    return (yield context.wait_for_external_event("go"))


ORCHESTRATORS = [chain, calls, turn_exits, turn_is_killed, turn_hangs, waits]


def make_program() -> Program:
    registry = Registry()
    for function in ACTIVITIES:
        name = function.__name__
        parameter = function.__code__.co_varnames[0]
        registry.activities.add(Activity(name=name, function=function, input_name=parameter))
    for orchestrator in ORCHESTRATORS:
        registry.orchestrators.add(Orchestrator(name=orchestrator.__name__, function=orchestrator))
    return Program(registry=registry, codec=JsonCodec(), options=EngineOptions())


if __name__ == "__main__":
    pipes = Pipes()
    keep_to_the_parent()
    serve(make_program(), pipes)
