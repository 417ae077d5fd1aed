"""One life of a host process: a worker on the hub's file, and a client that goes on where it was in the life before.

A life ends when the scenario has come to its end, or in the middle of everything, with `os._exit`: no handler runs,
nothing is flushed or closed, and locks fall to the operating system, as with SIGKILL.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import re
import signal
import sqlite3
import sys
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from fault_killers import FOLDER
from fault_scenarios import REGISTRY, SCENARIOS, Scenario
from faulty_store import FaultyStore, Moment

import durable_ext.runtime.quarantine
from durable_ext.client import OrchestrationClient
from durable_ext.codec import JsonCodec
from durable_ext.errors import InstanceAlreadyExistsError, InstanceStateError, StoreError
from durable_ext.history import (
    EventRaised,
    ExecutionStarted,
    ExecutionTerminated,
    HistoryEvent,
    OrchestrationRuntimeStatus,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
    TimerFired,
    decode_event,
)
from durable_ext.ids import new_execution_id
from durable_ext.messages import Message
from durable_ext.settings import Settings
from durable_ext.storage.contract import InstanceQuery, InstanceRecord, Store
from durable_ext.storage.opening import open_store
from durable_ext.storage.sqlite.tables import KEPT
from durable_ext.taskhub import TaskHub

DIED, BROKE = 77, 78
COMMAND = [sys.executable, str(Path(__file__).with_name("fault_child.py"))]
PATIENCE = 60.0
"""Seconds after which a scenario is taken to hang."""


class Journal:
    """What the client has begun, and what it knows to be done. It is the world outside, so it survives every death."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = set(path.read_text().splitlines()) if path.exists() else set()

    def says(self, what: str, label: str) -> bool:
        return f"{what}: {label}" in self._lines

    def note(self, what: str, label: str) -> None:
        self._lines.add(f"{what}: {label}")
        with self._path.open("a") as file:
            file.write(f"{what}: {label}\n")


class Hub:
    """What a scenario's client does. Every step is taken once, over all lives.

    A client that dies before it is answered does not know whether it was heard. Starts, and what changes an
    instance's state, can be asked for again; for events it looks at `found`, what the inbox held when this life began.
    """

    def __init__(
        self, client: OrchestrationClient, store: Any, folder: Path, found: set[tuple[str, str, str | None]]
    ) -> None:
        self.client, self.folder = client, folder
        self._store, self._journal, self._found = store, Journal(folder / "journal"), found
        self._taken: Counter[str] = Counter()

    async def once(self, label: str, call: Callable[[], Awaitable[Any]]) -> None:
        """Take a step, and note it when it was acknowledged."""
        self._taken[label] += 1
        label = f"{label} ({self._taken[label]})"
        if self._journal.says("done", label):
            return
        is_second_try = self._journal.says("begun", label)
        self._journal.note("begun", label)
        while True:
            try:
                await call()
            except StoreError as error:
                logging.getLogger(__name__).info("the client tries again: %s", error)
                continue
            except (InstanceAlreadyExistsError, InstanceStateError):
                if not is_second_try:
                    raise
            break
        self._journal.note("done", label)

    async def start(self, name: str, instance_id: str, value: Any = None) -> None:
        await self.once(f"start {instance_id}", lambda: self.client.start_new(name, instance_id, value))

    async def event(self, instance_id: str, name: str, data: Any = None) -> None:
        """Raise an event, unlike any other of the scenario."""

        async def send() -> None:
            payload = None if data is None else JsonCodec().encode(data)
            if (instance_id, name, payload) not in self._found:
                await self.client.raise_event(instance_id, name, data)

        await self.once(f"event {name} {data} to {instance_id}", send)

    async def until(self, instance_id: str, status: str, custom_status: Any = ...) -> None:
        """Wait until the instance is in a status, and shows a custom status."""

        def is_so(record: InstanceRecord) -> bool:
            shown = json.loads(record.custom_status) if record.custom_status else None
            return record.runtime_status.value == status and custom_status in (..., shown)

        await self._when(f"wait for {instance_id} to be {status} {custom_status}", instance_id, is_so)

    async def end(self, *instance_ids: str) -> None:
        """Wait until each of the instances has ended."""
        for each in instance_ids:
            await self._when(f"wait for the end of {each}", each, lambda record: record.runtime_status.is_terminal)

    async def _when(self, label: str, instance_id: str, condition: Callable[[InstanceRecord], bool]) -> None:
        async def wait() -> None:
            with self._store.watch(instance_id) as watch:
                while True:
                    record = await self._store.get_instance(instance_id)
                    if record is not None and condition(record):
                        return
                    await watch.changed(1.0)

        await self.once(label, wait)


