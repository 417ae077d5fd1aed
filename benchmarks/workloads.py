"""The workloads. Each runs on a task hub of its own, checks every output, and gives its figures.

The clock starts at the first `start_new`. Times are wall-clock on whatever machine this is: compare ratios.
"""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from time import perf_counter

from benchmarks.bench import Bench, Result, check, percentile, running
from durable_ext.codec import JsonCodec
from durable_ext.engine.orchestration import OrchestrationSession
from durable_ext.engine.turn import EngineOptions
from durable_ext.history import HistoryEvent, OrchestrationRuntimeStatus, decode_events, encode_events

_TIMEOUT = 120.0


async def _run(bench: Bench, name: str, payload: object, expected: object) -> float:
    """Start one instance, wait for it, check its output; return the seconds this took."""
    began = perf_counter()
    instance_id = await bench.hub.client.start_new(name, client_input=payload)
    status = await bench.hub.client.wait_for_completion(instance_id, _TIMEOUT)
    took = perf_counter() - began
    check(status.output, expected)
    return took


async def chain(store: str, *, steps: int) -> AsyncIterator[Result]:
    """One instance, sequential activities."""
    for activity, kind in (("double", "async"), ("double_sync", "sync")):
        async with running(store) as bench:
            await _run(bench, "chain", [activity, 3], 6)
            took = await _run(bench, "chain", [activity, steps], steps * (steps - 1))
            yield bench.result(f"chain{steps}", "activities", steps / took, "1/s", steps, activities=kind)


async def fan(store: str, *, width: int) -> AsyncIterator[Result]:
    """One instance, parallel activities."""
    for activity, kind in (("double", "async"), ("double_sync", "sync")):
        async with running(store) as bench:
            await _run(bench, "fan_out", [activity, 3], 6)
            took = await _run(bench, "fan_out", [activity, width], width * (width - 1))
            yield bench.result(f"fan{width}", "activities", width / took, "1/s", width, activities=kind)


async def many(store: str, *, instances: int) -> AsyncIterator[Result]:
    """Instances of three activities each, started together."""
    for activity, kind in (("double", "async"), ("double_sync", "sync")):
        async with running(store) as bench:
            await _run(bench, "chain", [activity, 3], 6)
            began = perf_counter()
            await asyncio.gather(*(_run(bench, "chain", [activity, 3], 6) for _ in range(instances)))
            took = perf_counter() - began
            yield bench.result(f"many{instances}x3", "workflows", instances / took, "1/s", instances, activities=kind)


async def latency(store: str, *, samples: int) -> AsyncIterator[Result]:
    """From start to completed of a one-activity instance, one after the other."""
    async with running(store) as bench:
        await _run(bench, "chain", ["double", 3], 6)
        took = [1000 * await _run(bench, "chain", ["double", 1], 0) for _ in range(samples)]
        for percent in (50, 99):
            yield bench.result(f"latency{samples}", f"p{percent}", percentile(took, percent), "ms", samples)


async def events(store: str, *, count: int) -> AsyncIterator[Result]:
    """Events one by one to a waiting instance."""
    async with running(store) as bench:
        await _run(bench, "chain", ["double", 3], 6)
        began = perf_counter()
        instance_id = await bench.hub.client.start_new("collect_events", client_input=count)
        for _ in range(count):
            await bench.hub.client.raise_event(instance_id, "tick", 1)
        status = await bench.hub.client.wait_for_completion(instance_id, _TIMEOUT)
        took = perf_counter() - began
        check(status.output, count)
        yield bench.result(f"events{count}", "events", count / took, "1/s", count)


async def backlog(store: str, *, count: int) -> AsyncIterator[Result]:
    """Queued events, read one a generation with an activity in each; the clock starts when all of them are queued."""
    async with running(store) as bench:
        await _run(bench, "chain", ["double", 3], 6)
        instance_id = await bench.hub.client.start_new("read_backlog", client_input=[count, 0])
        for first in range(0, count, 100):
            raised = (bench.hub.client.raise_event(instance_id, "item", 1) for _ in range(min(100, count - first)))
            await asyncio.gather(*raised)
        written, began = _bytes_written(), perf_counter()
        await bench.hub.client.raise_event(instance_id, "go")
        status = await bench.hub.client.wait_for_completion(instance_id, 10 * _TIMEOUT)
        took, written = perf_counter() - began, _bytes_written() - written
        check(status.output, 2 * count)
        yield bench.result(f"backlog{count}", "events", count / took, "1/s", count)
        if store == "sqlite":
            yield bench.result(f"backlog{count}", "written", written / count, "bytes/event", count)


