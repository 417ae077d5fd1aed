"""Runs a program on workers over a store in memory, and says what came of it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import jumping
from hostile import Chance, HostileHub, HostileStore, Odds
from jumping import JumpingClock
from sim_programs import LATE, Body, Do, Program

from durable_ext.client.operations import InstanceOperations
from durable_ext.clock import sleep
from durable_ext.codec import JsonCodec
from durable_ext.engine.turn import EngineOptions
from durable_ext.errors import InstanceNotFoundError, InstanceStateError
from durable_ext.history import (
    LIVE,
    EventRaised,
    ExecutionRewound,
    ExecutionStarted,
    HistoryEvent,
    OrchestrationRuntimeStatus,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceFailed,
    TaskCompleted,
    TaskFailed,
    outcome_task_id,
)
from durable_ext.registry import Activity, Orchestrator, Registry
from durable_ext.runtime import program as runtime_program
from durable_ext.runtime.worker import Worker
from durable_ext.settings import Settings
from durable_ext.storage.contract import InstanceRecord, StoreTraits
from durable_ext.storage.memory import MemoryStore

Status = OrchestrationRuntimeStatus
LONG = 200.0
"""Seconds that a stuck activity takes: longer than any wait for it, and yet it frees its slot one day."""


REWINDS = 10

CALM = Odds()
EMBEDDED = StoreTraits()


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Under what conditions a program runs.

    `restarts`: workers that stop in order, and begin anew. `pauses`: workers that take nothing for a while.
    """

    odds: Odds = CALM
    workers: int = 1
    crashes: int = 0
    restarts: int = 0
    pauses: int = 0
    warm_instances: int = 100
    activities: int = 10
    traits: StoreTraits = EMBEDDED
    make_hub: Callable[[JumpingClock, Chance, StoreTraits], HostileHub] = HostileHub
    make_store: Callable[[HostileHub], HostileStore] = HostileStore
    make_worker: Callable[..., Worker] = Worker


@dataclass(frozen=True)
class Result:
    """What came of one instance. `outcomes` are those that its last generation has recorded."""

    status: str
    output: Any
    custom_status: Any
    outcomes: tuple[tuple[Any, ...], ...]
    was_rewound: bool


@dataclass
class Outcome:
    """What came of a program, by instance; how often each activity was run, and each freedom taken."""

    results: dict[str, Result] = field(default_factory=dict)
    runs: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def simulate(program: Program, setting: Setting, seed: object) -> Outcome:
    """Run a program to its end. Raises `jumping.HangError` if there is none."""
    with _no_logs():
        return jumping.run(lambda clock: World(clock, program, setting, seed).live())


