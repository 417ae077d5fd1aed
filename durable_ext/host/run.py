"""The local host as a process: logging, signals, exit codes."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

from durable_ext.host.app import LocalHost
from durable_ext.host.banner import print_banner
from durable_ext.host.ending import AT_ONCE, Ending
from durable_ext.host.log_lines import PLAIN, LineFormatter
from durable_ext.host.stragglers import describe, stragglers
from durable_ext.host.threads import CallThreads
from durable_ext.printable import printable
from durable_ext.runtime.logs import ActivityLogFilter

SWITCH_INTERVAL = 0.001
"""Seconds a thread may keep the interpreter while another wants it. A commit gives it up at every statement, and with
Python's 5 ms would wait that long for each of them whenever the event loop is busy."""


def run(app_dir: Path, *, port: int | None, storage: str | None, bind: str, grace: float, verbose: bool) -> int:
    """Run the app until a signal says stop; return the exit code. A second signal stops at once; nothing is lost."""
    set_up_logging(verbose=verbose)
    sys.setswitchinterval(SWITCH_INTERVAL)
    console = Console(highlight=False, emoji=False, soft_wrap=True)
    host = LocalHost(app_dir, port=port, storage=storage, bind=bind, grace=grace)
    if host.app_dir.is_dir():
        os.chdir(host.app_dir)  # as every Functions host does: apps open files beside them
    process = _Process(host, grace, console)
    try:
        asyncio.run(process.serve())
    except KeyboardInterrupt:
        if not process.is_stopping:
            raise
        console.print("stopped while the app was being imported")
        return AT_ONCE
    return 0


class _Process:
    """The host, and the signals that stop it."""

    def __init__(self, host: LocalHost, grace: float, console: Console) -> None:
        self._host, self._console = host, console
        self._ending = Ending(host, grace, self._stop_soon)
        self._stop = asyncio.Event()

    @property
    def is_stopping(self) -> bool:
        """Whether a signal has asked for it."""
        return self._ending.is_asked_for

    async def serve(self) -> None:
        """Run until a signal says stop, and end the process if something keeps it."""
        loop = self._loop = asyncio.get_running_loop()
        loop.set_default_executor(CallThreads(thread_name_prefix="asyncio"))
        self._ending.listen()
        async with self._host as host:
            self._ending.listen()
            if not self.is_stopping:
                print_banner(host, self._console)
                await self._stop.wait()
        self._ending.stopped()
        left = await stragglers(host.app_dir)
        if left:  # nothing they do would be stored any more, and the end of the process would wait for them
            said = printable(f"leaving {sum(left.values())} function call(s) that did not return: {describe(left)}")
            self._console.print(said, markup=False)
            self._ending.leave()

    def _stop_soon(self) -> None:
        with suppress(RuntimeError):  # the loop has ended already
            self._loop.call_soon_threadsafe(self._begin_to_stop)

    def _begin_to_stop(self) -> None:
        self._console.print("stopping; once more to stop at once")
        self._stop.set()


def set_up_logging(*, verbose: bool) -> None:
    """Log to stderr: in colours on a terminal, else one plain line each."""
    handler: logging.Handler
    if sys.stderr.isatty():
        handler = RichHandler(console=Console(stderr=True), show_path=False, rich_tracebacks=False)
        handler.setFormatter(LineFormatter("%(message)s"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(LineFormatter(PLAIN))
    handler.addFilter(ActivityLogFilter())
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)
    for noisy in ("asyncio", "aiohttp"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