def _bytes_written() -> int:
    """What this process has handed to write(2) and its like so far: SQLite's log and the checkpoints of it."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["wchar"])


async def backlogs(store: str, *, counts: tuple[int, ...]) -> AsyncIterator[Result]:
    """Backlogs of several lengths: if the figures do not depend on the length, the cost of reading is linear."""
    for count in counts:
        async for result in backlog(store, count=count):
            yield result


async def idle(store: str, *, instances: int) -> AsyncIterator[Result]:
    """Resident memory per instance that waits for an event and has been unloaded."""
    async with running(store, warm_instances=0) as bench:
        # The same work once before, so that pools, caches and the allocator have their size already.
        await _wait_then_finish(bench, instances // 10)
        before = _resident_bytes()
        ids = await _start_waiting(bench, instances)
        grown = _resident_bytes() - before
        await _finish(bench, ids)
        yield bench.result(f"idle{instances}", "resident", grown / instances, "bytes/instance", instances)


async def _wait_then_finish(bench: Bench, instances: int) -> None:
    await _finish(bench, await _start_waiting(bench, instances))


async def _start_waiting(bench: Bench, instances: int) -> list[str]:
    ids: list[str] = []
    for _ in range(instances // 100):
        ids += await asyncio.gather(*(bench.hub.client.start_new("collect_events", client_input=1) for _ in range(100)))
    for instance_id in ids:
        await _begun(bench, instance_id)
    return ids


async def _begun(bench: Bench, instance_id: str) -> None:
    with bench.hub.store.watch(instance_id) as watch:
        while True:
            status = await bench.hub.client.get_status(instance_id)
            if status.runtime_status is not OrchestrationRuntimeStatus.Pending:
                return
            await watch.changed(1.0)


async def _finish(bench: Bench, ids: list[str]) -> None:
    for instance_id in ids:
        await bench.hub.client.raise_event(instance_id, "tick", 7)
    for instance_id in ids:
        check((await bench.hub.client.wait_for_completion(instance_id, _TIMEOUT)).output, 7)


def _resident_bytes() -> int:
    gc.collect()
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096


async def timers(store: str, *, instances: int, seconds: float) -> AsyncIterator[Result]:
    """Instances that sleep: how late they wake, and when all are done."""
    async with running(store) as bench:
        await _run(bench, "chain", ["double", 3], 6)
        began = perf_counter()
        ids = await asyncio.gather(
            *(bench.hub.client.start_new("sleep", client_input=seconds) for _ in range(instances))
        )
        done = await asyncio.gather(*(bench.hub.client.wait_for_completion(each, _TIMEOUT) for each in ids))
        took = perf_counter() - began
        late = [1000 * (float(woke) - float(due)) for due, woke in (each.output for each in done)]
        check(min(late) >= 0, True)
        for percent in (50, 99):
            yield bench.result(f"timers{instances}", f"late p{percent}", percentile(late, percent), "ms", instances)
        yield bench.result(f"timers{instances}", "all done", took, "s", instances, sleep=seconds)


async def replay(store: str, *, rounds: int = 15) -> AsyncIterator[Result]:
    """A cold replay: the stored history decoded and fed to a new session; and the same with the store's read."""
    async with running(store) as bench:
        for name, kind in (("chain", "generator"), ("chain_async", "coroutine")):
            orchestrator = bench.registry.orchestrators.get(name)
            for size in (100, 1_000, 10_000):
                steps = size // 4 - 1
                instance_id = await bench.hub.client.start_new(name, client_input=["double", steps])
                status = await bench.hub.client.wait_for_completion(instance_id, _TIMEOUT)
                check(status.output, steps * (steps - 1))
                stored = encode_events(await bench.hub.client.get_history(instance_id))
                count = len(decode_events(stored))
                alone, whole = float("inf"), float("inf")
                for _ in range(rounds):
                    began = perf_counter()
                    _replay(orchestrator.function, decode_events(stored))
                    alone = min(alone, perf_counter() - began)
                    began = perf_counter()
                    snapshot = (await bench.hub.store.begin(instance_id, None, ())).snapshot
                    assert snapshot is not None
                    _replay(orchestrator.function, snapshot.history)
                    whole = min(whole, perf_counter() - began)
                for metric, took in ((f"{kind}, {size:,} events", alone), (f"{kind}, {size:,}, read", whole)):
                    yield bench.result("replay", metric, 1e6 * took / count, "µs/event", count, best_of=rounds)


def _replay(function: Callable[..., object], history: list[HistoryEvent]) -> None:
    session = OrchestrationSession(function, codec=JsonCodec(), options=EngineOptions())
    session.replay(history)
    check((session.non_determinism, session.is_finished), (None, True))


async def floor(store: str, *, commits: int) -> AsyncIterator[Result]:
    """Bare SQLite on the same disk, six rows a commit, nothing else: what the other figures are to be held against."""
    with tempfile.TemporaryDirectory(prefix="durable-bench-") as folder:
        path = Path(folder) / "floor.db" if store == "sqlite" else ":memory:"
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, body TEXT)")
        began = perf_counter()
        for _ in range(commits):
            connection.execute("BEGIN IMMEDIATE")
            for _ in range(6):
                connection.execute("INSERT INTO rows (body) VALUES (?)", ("x" * 100,))
            connection.execute("COMMIT")
        took = perf_counter() - began
        check(connection.execute("SELECT count(*) FROM rows").fetchone(), (6 * commits,))
        connection.close()
    yield Result(
        peer="sqlite3",
        workload="floor",
        metric="commits of six rows",
        value=round(commits / took, 3),
        unit="1/s",
        n=commits,
        setting={"store": store, "synchronous": "full" if store == "sqlite" else "none"},
    )


WORKLOADS: dict[str, Callable[[str], AsyncIterator[Result]]] = {
    "floor": partial(floor, commits=1_000),
    "chain100": partial(chain, steps=100),
    "chain1000": partial(chain, steps=1_000),
    "fan1000": partial(fan, width=1_000),
    "many1000x3": partial(many, instances=1_000),
    "latency200": partial(latency, samples=200),
    "events200": partial(events, count=200),
    "backlog": partial(backlogs, counts=(1_000, 4_000, 10_000)),
    "idle10000": partial(idle, instances=10_000),
    "timers1000": partial(timers, instances=1_000, seconds=2.0),
    "replay": replay,
}
