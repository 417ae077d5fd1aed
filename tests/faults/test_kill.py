"""A real host is killed with SIGKILL again and again, in the middle of everything, and loses nothing."""

from __future__ import annotations

import http.client
import json
import random
import signal
import sqlite3
import threading
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any

from hosting import DEADLINE, Process, durable, write_app

from durable_ext.history import (
    EventRaised,
    HistoryEvent,
    SubOrchestrationInstanceCompleted,
    SubOrchestrationInstanceCreated,
    TaskCompleted,
    TaskScheduled,
    TimerCreated,
    TimerFired,
)
from durable_ext.storage.contract import InstanceQuery, InstanceRecord
from durable_ext.storage.opening import open_store

APP = """
import asyncio, os, time
from datetime import timedelta

LOG = os.path.join(os.path.dirname(os.path.abspath(__file__)), "executions.log")

def note(call):
    with open(LOG, "a") as file:
        file.write(f"{call[0]} {call[1]}\\n")

@app.activity_trigger(input_name="call")
def work(call: list) -> int:
    note(call)
    time.sleep(0.02)
    return call[1]

@app.activity_trigger(input_name="call")
async def work_async(call: list) -> int:
    note(call)
    await asyncio.sleep(0.02)
    return call[1]

@app.orchestration_trigger(context_name="context")
def chain(context):
    total = 0
    for step in range(6):
        total += yield context.call_activity(work if step % 2 else work_async, [context.instance_id, step])
    return total

@app.orchestration_trigger(context_name="context")
async def chain_of_awaits(context):
    total = 0
    for step in range(2):
        total += sum(await asyncio.gather(*(context.call_activity(work, [context.instance_id, 3 * step + number])
                                            for number in range(3))))
        await asyncio.sleep(0.1)
    return total

@app.orchestration_trigger(context_name="context")
def fan_out(context):
    return sum((yield context.task_all([context.call_activity(work, [context.instance_id, n]) for n in range(15)])))

@app.orchestration_trigger(context_name="context")
def sleeper(context):
    for step in range(3):
        yield context.create_timer(timedelta(milliseconds=400))
        yield context.call_activity(work_async, [context.instance_id, step])
    return "awake"

@app.orchestration_trigger(context_name="context")
def collector(context):
    tokens = []
    while True:
        token = yield context.wait_for_external_event("token")
        if token == "stop":
            return tokens
        tokens.append(token)

@app.orchestration_trigger(context_name="context")
def eternal_collector(context):
    tokens = context.get_input() or []
    token = yield context.wait_for_external_event("token")
    if token == "stop":
        return tokens
    yield context.call_activity(work, [context.instance_id, len(tokens)])
    context.continue_as_new([*tokens, token])

@app.orchestration_trigger(context_name="context")
def family(context):
    first = yield context.call_sub_orchestrator(chain, instance_id=f"{context.instance_id}-first")
    rest = yield context.task_all([
        context.call_sub_orchestrator(chain, instance_id=f"{context.instance_id}-{number}") for number in range(2)
    ])
    return [first, *rest]
"""

ENDS: dict[str, Any] = {
    "chain": 15,
    "chain_of_awaits": 15,
    "fan_out": 105,
    "sleeper": "awake",
    "collector": None,
    "eternal_collector": None,
    "family": [15, 15, 15],
}
COUNTS = {
    "chain": 80,
    "chain_of_awaits": 40,
    "fan_out": 20,
    "sleeper": 50,
    "collector": 40,
    "eternal_collector": 30,
    "family": 30,
}
TOKENS = 8
KILLS = 20
SEED = 20_240_501


