"""The local host as a process: logging, signals, exit codes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.logging import RichHandler

from durable_ext.host.app import LocalHost
from durable_ext.host.banner import print_banner
from durable_ext.host.log_lines import PLAIN, LineFormatter
from durable_ext.host.stragglers import describe, stragglers
from durable_ext.printable import printable
from durable_ext.runtime.logs import ActivityLogFilter

AT_ONCE = 130
"""Exit code after a second signal: the shell's for an interrupted program."""

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
    asyncio.run(_serve(host, console))
    return 0


async def _serve(host: LocalHost, console: Console) -> None:
    stop = asyncio.Event()
    async with host:
        # Only now: while the app is being imported, Python's own way of interrupting it is the one that works.
        _on_signals(lambda: _stop_or_leave(stop, console))
        print_banner(host, console)
        await stop.wait()
    left = await stragglers()
    if left:  # nothing they do would be stored any more, and the end of the process would wait for them
        said = printable(f"leaving {sum(left.values())} function call(s) that did not return: {describe(left)}")
        console.print(said, markup=False)
        _exit(0)


def _stop_or_leave(stop: asyncio.Event, console: Console) -> None:
    if stop.is_set():
        console.print("stopped at once")
        _exit(AT_ONCE)
    console.print("stopping; once more to stop at once")
    stop.set()


def _on_signals(react: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()

    def from_handler(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(react)

    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, react)
        except NotImplementedError:  # Windows
            signal.signal(number, from_handler)


def _exit(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


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