def live(folder: Path, name: str, moment: Moment | None, kind: str) -> NoReturn:
    """Live, in a process of its own, and leave `outcome.json` if the end is reached."""
    log = folder / f"life-{os.getpid()}.log"
    os.environ[FOLDER] = str(folder)
    durable_ext.runtime.quarantine.ALONE_LIMIT = 0.3  # what has done nothing to its process by then will not
    logging.basicConfig(filename=log, level=logging.INFO, format="%(relativeCreated)d %(name)s %(message)s")
    asyncio.run(_live_and_tell(folder, SCENARIOS[name], moment, kind, log))
    raise AssertionError("a life ends with its process")


async def _live_and_tell(folder: Path, scenario: Scenario, moment: Moment | None, kind: str, log: Path) -> None:
    # Even at the end the process just goes: stopping in order takes longer than all the rest.
    try:
        outcome = await _live(folder, scenario, moment, kind)
        (folder / "outcome.json").write_text(_without_chance(json.dumps(outcome, sort_keys=True), folder))
    except BaseException:
        with log.open("a") as file:
            traceback.print_exc(file=file)
        os._exit(BROKE)
    os._exit(0)


async def _live(folder: Path, scenario: Scenario, moment: Moment | None, kind: str) -> dict[str, Any]:
    url = f"sqlite:///{folder / 'hub.db'}?synchronous=normal"
    real = open_store(url)
    strikes = {
        "die": _die,
        "die soon": _die_soon,
        "fail": _fail,
        "replace": _replace,
        "terminate": _terminate,
        "recreate": _recreate,
    }

    async def strike(moment: Moment, *args: Any) -> None:
        await strikes[kind](moment, url, *args)

    store: Any = FaultyStore(real, moment, strike)
    await store.open()
    database = sqlite3.connect(f"file:{folder / 'hub.db'}?mode=ro", uri=True)
    task_hub = _task_hub(store, scenario)
    hub = Hub(task_hub.client, store, folder, _events_on_their_way(database))
    if scenario.prepare is not None:
        await scenario.prepare(hub)
    await _until_hosted(task_hub)
    try:
        async with asyncio.timeout(PATIENCE):
            await scenario.drive(hub)
            await _until_nothing_is_left(store, database, work=not scenario.leaves_work)
    except TimeoutError:
        raise AssertionError(f"still unfinished: {_left(database)} {await _records(real)}") from None
    return {**await _outcome(real), "calls": dict(store.calls), "struck": store.struck}


def _events_on_their_way(database: sqlite3.Connection) -> set[tuple[str, str, str | None]]:
    rows = database.execute("SELECT instance_id, event FROM inbox").fetchall()
    events = [(instance_id, decode_event(event)) for instance_id, event in rows]
    return {(instance_id, event.name, event.input) for instance_id, event in events if isinstance(event, EventRaised)}


def _task_hub(store: Any, scenario: Scenario) -> TaskHub:
    if scenario.has_child:
        return TaskHub(store, REGISTRY, quarantine_command=COMMAND)
    # Two slots: of any three activities one goes through the table.
    settings = Settings(max_concurrent_activity_functions=2, max_concurrent_orchestrator_functions=4)
    return TaskHub(store, REGISTRY, settings=settings)


async def _until_hosted(task_hub: TaskHub) -> None:
    # A host that cannot start says so and is started again by whoever runs it.
    while True:
        try:
            return await task_hub.start()
        except StoreError as error:
            logging.getLogger(__name__).info("the host is started again: %s", error)


# --- what goes wrong -----------------------------------------------------------------------------------


async def _die(moment: Moment, url: str, *args: Any) -> None:
    os._exit(DIED)


async def _die_soon(moment: Moment, url: str, *args: Any) -> None:
    """At any instruction within the next ten milliseconds."""
    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.01))