class Caller:
    """An HTTP client that starts instances and sends tokens, each until it is told that this was done.

    A token whose answer was lost is not sent again (it may be there); the next one takes its place.
    """

    def __init__(self, lot: random.Random) -> None:
        self._lot = lot
        self.names = {f"{name}-{number}": name for name, count in COUNTS.items() for number in range(count)}
        self.acknowledged: dict[str, list[str]] = {each: [] for each in self.names}
        self.unanswered: Counter[str] = Counter()
        self._todo = {each: deque(self._steps(name)) for each, name in self.names.items()}
        self._tries: Counter[str] = Counter()

    def _steps(self, name: str) -> list[str]:
        return ["start", *["token"] * TOKENS, "stop"] if name.endswith("collector") else ["start"]

    @property
    def is_done(self) -> bool:
        return not self._todo

    @property
    def steps_left(self) -> int:
        return sum(map(len, self._todo.values()))

    def call(self, url: str, most: int) -> None:
        """Take up to so many steps, at random instances. Raises OSError or HTTPException when the host is gone."""
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=DEADLINE)
        try:
            for _ in range(most):
                if self.is_done:
                    return
                self._step(connection, self._lot.choice(list(self._todo)))
        finally:
            connection.close()

    def _step(self, connection: http.client.HTTPConnection, instance: str) -> None:
        step = self._todo[instance][0]
        self._tries[instance] += 1
        token = step if step == "stop" else f"{instance} {self._tries[instance]}"
        self.unanswered[f"{step} {instance}"] += 1
        if step == "start":
            path, body = f"orchestrators/{self.names[instance]}/{instance}", None
        else:
            path, body = f"instances/{instance}/raiseEvent/token", json.dumps(token)
        connection.request("POST", f"/api/durabletask/{path}", body=body, headers={"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read().decode()
        is_repeated = self.unanswered[f"{step} {instance}"] > 1
        # Asked for once before, and that went through: the id is taken, or the instance has been stopped.
        went_through = is_repeated and answer.status in ({"start": 409, "stop": 410}.get(step), 202)
        assert went_through or answer.status == 202, f"{step} {instance}: {answer.status} {text}"
        if step == "token":
            self.acknowledged[instance].append(token)
        del self.unanswered[f"{step} {instance}"]
        self._todo[instance].popleft()
        if not self._todo[instance]:
            del self._todo[instance]


def live_and_be_killed(app_dir: Path, caller: Caller, lot: random.Random) -> None:
    """One life of a host, which ends at a random moment: while it works, while it is called, or while it starts."""
    when = lot.choices(["at work", "when called", "at start"], [6, 4, 2])[0]
    longest = {"at work": 0.4, "when called": 0.1, "at start": 0.8}[when]
    most = 10_000 if when == "when called" else caller.steps_left // 10 + 5
    with durable("run", "--port", "0", cwd=app_dir) as process:
        killer = threading.Timer(lot.uniform(0.02, longest), process.signal, [signal.SIGKILL])
        if when == "at start":
            killer.start()
        try:
            url = process.until("Ready:").split()[-1]
            if when != "at start":
                killer.start()
            caller.call(url, most)
        except (AssertionError, OSError, http.client.HTTPException):
            if process.child.poll() is None and not _is_dying(process):
                raise
        killer.join()
        assert process.wait() == -signal.SIGKILL, process.output


def _is_dying(process: Process) -> bool:
    """Whether the end comes within a moment: connections break before a process is gone."""
    try:
        process.child.wait(1.0)
    except Exception:
        return False
    return True


def finish(app_dir: Path, caller: Caller) -> None:
    """The last life, in which everything comes to its end."""
    with durable("run", "--port", "0", cwd=app_dir) as process:
        url = process.until("Ready:").split()[-1]
        while not caller.is_done:
            caller.call(url, 1_000)
        deadline = time.monotonic() + DEADLINE
        while unfinished := _unfinished(url):
            assert time.monotonic() < deadline, f"unfinished: {unfinished}"
            time.sleep(0.05)
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert "Traceback" not in process.output, process.output


def _unfinished(url: str) -> list[str]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=DEADLINE)
    try:
        connection.request("GET", "/api/durabletask/instances?runtimeStatus=Pending,Running&top=1000")
        found = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return [f"{each['instanceId']} {each['runtimeStatus']}" for each in found]


async def read_hub(path: Path) -> tuple[list[tuple[InstanceRecord, list[HistoryEvent]]], list[Any]]:
    store = open_store(f"sqlite:///{path}")
    await store.open()
    try:
        page = await store.list_instances(InstanceQuery(page_size=10_000))
        found = [(each, await store.read_history(each.instance_id)) for each in page.instances]
        return found, list(await store.list_dead_letters())
    finally:
        await store.close()


def check_answers(record: InstanceRecord, history: list[HistoryEvent]) -> None:
    """Every call has exactly one outcome."""
    calls = Counter[int](
        each.event_id
        for each in history
        if isinstance(each, TaskScheduled | SubOrchestrationInstanceCreated | TimerCreated)
    )
    outcomes = Counter[int](
        each.timer_id if isinstance(each, TimerFired) else each.task_scheduled_id
        for each in history
        if isinstance(each, TaskCompleted | SubOrchestrationInstanceCompleted | TimerFired)
    )
    assert outcomes == calls, record.instance_id
    assert set(calls.values()) <= {1}, record.instance_id


def check_tokens(caller: Caller, record: InstanceRecord, history: list[HistoryEvent]) -> None:
    """Every acknowledged token was received once and in order, any other at most once."""
    tokens = json.loads(record.output or "")
    assert len(tokens) == len(set(tokens)), record.instance_id
    acknowledged = caller.acknowledged[record.instance_id]
    assert [each for each in tokens if each in acknowledged] == acknowledged, record.instance_id
    assert all(each.startswith(f"{record.instance_id} ") for each in tokens)
    if record.name == "collector":
        read = [json.loads(each.input or "") for each in history if isinstance(each, EventRaised)]
        assert read == [*tokens, "stop"], record.instance_id


async def test_kill_9_again_and_again_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    app_dir = write_app(tmp_path / "app", APP)
    lot = random.Random(SEED)
    caller = Caller(lot)
    for _ in range(KILLS):
        live_and_be_killed(app_dir, caller, lot)
    finish(app_dir, caller)

    path = app_dir / ".durable" / "TestHubName.db"
    found, letters = await read_hub(path)
    assert letters == []
    assert {record.instance_id for record, _ in found} >= set(caller.names)
    assert len(found) == len(caller.names) + 3 * COUNTS["family"]
    executions = Counter((app_dir / "executions.log").read_text().splitlines())
    activities = 0
    for record, history in found:
        assert record.runtime_status.value == "Completed", record
        check_answers(record, history)
        if record.name.endswith("collector"):
            check_tokens(caller, record, history)
        else:
            assert json.loads(record.output or "") == ENDS[record.name], record
            activities += sum(isinstance(each, TaskScheduled) for each in history)
    assert len([each for each in executions if not each.startswith("eternal")]) == activities, "each ran at least once"
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        assert database.execute("SELECT count(*) FROM inbox").fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM work").fetchone() == (0,)
    database.close()
