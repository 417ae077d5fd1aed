"""Function Apps written by tests, and `durable` as a real process."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DEADLINE = 30.0
"""Seconds after which a process that does not do what a test waits for is taken to hang."""

HEADER = """
import azure.functions as func
import durable_ext as df

app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)
"""

DURABLE = (sys.executable, "-c", "from durable_ext.cli import main; main()")


def write_app(directory: Path, body: str, *, header: str = HEADER, **files: Any) -> Path:
    """A Function App of `header` and `body`; `files` are JSON files by their name without suffix, dots as `__`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "function_app.py").write_text(header + textwrap.dedent(body), encoding="utf-8")
    for name, content in files.items():
        (directory / f"{name.replace('__', '.')}.json").write_text(json.dumps(content), encoding="utf-8")
    return directory


class Process:
    """A running `durable` command, whose output is read line by line."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        environ = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
        self.child = subprocess.Popen(
            [*DURABLE, *arguments], cwd=cwd, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def until(self, text: str) -> str:
        """Read on to the line that holds `text`, and return it."""
        while True:
            try:
                line = self._queue.get(timeout=DEADLINE)
            except queue.Empty:
                raise AssertionError(f"no {text!r} within {DEADLINE:g} s in:\n{self.output}") from None
            assert line is not None, f"the process ended without {text!r}:\n{self.output}"
            self.lines.append(line)
            if text in line:
                return line

    def signal(self, number: signal.Signals) -> None:
        self.child.send_signal(number)

    def wait(self) -> int:
        """The exit code, once the process has ended."""
        code = self.child.wait(DEADLINE)
        self._reader.join(DEADLINE)
        while not self._queue.empty():
            line = self._queue.get()
            if line is not None:
                self.lines.append(line)
        return code

    @property
    def output(self) -> str:
        return "\n".join(self.lines)


@contextmanager
def durable(*arguments: str, cwd: Path) -> Iterator[Process]:
    """A `durable` command that is killed at the end if it still runs."""
    process = Process(*arguments, cwd=cwd)
    try:
        yield process
    finally:
        process.child.kill()
        process.wait()
        assert process.child.stdout is not None
        process.child.stdout.close()


@contextmanager
def running_host(app_dir: Path, *arguments: str) -> Iterator[tuple[Process, str]]:
    """`durable run` on a free port, once it is ready, with its URL."""
    with durable("run", "--port", "0", *arguments, cwd=app_dir) as process:
        url = process.until("Ready:").split()[-1]
        yield process, url
