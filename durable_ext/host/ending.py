"""The end of the host's process: signals ask for it, one bound holds for all of it, and exit handlers run before it."""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn, Protocol

from durable_ext.host.stragglers import describe, still_running

AT_ONCE = 130
"""Exit code after a second signal, and after one during the import: the shell's for an interrupted program."""

OVERTIME = 10.0
"""Seconds beyond the grace after which a stop that is not through is ended by force."""

EXIT_HANDLERS = 5.0
"""Seconds that `atexit` handlers get where the process is ended by force."""


class Stoppable(Protocol):
    """What the process runs."""

    @property
    def app_dir(self) -> Path:
        """Where the user's code is."""
        ...

    @property
    def is_importing(self) -> bool:
        """Whether the app is being imported now: only an exception can end that."""
        ...

    def disown(self) -> None:
        """The process ends now, on purpose: what runs is not to blame. From any thread."""
        ...


class Ending:
    """Hears signals from `listen` on. The first asks for a stop: `stop` is called, on the main thread.

    A second one ends the process at once, whatever runs then.
    """

    def __init__(self, host: Stoppable, grace: float, stop: Callable[[], None]) -> None:
        self._host, self._grace, self._stop = host, grace, stop
        self._pid = os.getpid()
        self._code = 1
        self._in_exit_handlers = False
        self.is_asked_for = False

    def listen(self) -> None:
        """Take the signals; again, if the app has taken them meanwhile."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a process that the app has forked, and wants to be rid of
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif self.is_asked_for:
            self._host.disown()
            _say("stopped at once")
            _exit(AT_ONCE)
        else:
            self.is_asked_for = True
            # Not a Thread: whoever was interrupted may hold the locks of `threading`.
            _thread.start_new_thread(self._watch, ())
            if self._host.is_importing:
                raise KeyboardInterrupt
            self._stop()

    def stopped(self) -> None:
        """What there is to store is stored: from now on the process ends well, however it ends."""
        self._code = 0

    def leave(self) -> NoReturn:
        """End the process although something still runs in it. Exit handlers run, within a bound."""
        self._in_exit_handlers = True
        threading.Thread(target=_exit_after, args=(EXIT_HANDLERS, self._code), daemon=True).start()
        with suppress(BaseException):
            atexit._run_exitfuncs()
        _exit(self._code)

    def _watch(self) -> None:
        atexit.register(self._exit_handlers_begin)
        bound = self._grace + OVERTIME
        time.sleep(bound)
        if not self._in_exit_handlers:
            left = still_running(self._host.app_dir)
            self._host.disown()
            _say(f"the stop is not through after {bound:g} s and is ended by force{_among(left)}")
            self.leave()
        time.sleep(EXIT_HANDLERS)
        _exit(self._code)

    def _exit_handlers_begin(self) -> None:
        self._in_exit_handlers = True


def _among(left: Counter[str]) -> str:
    return f"; still running: {describe(left)}" if left else ""


def _exit_after(seconds: float, code: int) -> None:
    time.sleep(seconds)
    os._exit(code)


def _say(text: str) -> None:
    # Not print: whoever was interrupted may be in the midst of one.
    with suppress(OSError):
        os.write(1, f"{text}\n".encode(errors="replace"))


def _exit(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # closed, or interrupted in the midst of a write
            stream.flush()
    os._exit(code)
