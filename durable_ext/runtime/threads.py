"""The threads that sync activities run on.

Not `concurrent.futures`: a thread that does not come back must be let go of without stopping the others, and a
shortage of threads must not fail a call that one of those there are would have run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from durable_ext.errors import DurableError


class NoThreadError(DurableError):
    """The system gives no thread, and there is none to wait for."""

    def __init__(self, reason: BaseException) -> None:
        super().__init__(f"no thread to run an activity on can be started: {reason}")


class Threads:
    """Starts a thread when none is idle, up to `limit`; what finds none waits for the next that is.

    They are daemons: a process may end without what never returns.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._living = 0
        self._started = 0

    def submit(self, job: Callable[[], None]) -> None:
        """Run a job, which must not raise. Raises `NoThreadError`, not having accepted it."""
        if not self._idle.acquire(blocking=False) and self._living < self._limit:
            try:
                return self._start(job)
            except RuntimeError as error:
                if not self._living:
                    raise NoThreadError(error) from error
        self._jobs.put(job)

    def let_go(self) -> None:
        """One of the threads is in a job that does not end: another may take its place.

        Should the job ever end, it is to call `end_thread` last.
        """
        with self._lock:
            self._living -= 1

    def close(self) -> None:
        """Let the threads end with what they are doing."""
        for _ in range(self._started):
            self._jobs.put(None)

    def _start(self, job: Callable[[], None]) -> None:
        name = f"durable-activity-{self._started}"
        thread = threading.Thread(target=self._main, args=(job,), name=name, daemon=True)
        with self._lock:
            self._living += 1
        try:
            thread.start()
        except BaseException:
            with self._lock:
                self._living -= 1
            raise
        self._started += 1

    def _main(self, first: Callable[[], None]) -> None:
        job: Callable[[], None] | None = first
        while job is not None:
            try:
                job()
            except _LetGo:
                return
            job = self._next()

    def _next(self) -> Callable[[], None] | None:
        try:
            return self._jobs.get_nowait()
        except Empty:
            self._idle.release()
            return self._jobs.get()


class _LetGo(Exception):  # noqa: N818 - a signal to the thread, not an error
    pass


def end_thread() -> None:
    """Called at the end of a job on a thread that was let go of: it must not take another."""
    raise _LetGo
