"""Stragglers of a host that has stopped: calls of sync functions that do not return, and tasks that do not end."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType, CoroutineType, FrameType

from durable_ext.host.threads import caller_of
from durable_ext.tracebacks import is_ours

_PATIENCE = 1.0
"""Seconds that all of them together get to end."""

_LOOK_AGAIN = 0.02
"""Seconds between two looks at the threads: none of them tells the loop when it ends."""

_SHOWN = 10
"""Places named at most."""


async def stragglers(app_dir: Path) -> Counter[str]:
    """Where user code still runs, and how often, once all have had a moment to end. Empty: nobody is left.

    Cancels the tasks that are left, as the end of the event loop would: but that would wait for them for ever.
    Threads that wait for work, or run nothing of the app in `app_dir`, do not count.
    """
    loop = asyncio.get_running_loop()
    for task in _tasks():
        task.cancel()
    end = loop.time() + _PATIENCE
    while (threads := _in_threads(app_dir)) or _tasks():
        if loop.time() >= end:
            return Counter([*threads, *(_place(_awaits(each)) or each.get_name() for each in _tasks())])
        await asyncio.sleep(_LOOK_AGAIN)
    return Counter()


def still_running(app_dir: Path) -> Counter[str]:
    """Where the app's code runs this instant, on the main thread too. To be asked from any other thread."""
    places = _in_threads(app_dir)
    main = list(_stack(sys._current_frames().get(threading.main_thread().ident or 0)))
    if (innermost := _last_of_app(main, app_dir)) is not None:
        places.append(innermost)
    return Counter(places)


def describe(left: Counter[str]) -> str:
    """The places, those of most calls first."""
    shown = [f"{place} ({count} calls)" if count > 1 else place for place, count in left.most_common(_SHOWN)]
    return ", ".join([*shown, "…"] if len(left) > _SHOWN else shown)


def _in_threads(app_dir: Path) -> list[str]:
    """Where the threads are that run something of the app, and would keep the process from ending."""
    frames = sys._current_frames()
    places = []
    for each in threading.enumerate():
        if each is threading.main_thread() or each.daemon:
            continue
        stack = list(_stack(frames.get(each.ident or 0)))
        place, caller = _place(stack) or _last_of_app(stack, app_dir), caller_of(each)
        if caller is not None:
            places.append(f"{place} for {caller}" if place is not None else f"a thread for {caller}")
        elif place is not None:
            places.append(place)
    return places


def _tasks() -> list[asyncio.Task[object]]:
    return [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]


def _stack(innermost: FrameType | None) -> Iterator[tuple[CodeType, int]]:
    """Code and line of each frame of a thread, the outermost first."""
    frames = []
    while innermost is not None:
        frames.append((innermost.f_code, innermost.f_lineno))
        innermost = innermost.f_back
    return reversed(frames)


def _awaits(task: asyncio.Task[object]) -> Iterator[tuple[CodeType, int]]:
    """Code and line of each coroutine of a task, the outermost first."""
    awaited: object = task.get_coro()
    while isinstance(awaited, CoroutineType):
        if awaited.cr_frame is not None:
            yield awaited.cr_code, awaited.cr_frame.f_lineno
        awaited = awaited.cr_await


def _place(stack: Iterable[tuple[CodeType, int]]) -> str | None:
    """The user's function and where in it the call is: the first frame below one of this package."""
    called_by_us = False
    for code, line in stack:
        ours = is_ours(code.co_filename)
        if called_by_us and not ours:
            return _named(code, line)
        called_by_us = ours
    return None


def _last_of_app(stack: Iterable[tuple[CodeType, int]], app_dir: Path) -> str | None:
    """The innermost frame in a file of the app itself, not of a package installed into its directory."""
    found = None
    for code, line in stack:
        path = Path(code.co_filename)
        if path.is_relative_to(app_dir) and "site-packages" not in path.parts and not is_ours(code.co_filename):
            found = _named(code, line)
    return found


def _named(code: CodeType, line: int) -> str:
    return f"{code.co_qualname} ({code.co_filename}:{line})"
