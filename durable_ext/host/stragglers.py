"""Stragglers of a host that has stopped: calls of sync functions that do not return, and tasks that do not end."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from types import CodeType, CoroutineType, FrameType

from durable_ext.tracebacks import is_ours

_PATIENCE = 1.0
"""Seconds that all of them together get to end."""

_LOOK_AGAIN = 0.02
"""Seconds between two looks at the threads: none of them tells the loop when it ends."""

_SHOWN = 10
"""Places named at most."""


async def stragglers() -> Counter[str]:
    """Where user code still runs, and how often, once all have had a moment to end. Empty: nobody is left.

    Cancels the tasks that are left, as the end of the event loop would: but that would wait for them for ever.
    """
    loop = asyncio.get_running_loop()
    for task in _tasks():
        task.cancel()
    end = loop.time() + _PATIENCE
    while (threads := _threads()) or _tasks():
        if loop.time() >= end:
            frames = sys._current_frames()
            places = [_place(_stack(frames.get(each.ident or 0)), each.name) for each in threads]
            places += [_place(_awaits(each), each.get_name()) for each in _tasks()]
            return Counter(places)
        await asyncio.sleep(_LOOK_AGAIN)
    return Counter()


def describe(left: Counter[str]) -> str:
    """The places, those of most calls first."""
    shown = [f"{place} ({count} calls)" if count > 1 else place for place, count in left.most_common(_SHOWN)]
    return ", ".join([*shown, "…"] if len(left) > _SHOWN else shown)


def _threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each is not threading.main_thread() and not each.daemon]


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


def _place(stack: Iterable[tuple[CodeType, int]], otherwise: str) -> str:
    """The user's function and where in it the call is: the first frame below one of this package."""
    called_by_us = False
    for code, line in stack:
        ours = is_ours(code.co_filename)
        if called_by_us and not ours:
            return f"{code.co_qualname} ({code.co_filename}:{line})"
        called_by_us = ours
    return otherwise