class World:
    """A hub, the workers that come and go on it, and the clients of a program."""

    def __init__(self, clock: JumpingClock, program: Program, setting: Setting, seed: object) -> None:
        self.clock, self.program, self.setting = clock, program, setting
        self.chance = Chance(f"world {seed}", setting.odds)
        self.hub = setting.make_hub(clock, Chance(f"hub {seed}", setting.odds), setting.traits)
        self.hub.on_crash = self._crash
        self.crashes_left, self.restarts_left, self.pauses_left = setting.crashes, setting.restarts, setting.pauses
        self.client = MemoryStore(self.hub)
        self.operations = InstanceOperations(self.client, clock=clock)
        self.outcome = Outcome()
        self.tasks: set[asyncio.Task[None]] = set()
        # All of them, the dead too: else they are collected as garbage, and what they were at is cleaned up meanwhile.
        self.workers: list[Worker] = []

    async def live(self) -> Outcome:
        """From the first start to the last end."""
        await self.client.open()
        for _ in range(self.setting.workers):
            await self._begin_worker()
        clients = [self._spawn(self._start(*each)) for each in self.program.starts]
        clients += [self._spawn(self._do(each)) for each in self.program.deeds]
        self._spawn(self._resume_forgotten())
        await asyncio.gather(*clients)
        while (live := self._live()) is not None or self.hub.owes:
            if live is not None:
                await self._until(live, lambda row: row.runtime_status.is_terminal)
            await sleep(self.clock, 1.0)
        self._take_stock()
        self.outcome.taken = self.hub.chance.taken
        return self.outcome

    def _live(self) -> str | None:
        """Some instance that has not ended, or whose start is on its way."""
        for instance_id in {*self.hub.belongings, *self.hub.instances}:
            instance = self.hub.instances.get(instance_id)
            if instance is None:
                started = self.hub.belongings[instance_id].messages.values()
                if any(isinstance(each.message.event, ExecutionStarted) for each in started):
                    return instance_id
            elif not instance.row.runtime_status.is_terminal:
                return instance_id
        return None

    def _spawn(self, coroutine: Any) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.add(task)
        return task

    # --- clients -----------------------------------------------------------------------------------------

    async def _start(self, at: float, instance_id: str, body: Body) -> None:
        await sleep(self.clock, at)
        await self._create(instance_id, body, f"execution of {instance_id}", frozenset())

    async def _create(
        self, instance_id: str, body: Body, execution_id: str, overridable: frozenset[OrchestrationRuntimeStatus]
    ) -> None:
        start = ExecutionStarted(
            timestamp=self.clock.now(),
            name=body.flavour,
            instance_id=instance_id,
            execution_id=execution_id,
            start_id=execution_id,
            input=json.dumps([body.number, 0, []]),
        )
        await self.client.create_instance(start, overridable=overridable)

    async def _do(self, deed: Do) -> None:
        instance_id, operations = deed.instance_id, self.operations
        await sleep(self.clock, deed.at)
        if deed.after is not None:
            await self._until(
                instance_id, lambda row: deed.after in (row.runtime_status.value, _json(row.custom_status))
            )
        match deed.what:
            case "raise":
                with _too_late():
                    await operations.raise_event(instance_id, deed.name, json.dumps(deed.payload))
            case "replace":
                assert deed.body is not None
                await self._create(instance_id, deed.body, f"second of {instance_id}", LIVE)
                for payload in deed.payload:
                    await operations.raise_event(instance_id, deed.name, json.dumps(payload))
            case "terminate":
                await operations.terminate(instance_id, "enough", recursive=True)
            case "suspend and resume":
                with _too_late():
                    await operations.suspend(instance_id)
                    await self._until(instance_id, lambda row: row.runtime_status is Status.Suspended, or_end=True)
                    await sleep(self.clock, self.chance.seconds())
                    await operations.resume(instance_id)
            case "rewind":
                for _ in range(REWINDS):
                    # What was under way at the failure may fail again after the rewind.
                    if (failed := await self._row(instance_id)).runtime_status is not Status.Failed:
                        break
                    await sleep(self.clock, 0.01)  # or both would be at the same time
                    await operations.rewind(instance_id)
                    await self._until(instance_id, lambda row: row.updated_at != failed.updated_at)
                    await self._until(instance_id, lambda row: row.runtime_status.is_terminal)

    async def _resume_forgotten(self) -> None:
        """A suspension may reach an instance that had failed meanwhile, once it is rewound: resume it then."""
        while True:
            await sleep(self.clock, 60.0)
            for _, instance_id, _ in self.program.starts:
                row = await self.client.get_instance(instance_id)
                if row is not None and row.runtime_status is Status.Suspended:
                    with _too_late():
                        await self.operations.resume(instance_id)

    async def _until(self, instance_id: str, holds: Callable[[InstanceRecord], bool], *, or_end: bool = False) -> None:
        with self.client.watch(instance_id) as watch:
            while not ((row := await self.client.get_instance(instance_id)) is not None and holds(row)):
                if or_end and row is not None and row.runtime_status.is_terminal:
                    return
                await watch.changed(20.0)

    async def _row(self, instance_id: str) -> InstanceRecord:
        row = await self.client.get_instance(instance_id)
        assert row is not None
        return row

    # --- workers -----------------------------------------------------------------------------------------

    async def _begin_worker(self) -> None:
        store = self.setting.make_store(self.hub)
        await store.open()
        registry = Registry()
        for name, function in self.program.orchestrators().items():
            registry.orchestrators.add(Orchestrator(name=name, function=function))
        registry.activities.add(Activity(name="act", function=self._activity(store), input_name="call"))
        worker = self.setting.make_worker(
            store,
            runtime_program.Program(registry=registry, codec=JsonCodec(), options=EngineOptions()),
            Settings(max_concurrent_activity_functions=self.setting.activities),
            self.clock,
            warm_instances=self.setting.warm_instances,
        )
        self.workers.append(worker)
        await worker.start()
        if self.restarts_left:
            self.restarts_left -= 1
            self._spawn(self._restart(store, worker))
        elif self.pauses_left:
            self.pauses_left -= 1
            self._spawn(self._pause(worker))

    async def _pause(self, worker: Worker) -> None:
        for _ in range(3):
            await sleep(self.clock, self.chance.seconds(10))
            await worker.pause()
            await sleep(self.clock, self.chance.seconds())
            worker.resume()

    async def _restart(self, store: HostileStore, worker: Worker) -> None:
        await sleep(self.clock, self.chance.seconds(15))
        await worker.stop(self.chance.choice((0.0, 2.0)))
        await store.close()
        await self._begin_worker()

    def _crash(self, store: HostileStore) -> None:
        if self.crashes_left:
            self.crashes_left -= 1
            store.crash()
            self._spawn(self._replace())

    async def _replace(self) -> None:
        await sleep(self.clock, self.chance.seconds())
        await self._begin_worker()

    def _activity(self, store: HostileStore) -> Callable[..., Any]:
        async def act(call: list[Any]) -> str:
            instance_id, key, mode, times = call
            self.outcome.runs[key] += 1
            history = list(self._history(instance_id))
            if mode.startswith("slow"):
                await sleep(self.clock, 1.5)
            if mode == "stuck":
                await sleep(self.clock, LONG)
                return LATE
            failures = sum(isinstance(each, TaskFailed) and f": {key}" in each.reason for each in history)
            was_rewound = any(isinstance(each, ExecutionRewound) for each in history)
            if (
                mode == "fails"
                or (mode == "flaky" and failures < times)
                or (mode.endswith("broken") and not was_rewound)
            ):
                raise ValueError(key)
            return f"done {key}"

        return act

    def _history(self, instance_id: str) -> list[HistoryEvent]:
        instance = self.hub.instances.get(instance_id)
        return instance.history if instance is not None else []

    # --- what came of it ---------------------------------------------------------------------------------

    def _take_stock(self) -> None:
        for instance_id, instance in self.hub.instances.items():
            row = self.hub.row(instance_id)
            assert row is not None, f"{instance_id} has a history and no status row"
            output = _json(row.output) if row.runtime_status is Status.Completed else row.output
            outcomes = sorted(found for each in instance.history if (found := _outcome(each)) is not None)
            was_rewound = any(isinstance(each, ExecutionRewound) for each in instance.history)
            result = Result(row.runtime_status.value, output, _json(row.custom_status), tuple(outcomes), was_rewound)
            self.outcome.results[instance_id] = result
            self.outcome.faults += [f"{instance_id}: {each}" for each in _faults(instance.history)]
        self.outcome.faults += [f"dead letter: {each.kind} {each.reason}" for each in self.hub.dead_letters]


