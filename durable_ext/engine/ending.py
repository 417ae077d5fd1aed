"""Ending user code that is suspended for good: an evicted generator or coroutine.

Code that swallows GeneratorExit and waits again must not be left to the garbage collector. That would close it once
more at a random moment and without a loop, where `while True: try: await asyncio.sleep(60); except: pass` never gets
to a wait and so never ends. Such code is broken off: wherever it goes, an error is raised, until it is through.
"""

from __future__ import annotations

import inspect
import sys
from types import FrameType
from typing import Any, Protocol

from durable_ext.engine.execution import Evicted
from durable_ext.tracebacks import is_ours

_POLITE_ATTEMPTS = 3
_FORCED_ATTEMPTS = 200
_CAN_WAIT = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE | inspect.CO_ASYNC_GENERATOR


class Closable(Protocol):
    """A generator or coroutine."""

    def close(self) -> None:
        """Raise GeneratorExit where it waits."""


def end(code: Closable) -> None:
    """Close `code`; by force if it goes on waiting. What it raises on its way out concerns nobody any more."""
    if not any(_is_closed(code) for _ in range(_POLITE_ATTEMPTS)):
        break_off(code)


def break_off(code: Closable) -> None:
    """Close `code` by force."""
    with _Breaker():
        any(_is_closed(code) for _ in range(_FORCED_ATTEMPTS))


def _is_closed(code: Closable) -> bool:
    try:
        code.close()
    except KeyboardInterrupt:
        raise
    except RuntimeError as error:
        return "ignored GeneratorExit" not in str(error)
    except BaseException:
        pass
    return True


class _Breaker:
    """Raises `Evicted` in whatever user code runs, again and again, each time one line later than the last time.

    A line inside a `try` swallows it; sooner or later it is a line outside. Python stops tracing when a trace function
    raises, so a profile function, which does not raise, starts it anew at the next call.
    """

    def __init__(self) -> None:
        self._patience = self._lines_left = 0

    def __enter__(self) -> None:
        self._outer_trace, self._outer_profile = sys.gettrace(), sys.getprofile()
        sys.settrace(None)
        sys.setprofile(self._profile)

    def __exit__(self, *error: object) -> None:
        sys.setprofile(self._outer_profile)
        sys.settrace(self._outer_trace)

    def _profile(self, frame: FrameType, event: str, arg: Any) -> None:
        if sys.gettrace() is not None:
            return
        self._lines_left = self._patience
        self._patience += 1
        caller: FrameType | None = frame
        while caller is not None and not is_ours(caller.f_code.co_filename):
            caller.f_trace = self._trace(caller, "call", None)
            caller = caller.f_back
        sys.settrace(self._trace)

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        if not frame.f_code.co_flags & _CAN_WAIT or is_ours(frame.f_code.co_filename):
            return None  # spares the hooks Python calls on the way, too
        if event == "line":
            self._lines_left -= 1
            if self._lines_left < 0:
                raise Evicted
        return self._trace
