"""Timer triggers: each is a task that sleeps to its next occurrence and runs its function, never twice at once."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from durable_ext.clock import Clock, sleep, wait
from durable_ext.errors import ConfigurationError
from durable_ext.host.invocation import Invoker
from durable_ext.host.loader import TimerFunction, timer_request
from durable_ext.host.schedules import Schedule, parse_schedule
from durable_ext.tracebacks import user_traceback

logger = logging.getLogger("durable_ext.host")

_LATE = timedelta(seconds=1)
"""An occurrence that begins later than this was missed, and says so with `past_due`."""

_LONGEST_NAP = 30.0
"""Seconds after which a timer looks at the wall clock again: it may have been set, or the machine may have slept."""


class TimerMemory:
    """Remembers across restarts when each timer was due next, so that a missed occurrence can be made up.

    Without a path it remembers nothing. What cannot be read is forgotten: the next occurrence comes anyway.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._due: dict[str, dict[str, str]] = {} if path is None else _read(path)

    def due(self, name: str) -> datetime | None:
        """When the timer was due next, as of its last run."""
        found = self._due.get(name, {}).get("next")
        return None if found is None else datetime.fromisoformat(found)

    def last(self, name: str) -> str | None:
        """When the timer ran last, as ISO text."""
        return self._due.get(name, {}).get("last")

    def keep(self, name: str, *, last: datetime | None, following: datetime) -> None:
        """Remember a run, and the occurrence after it."""
        before = self.last(name)
        self._due[name] = {"next": following.isoformat()}
        if last is not None or before is not None:
            self._due[name]["last"] = last.isoformat() if last is not None else str(before)
        if self._path is None:
            return
        fresh = self._path.with_suffix(".new")  # so that a crash leaves the old file or the new one
        try:
            fresh.write_text(json.dumps(self._due, indent=2), encoding="utf-8")
            os.replace(fresh, self._path)
        except OSError as err:  # the timer goes on; what is lost is only that a missed occurrence is made up
            logger.warning("cannot remember in %s when timer %s was due: %s", self._path, name, err)


def _read(path: Path) -> dict[str, dict[str, str]]:
    """What of the file can be used: entries of times by their kind, by the timer's name."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as err:
        logger.warning("%s cannot be read, so timers make up no occurrence they have missed: %s", path, err)
        return {}
    if not isinstance(content, dict):
        content = {"": content}
    known = {name: entry for name, entry in content.items() if _is_entry(entry)}
    if len(known) < len(content):
        logger.warning("not all of %s is what timers write there; what else it says is forgotten", path)
    return known


def _is_entry(found: object) -> bool:
    return isinstance(found, dict) and "next" in found and all(map(_is_time, found.values()))


def _is_time(found: object) -> bool:
    try:
        return isinstance(found, str) and datetime.fromisoformat(found).tzinfo is not None
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Timer:
    """A timer function with its schedule read."""

    function: TimerFunction
    following: Schedule


def read_timers(functions: Iterable[TimerFunction]) -> list[Timer]:
    """The timers of an app. Raises `ConfigurationError` naming the function whose schedule cannot be read."""
    timers = []
    for function in functions:
        try:
            timers.append(Timer(function, parse_schedule(function.schedule)))
        except ConfigurationError as err:
            raise ConfigurationError(f"timer function {function.name}: {err}") from err
    return timers


class Timers:
    """Runs the timers of an app from `start` to `stop`."""

    def __init__(self, timers: Iterable[Timer], invoker: Invoker, *, memory: TimerMemory, clock: Clock) -> None:
        self._timers, self._invoker, self._memory, self._clock = list(timers), invoker, memory, clock
        self._tasks: list[asyncio.Task[None]] = []
        self._has_stopped = False

    def start(self) -> None:
        """Begin. Functions with `run_on_startup`, and those that missed an occurrence, run at once."""
        self._tasks = [
            asyncio.create_task(self._run_always(timer), name=f"timer {timer.function.name}") for timer in self._timers
        ]

    async def stop(self, grace: float) -> None:
        """Run nothing more. An async function that is running is cancelled, and has `grace` seconds to end."""
        self._has_stopped = True
        for task in self._tasks:
            task.cancel()
        await wait(self._clock, self._tasks, grace)
        for task in self._tasks:
            if not task.done():
                logger.warning("%s was cancelled and goes on; it is left to itself", task.get_name())

    async def _run_always(self, timer: Timer) -> None:
        """Run the timer; if it breaks down, say so and begin anew. Nobody would notice that it is gone."""
        while not self._has_stopped:
            try:
                await self._run(timer)
            except Exception:
                logger.exception("timer %s broke down; it begins anew", timer.function.name)
                await sleep(self._clock, _LONGEST_NAP)

    async def _run(self, timer: Timer) -> None:
        function, started = timer.function, self._clock.now()
        missed = self._memory.due(function.name) if function.use_monitor else None
        due = timer.following(started)
        if missed is not None and missed < started - _LATE:
            await self._fire(timer, past_due=True)
            due = timer.following(self._clock.now())
        elif function.run_on_startup:
            await self._fire(timer, past_due=False)
        else:
            self._memory.keep(function.name, last=None, following=due)
        while not self._has_stopped:  # a function may have swallowed the cancellation
            await self._sleep_until(due)
            past_due = self._clock.now() - due > _LATE
            await self._fire(timer, past_due=past_due)
            # A run that outlasts its interval leaves occurrences behind. One is made up, not all of them.
            due = timer.following(self._clock.now() if past_due else due)

    async def _sleep_until(self, when: datetime) -> None:
        while (left := (when - self._clock.now()).total_seconds()) > 0:
            await sleep(self._clock, min(left, _LONGEST_NAP))

    async def _fire(self, timer: Timer, *, past_due: bool) -> None:
        function, began = timer.function, self._clock.now()
        following = timer.following(began)
        status = {"Last": self._memory.last(function.name) or "", "Next": following.isoformat()}
        status["LastUpdated"] = status["Last"]
        logger.info("timer function %s runs%s", function.name, " (past due)" if past_due else "")
        try:
            await self._invoker.call(function, timer_request(past_due=past_due, schedule_status=status))
        except Exception as error:
            logger.error("timer function %s failed:\n%s", function.name, user_traceback(error).rstrip())
        if self._has_stopped:  # cancelled, whatever it made of that: the next start makes the occurrence up
            return
        self._memory.keep(function.name, last=began, following=following)
