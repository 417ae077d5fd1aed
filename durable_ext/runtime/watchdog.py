"""Turns have a bound: code that does not come back is broken off where it is.

A thread looks after the sessions that run. In the thread of one that takes too long it raises an error, wherever that
is, and again until the session is left. What is left of the session is worthless then, so whatever was interrupted
does not matter, but for what is outside of it: that is put back.

Code of C, such as `time.sleep` or a regular expression, is broken off only once it returns. A loop that spends all its
time inside a bare `except:` is not broken off at all.
"""

from __future__ import annotations

import ctypes
import logging
import sys
import threading
from asyncio import events
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from time import monotonic, sleep
from types import FrameType
from typing import ParamSpec, TypeVar

from durable_ext.engine.session import Session
from durable_ext.engine.turn import Turn
from durable_ext.errors import DurableError
from durable_ext.history import HistoryEvent
from durable_ext.tracebacks import innermost_line, is_ours

logger = logging.getLogger(__name__)

_P = ParamSpec("_P")
_R = TypeVar("_R")

_PATROL = 1.0  # seconds between two looks at what runs
_AGAIN = 0.05  # seconds until code that swallowed the error gets it once more


class TurnTooLongError(DurableError):
    """Orchestrator code did not come back, and was broken off."""

    def __init__(self, limit: float, line: str | None) -> None:
        super().__init__(
            f"the orchestrator ran for more than {limit:g} s without waiting, and was broken off"
            f"{f' at {line}' if line else ''}: while it runs, nothing else does. Work belongs into activities, and "
            f"long histories are cut with continue_as_new"
        )


class _BrokenOff(KeyboardInterrupt):
    """What is raised in the code. As a KeyboardInterrupt it passes through asyncio's tasks, and through the engine."""


class _Watch:
    __slots__ = ("began", "is_late", "is_over", "limit", "line", "thread", "was_fired")

    def __init__(self, limit: float) -> None:
        self.limit, self.began, self.thread = limit, monotonic(), threading.get_ident()
        self.line: str | None = None
        self.is_late = self.is_over = self.was_fired = False


class _Watchdog:
    """One thread for all that runs in this process, from the first session on."""

    def __init__(self) -> None:
        self._watches: dict[int, _Watch] = {}
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None

    def begin(self, limit: float) -> _Watch:
        """Look after what this thread does from now on."""
        if self._thread is None or not self._thread.is_alive():  # a fork has the object, not the thread
            self._thread = threading.Thread(target=self._patrol, name="durable: watchdog", daemon=True)
            self._thread.start()
        watch = self._watches[threading.get_ident()] = _Watch(limit)
        return watch

    def settle(self, watch: _Watch) -> None:
        """The code was left: nothing is raised any more, not even what was on its way."""
        while True:
            try:
                with self._lock:
                    watch.is_over = True
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(watch.thread), None)
            except _BrokenOff:
                continue
            return

    def _patrol(self) -> None:
        while True:
            late = [watch for watch in list(self._watches.values()) if self._look_at(watch)]
            limits = [watch.limit / 4 for watch in list(self._watches.values())]
            sleep(_AGAIN if late else min([_PATROL, *limits]))

    def _look_at(self, watch: _Watch) -> bool:
        if watch.is_over or monotonic() - watch.began < watch.limit or _is_debugged():
            return False
        if not watch.is_late:  # perhaps the whole process stood still, and the code is about to come back
            watch.is_late = True
            return True
        with self._lock:
            watch.was_fired = True  # said before the last look, or `settle` might not be called
            if watch.is_over:
                return False
            watch.line = watch.line or _line(sys._current_frames().get(watch.thread))
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(watch.thread), ctypes.py_object(_BrokenOff))
            return True


_WATCHDOG = _Watchdog()


def bounded(limit: float, step: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Run `step`. Raises `TurnTooLongError` if it took longer than `limit` seconds, however it ended."""
    loop, hooks, tracer, profiler = (
        events._get_running_loop(),
        sys.get_asyncgen_hooks(),
        sys.gettrace(),
        sys.getprofile(),
    )
    watch = _WATCHDOG.begin(limit)
    line: str | None = None
    try:
        try:
            result = step(*args, **kwargs)
        finally:
            watch.is_over = True
        if not watch.was_fired:
            return result
    except _BrokenOff as error:
        line = innermost_line(error, _is_users)
    except BaseException:
        if not watch.was_fired:
            raise
    _WATCHDOG.settle(watch)
    events._set_running_loop(loop)
    sys.set_asyncgen_hooks(*hooks)
    sys.settrace(tracer)
    sys.setprofile(profiler)
    raise TurnTooLongError(limit, line or watch.line)


def _line(frame: FrameType | None) -> str | None:
    """The user's line that a thread is at, if it is in user code."""
    while frame is not None and frame.f_code is not bounded.__code__:
        if _is_users(frame.f_code.co_filename):
            return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        frame = frame.f_back
    return None


_STANDARD = str(Path(threading.__file__).parent)


def _is_users(file: str) -> bool:
    is_standard = file.startswith(_STANDARD) and "site-packages" not in file
    return not (is_ours(file) or is_standard or file.startswith("<"))


def _is_debugged() -> bool:
    """Whether somebody may be looking at the code at a breakpoint, for as long as they like."""
    return "pydevd" in sys.modules


class BoundedSession:
    """A session whose code runs no longer than `limit` seconds at a time."""

    def __init__(self, session: Session, limit: float) -> None:
        self._session, self._limit = session, limit
        self.is_open = session.is_open

    def replay(self, history: Sequence[HistoryEvent]) -> None:
        """As the session has it. Raises `TurnTooLongError`; the session is worthless then."""
        bounded(self._limit, self._session.replay, history)

    def advance(self, now: datetime, inbox: Sequence[HistoryEvent]) -> Turn:
        """As the session has it. Raises `TurnTooLongError`; the session is worthless then."""
        return bounded(self._limit, self._session.advance, now, inbox)

    def close(self) -> None:
        """As the session has it. Code that does not end is left where it was broken off."""
        try:
            bounded(self._limit, self._session.close)
        except TurnTooLongError as error:
            logger.warning("on its way out of memory: %s", error)