def _outcome(event: HistoryEvent) -> tuple[Any, ...] | None:
    match event:
        case TaskCompleted(result=result) if result == json.dumps(LATE):
            return None  # whether the instance lives to see it is a matter of time
        case TaskCompleted(result=result) | SubOrchestrationInstanceCompleted(result=result):
            return (type(event).__name__, result)
        case TaskFailed(reason=reason) | SubOrchestrationInstanceFailed(reason=reason):
            return (type(event).__name__, reason)
    return None


def _faults(history: list[HistoryEvent]) -> Iterator[str]:
    """What no history may hold: two outcomes of a call, an event twice, two starts, a number used twice."""
    rewinds = sum(isinstance(each, ExecutionRewound) for each in history)
    outcomes = Counter(task_id for each in history if (task_id := outcome_task_id(each)) is not None)
    yield from (f"task {task_id} has {count} outcomes" for task_id, count in outcomes.items() if count > 1 + rewinds)
    events = Counter(each.input for each in history if isinstance(each, EventRaised))
    yield from (f"event {payload} came {count} times" for payload, count in events.items() if count > 1)
    if (starts := sum(isinstance(each, ExecutionStarted) for each in history)) != 1:
        yield f"there are {starts} starts"
    actions = Counter(each.event_id for each in history if each.event_id >= 0)
    yield from (f"number {number} was used {count} times" for number, count in actions.items() if count > 1)


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)


@contextmanager
def _too_late() -> Iterator[None]:
    """What is sent to an instance that has ended does not matter."""
    with suppress(InstanceStateError, InstanceNotFoundError):
        yield


@contextmanager
def _no_logs() -> Iterator[None]:
    # Thousands of tracebacks of errors that are meant to be.
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