async def _fail(moment: Moment, url: str, *args: Any) -> None:
    raise StoreError(f"{moment}: the disk is full, for once; nothing was stored")


async def _replace(moment: Moment, url: str, *args: Any) -> None:
    """Another process starts the id anew, whatever its status."""
    await _start_again(url, args[0].instance_id, frozenset(OrchestrationRuntimeStatus))


async def _recreate(moment: Moment, url: str, *args: Any) -> None:
    """Another process purges the ended instance and starts the id anew."""
    other = open_store(url)
    await other.open()
    record = await other.get_instance(args[0].instance_id)
    assert record is not None
    purged = await other.purge([record.instance_id])
    await other.close()
    if purged:
        await _start_again(url, record, frozenset())


async def _terminate(moment: Moment, url: str, *args: Any) -> None:
    """Another process terminates the instance."""
    other = open_store(url)
    await other.open()
    event = ExecutionTerminated(timestamp=_now(), reason="by somebody else")
    await other.send(
        Message(instance_id=args[0].instance_id, event=event), accepted=frozenset(OrchestrationRuntimeStatus)
    )
    await other.close()


async def _start_again(
    url: str, which: str | InstanceRecord, overridable: frozenset[OrchestrationRuntimeStatus]
) -> None:
    other = open_store(url)
    await other.open()
    record = await other.get_instance(which) if isinstance(which, str) else which
    assert record is not None
    execution_id = new_execution_id()
    start = ExecutionStarted(
        timestamp=_now(),
        name=record.name,
        instance_id=record.instance_id,
        execution_id=execution_id,
        start_id=execution_id,
        input=record.input,
    )
    with contextlib.suppress(InstanceAlreadyExistsError):
        await other.create_instance(start, overridable=overridable)
    await other.close()


def _now() -> datetime:
    return datetime.now(UTC)


# --- how it ended --------------------------------------------------------------------------------------


async def _until_nothing_is_left(store: Any, database: sqlite3.Connection, *, work: bool) -> None:
    """Everything sent was used or dropped. The file is looked at from outside, so there is nothing to be woken by."""
    while True:
        messages, calls = _left(database)
        if not messages and not (calls and work) and not store.is_striking:
            return
        await asyncio.sleep(0.001)


def _left(database: sqlite3.Connection) -> tuple[int, int]:
    (messages,) = database.execute(
        "SELECT count(*) FROM inbox WHERE visible_at <= ? AND visible_at != ?",
        (time.time_ns() // 1000 + 5_000_000, KEPT),
    ).fetchone()
    (calls,) = database.execute("SELECT count(*) FROM work").fetchone()
    return messages, calls


async def _outcome(store: Store) -> dict[str, Any]:
    """What an observer may count on: how each instance ended, and what its history says came in, each once."""
    letters = await store.list_dead_letters()
    return {
        "instances": {each.instance_id: await _account(store, each) for each in await _records(store)},
        "letters": sorted([each.kind, each.instance_id, each.name, each.reason] for each in letters),
    }


async def _records(store: Store) -> list[InstanceRecord]:
    return (await store.list_instances(InstanceQuery(page_size=10_000))).instances


async def _account(store: Store, record: InstanceRecord) -> dict[str, Any]:
    history = await store.read_history(record.instance_id)
    return {
        "name": record.name,
        "status": record.runtime_status.value,
        "input": record.input,
        "output": record.output,
        "custom_status": record.custom_status,
        "parent": record.parent_instance_id,
        "outcomes": sorted(filter(None, (_as_outcome(each) for each in history))),
        "events": [[each.name, each.input] for each in history if isinstance(each, EventRaised)],
    }


def _as_outcome(event: HistoryEvent) -> list[Any] | None:
    if isinstance(event, TaskCompleted | SubOrchestrationInstanceCompleted):
        return [event.task_scheduled_id, type(event).__name__, event.result]
    if isinstance(event, TaskFailed | SubOrchestrationInstanceFailed):
        return [event.task_scheduled_id, type(event).__name__, event.reason]
    if isinstance(event, TimerFired):
        return [event.timer_id, type(event).__name__, None]
    return None


def _without_chance(text: str, folder: Path) -> str:
    return re.sub(r"[0-9a-f]{32}", "#", text.replace(str(folder), "folder"))
