"""Child processes: one request at a time each, and what it was that ended them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias

from durable_ext.clock import Alarm, Clock, timeout, wait
from durable_ext.errors import DurableError
from durable_ext.runtime.processes import how_it_ended
from durable_ext.runtime.quarantined import LENGTH, READY

MOST = 2
"""Each child holds the app once more."""

IDLE = 60.0
"""Seconds a child waits for the next request."""

START_LIMIT = 60.0
"""Seconds a child may take to load the app."""

STARTS = 2
"""Times a child is started for a request before it is given up."""

_LAST_WORDS = 1.0
"""Seconds to read what a child that is gone has still sent: user code may have left a process that holds the pipe."""


class ChildDiedError(DurableError):
    """A child died over a request, after it had begun with it."""

    def __init__(self, how: str) -> None:
        super().__init__(f"the process ended over it: {how}")
        self.how = how


class ChildUnavailableError(DurableError):
    """No child gets as far as taking a request."""

    def __init__(self, command: Sequence[str], how: str) -> None:
        super().__init__(f"no process could be started that has loaded the app ({' '.join(command)}): {how}")
        self.command, self.how = tuple(command), how


class _NotBegunError(Exception):
    """The child ended before it had anything to do with the request."""


SeeOff: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]
"""Does something in the background that `Children.close` waits for."""


class Child:
    """A process that answers requests. Made by `start`."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.alarm: Alarm | None = None

    @classmethod
    async def start(cls, command: Sequence[str], clock: Clock, see_off: SeeOff) -> Child:
        """Start one and wait until it has loaded the app. Raises `_NotBegunError` if it does not come to that."""
        options: dict[str, Any] = {"start_new_session": True}  # signals of the terminal are not for it
        if sys.platform == "win32":
            options = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        try:
            process = await create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env=_environment(), **options)
        except OSError as error:
            raise _NotBegunError(str(error)) from error
        child = cls(process)
        try:
            async with timeout(clock, START_LIMIT):
                if await child._read() == READY:
                    return child
            how = how_it_ended(await process.wait())
        except TimeoutError:
            how = f"it took more than {START_LIMIT:.0f} s"
        except BaseException:
            see_off(child.kill())
            raise
        await child.kill()
        raise _NotBegunError(how)

    @property
    def is_alive(self) -> bool:
        """Whether nothing is known of its end."""
        return self._process.returncode is None

    async def ask(self, request: bytes, clock: Clock) -> bytes:
        """Return the answer. Raises `ChildDiedError`, or `_NotBegunError`."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(LENGTH.pack(len(request)) + request)
            await stdin.drain()
        except ConnectionError:
            pass  # it is gone: what it has said, if anything, is there to be read
        begun = await self._read_or_end(clock)
        if begun is None:
            raise _NotBegunError(how_it_ended(await self._process.wait()))
        answer = await self._read_or_end(clock)
        if answer is None:
            raise ChildDiedError(how_it_ended(await self._process.wait()))
        return answer

    async def _read_or_end(self, clock: Clock) -> bytes | None:
        """The next frame; None if the process ends without one."""
        frame = asyncio.ensure_future(self._read())
        end = asyncio.ensure_future(self._process.wait())
        try:
            await asyncio.wait((frame, end), return_when=asyncio.FIRST_COMPLETED)
            if not frame.done():
                await wait(clock, [frame], _LAST_WORDS)
            return frame.result() if frame.done() else None
        finally:
            frame.cancel()
            end.cancel()

    async def _read(self) -> bytes | None:
        stdout = self._process.stdout
        assert stdout is not None
        try:
            (size,) = LENGTH.unpack(await stdout.readexactly(LENGTH.size))
            return await stdout.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def kill(self) -> None:
        """End it at once, whatever it is at."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def dismiss(self) -> None:
        """Let it end by itself, for want of requests."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


class Children:
    """A few children, started when they are needed and kept for a while."""

    def __init__(self, command: Sequence[str], clock: Clock) -> None:
        self._command, self._clock = tuple(command), clock
        self._slots = asyncio.Semaphore(MOST)
        self._idle: list[Child] = []
        self._endings: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def ask(self, request: bytes, *, fresh: bool = False, limit: float | None = None) -> bytes:
        """Return what a child answers; with `fresh` one that has never run anything.

        Raises `ChildDiedError`, also if there is no answer within `limit` seconds, and `ChildUnavailableError`.
        Cancelled, it ends the child.
        """
        async with self._slots:
            how = ""
            for _ in range(STARTS):
                try:
                    return await self._ask(request, fresh, limit)
                except _NotBegunError as error:
                    how = str(error)
            raise ChildUnavailableError(self._command, how)

    async def _ask(self, request: bytes, fresh: bool, limit: float | None) -> bytes:
        child = await self._take(fresh)
        try:
            if limit is None:
                answer = await child.ask(request, self._clock)
            else:
                async with timeout(self._clock, limit):
                    answer = await child.ask(request, self._clock)
        except TimeoutError:
            await child.kill()
            raise ChildDiedError(f"ended after {limit:.0f} s without an answer") from None
        except BaseException:
            self._see_off(child.kill())  # by itself: whoever was cancelled once may be cancelled again
            raise
        if self._is_closed:
            await child.kill()
        else:
            child.alarm = self._clock.call_later(IDLE, self._dismiss, child)
            self._idle.append(child)
        return answer

    async def _take(self, fresh: bool) -> Child:
        while self._idle:
            child = self._idle[-1]
            if not fresh and child.is_alive:
                self._idle.pop()
                assert child.alarm is not None
                child.alarm.cancel()
                return child
            self._dismiss(child)
        return await Child.start(self._command, self._clock, self._see_off)

    def _dismiss(self, child: Child) -> None:
        self._idle.remove(child)
        assert child.alarm is not None
        child.alarm.cancel()
        self._see_off(child.dismiss())

    def _see_off(self, ending: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(ending)
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    async def close(self) -> None:
        """End the children that have nothing to do, and the others as soon as they have answered."""
        self._is_closed = True
        while self._idle:
            child = self._idle.pop()
            assert child.alarm is not None
            child.alarm.cancel()
            self._see_off(child.kill())
        if self._endings:
            await asyncio.wait(self._endings)


def _environment() -> dict[str, str]:
    """This process's, with what it would import from: a host may have put that together as it went."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
