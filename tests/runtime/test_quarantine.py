"""What may have killed a process runs where its death is a verdict about it alone. Real processes, real deaths."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from quarantine_programs import COMMAND, make_program

import durable_ext.runtime.quarantine as module
from durable_ext.clock import Alarm, SystemClock
from durable_ext.errors import FailureDetails
from durable_ext.history import (
    EventRaised,
    ExecutionCompleted,
    ExecutionRewound,
    ExecutionStarted,
    OrchestrationRuntimeStatus,
    OrchestratorCompleted,
    OrchestratorStarted,
    TaskCompleted,
    TaskFailed,
    TaskScheduled,
)
from durable_ext.messages import WorkItem
from durable_ext.runtime.decide import Decision, TurnInput, decide_cold
from durable_ext.runtime.processes import is_alive, start_of
from durable_ext.runtime.quarantine import OrchestratorProcessLostError, Quarantine, TurnBrokenInChildError
from durable_ext.runtime.register import Register
from durable_ext.runtime.state import LocalOutcome
from durable_ext.storage.contract import Delivery, Snapshot

NAME = "some orchestrator"
NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
SEGMENTATION_FAULT = "signal 11 (SIGSEGV)"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes end otherwise there")


def item(name: str, value: str | None = "21", *, task_id: int = 1, tries: int = 2) -> WorkItem:
    return WorkItem(
        instance_id="one", execution_id="e", task_id=task_id, name=name, orchestrator="o", input=value, tries=tries
    )


class HandClock(SystemClock):
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.alarms: list[tuple[float, _HandAlarm]] = []

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.passed)

    def monotonic(self) -> float:
        return self.passed

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Alarm:
        alarm = _HandAlarm(lambda: callback(*args))
        self.alarms.append((self.passed + delay, alarm))
        return alarm

    def pass_by(self, seconds: float) -> None:
        self.passed += seconds
        for at, alarm in [each for each in self.alarms if each[0] <= self.passed]:
            self.alarms.remove((at, alarm))
            alarm.go_off()


class _HandAlarm:
    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback, self._is_on = callback, True

    def cancel(self) -> None:
        self._is_on = False

    def go_off(self) -> None:
        if self._is_on:
            self._callback()


class Lab:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = HandClock()
        self.times_alone = 0
        self.is_alone = False
        self._made: list[tuple[Quarantine, Register]] = []

    def quarantine(self, command: Sequence[str] | None = COMMAND) -> Quarantine:
        register = Register(self.directory)
        made = Quarantine(register, make_program(), self.clock, command, self._alone)
        self._made.append((made, register))
        made.take_over(sole=True)
        return made

    def after_a_death(self, fill: Callable[[Register], Any], command: Sequence[str] | None = COMMAND) -> Quarantine:
        """A host that comes after one that died with something in hand."""
        fill(Register(self.directory))
        return self.quarantine(command)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        self.times_alone += 1
        self.is_alone = True
        yield
        self.is_alone = False

    async def close(self) -> None:
        for quarantine, register in self._made:
            await quarantine.close()
            register.close()


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    found = Lab(tmp_path)
    yield found
    await found.close()


async def is_gone(pid: int) -> bool:
    start = start_of(pid)
    try:
        async with asyncio.timeout(20):
            while start is not None and is_alive(pid, start):
                await asyncio.sleep(0.01)
    except TimeoutError:
        return False
    return True


async def has_written(path: Path) -> str:
    async with asyncio.timeout(20):
        while not (text := _text(path)):
            await asyncio.sleep(0.01)
    return text


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


# --- who is held -------------------------------------------------------------------------------------


async def test_nobody_is_held_if_nothing_has_died(lab: Lab) -> None:
    quarantine = lab.quarantine()
    assert not quarantine.suspicion.is_active
    assert not quarantine.holds_call(item("double"))
    assert not quarantine.holds_turn("one", "chain")


async def test_what_ran_when_a_process_died_is_held_and_its_function_for_ten_seconds(lab: Lab) -> None:
    quarantine = lab.after_a_death(lambda register: register.enter(item("double"), in_thread=True))
    assert quarantine.holds_call(item("double"))
    assert quarantine.holds_call(item("DOUBLE", task_id=2))
    assert not quarantine.holds_call(item("double_later", task_id=2))
    assert not quarantine.holds_turn("one", "double")
    lab.clock.pass_by(10)
    assert quarantine.holds_call(item("double"))
    assert not quarantine.holds_call(item("double", task_id=2))


async def test_the_marked_turn_is_held_and_its_orchestrator_for_ten_seconds(lab: Lab) -> None:
    quarantine = lab.after_a_death(lambda register: register.mark_turn("one", "chain"))
    assert quarantine.holds_turn("one", "chain")
    assert quarantine.holds_turn("two", "Chain")
    assert not quarantine.holds_turn("two", "waits")
    assert not quarantine.holds_call(item("chain"))
    lab.clock.pass_by(10)
    assert quarantine.holds_turn("one", "chain")
    assert not quarantine.holds_turn("two", "chain")


async def test_a_turn_that_was_committed_clears_its_instance_and_function(lab: Lab) -> None:
    quarantine = lab.after_a_death(lambda register: register.mark_turn("one", "chain"))
    quarantine.clear_turn("one")
    assert not quarantine.suspicion.is_active
    assert not quarantine.holds_turn("one", "chain")
    assert not quarantine.holds_turn("two", "chain")
    assert list(lab.directory.glob("*.taken")) == []


async def test_calls_that_nobody_waits_for_any_more_are_suspect_no_longer(lab: Lab) -> None:
    def fill(register: Register) -> None:
        for number in (1, 2, 3):
            register.enter(item("double", task_id=number), in_thread=True)
        register.mark_turn("one", "chain")

    quarantine = lab.after_a_death(fill)
    quarantine.cancel("another", None)
    quarantine.cancel("one", [2])
    held = [number for number in (1, 2, 3) if quarantine.holds_call(item("double_later", task_id=number))]
    assert held == [1, 3]
    quarantine.cancel("one", None)
    assert not quarantine.holds_call(item("double", task_id=1))
    assert quarantine.holds_turn("one", "chain")


async def test_a_function_is_held_while_one_of_its_calls_is_not_cleared(lab: Lab) -> None:
    def fill(register: Register) -> None:
        register.enter(item("double", task_id=1), in_thread=True)
        register.enter(item("double", task_id=2), in_thread=True)

    quarantine = lab.after_a_death(fill)
    await quarantine.call(item("double", task_id=1))
    assert quarantine.holds_call(item("double", task_id=3))
    await quarantine.call(item("double", task_id=2))
    assert not quarantine.holds_call(item("double", task_id=3))
    assert not quarantine.holds_call(item("double", task_id=1))


async def test_a_call_handed_out_four_times_without_an_outcome_is_held(lab: Lab) -> None:
    quarantine = lab.quarantine()
    assert not quarantine.holds_call(item("double", tries=3))
    assert quarantine.holds_call(item("double", tries=4))


async def test_a_convicted_function_is_held_from_its_first_delivery_for_half_an_hour(lab: Lab) -> None:
    neighbour = lab.quarantine()
    await neighbour.call(item("exit_7"))
    assert neighbour.holds_call(item("Exit_7", task_id=9, tries=1))
    quarantine = lab.quarantine()
    assert quarantine.holds_call(item("exit_7", task_id=9, tries=1))
    assert not quarantine.holds_call(item("kill_9", task_id=9, tries=1))
    lab.clock.pass_by(29 * 60)
    assert lab.quarantine().holds_call(item("exit_7", task_id=9, tries=1))
    lab.clock.pass_by(60)
    assert not quarantine.holds_call(item("exit_7", task_id=9, tries=1))
    assert not lab.quarantine().suspicion.is_active


async def test_neighbours_learn_of_a_conviction_when_they_look_for_the_dead(lab: Lab) -> None:
    first, second = lab.quarantine(), lab.quarantine()
    await first.call(item("exit_7"))
    assert not second.holds_call(item("exit_7", task_id=9, tries=1))
    second.take_over(sole=False)
    assert second.holds_call(item("exit_7", task_id=9, tries=1))


async def test_a_file_of_convictions_that_cannot_be_read_convicts_nobody(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    (lab.directory / "convicted.json").write_text("[{")
    quarantine = lab.quarantine()
    assert not quarantine.suspicion.is_active
    assert "cannot be read" in caplog.text
    await quarantine.call(item("exit_7"))
    assert lab.quarantine().holds_call(item("exit_7", tries=1))


# --- calls -------------------------------------------------------------------------------------------

DEADLY = [
    ("exit_7", "exit code 7"),
    ("exit_7_later", "exit code 7"),
    ("kill_9", "signal 9 (SIGKILL)"),
    ("segmentation_fault", SEGMENTATION_FAULT),
    ("recursion_in_c", SEGMENTATION_FAULT),
]


@pytest.mark.parametrize(("name", "how"), DEADLY)
async def test_a_call_that_kills_its_process_fails_after_two_deaths_saying_how(
    lab: Lab, name: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    outcome, reason = await lab.quarantine().call(item(name))
    assert isinstance(outcome, TaskFailed)
    assert outcome.task_scheduled_id == 1
    assert outcome.failure_details.error_type == "ActivityProcessLostError"
    assert outcome.failure_details.is_non_retriable
    assert f"activity '{name}' killed its process twice: {how}" in outcome.reason
    assert reason == outcome.failure_details.error_message
    assert f"activity '{name}' kills its process: {how}" in caplog.text


async def test_a_call_comes_out_as_it_would_in_the_host(lab: Lab) -> None:
    quarantine = lab.quarantine()
    for name, result in (("double", "42"), ("double_later", "42")):
        outcome, reason = await quarantine.call(item(name, task_id=5))
        assert isinstance(outcome, TaskCompleted)
        assert (outcome.task_scheduled_id, outcome.result, reason) == (5, result, None)
    for name, error in (("raise_error", "not this one"), ("surrogate", "lone surrogate"), ("nobody", "doesn't exist")):
        outcome, reason = await quarantine.call(item(name))
        assert isinstance(outcome, TaskFailed)
        assert error in outcome.reason
        assert reason is None
    assert not quarantine.suspicion.is_active


async def test_a_child_serves_one_suspect_after_the_other_and_is_another_process(lab: Lab) -> None:
    quarantine = lab.quarantine()
    found = {(await quarantine.call(item("process_id", task_id=number)))[0].result for number in range(5)}  # type: ignore[union-attr]
    assert len(found) == 1
    assert found != {str(os.getpid())}


async def test_no_more_than_two_children_run_at_a_time(lab: Lab) -> None:
    quarantine = lab.quarantine()
    outcomes = await asyncio.gather(*(quarantine.call(item("process_id", task_id=number)) for number in range(6)))
    assert len({outcome.result for outcome, _ in outcomes if isinstance(outcome, TaskCompleted)}) == 2


async def test_one_death_is_no_verdict(lab: Lab, tmp_path: Path) -> None:
    quarantine = lab.quarantine()
    outcome, reason = await quarantine.call(item("exit_once", f'"{tmp_path / "marker"}"'))
    assert isinstance(outcome, TaskCompleted)
    assert reason is None
    assert not quarantine.suspicion.is_active


async def test_the_death_of_a_child_with_nothing_to_do_is_nobodys(lab: Lab) -> None:
    quarantine = lab.quarantine()
    outcome, _ = await quarantine.call(item("process_id"))
    assert isinstance(outcome, TaskCompleted)
    os.kill(int(outcome.result or ""), signal.SIGKILL)
    outcome, reason = await quarantine.call(item("double"))
    assert isinstance(outcome, TaskCompleted)
    assert reason is None


async def test_a_call_that_nobody_waits_for_ends_with_its_child_and_is_not_convicted(lab: Lab, tmp_path: Path) -> None:
    quarantine = lab.quarantine()
    marker = tmp_path / "marker"
    running = asyncio.create_task(quarantine.call(item("touch_and_hang", f'"{marker}"')))
    child = int(await has_written(marker))
    quarantine.cancel("another", None)
    quarantine.cancel("one", [2])
    assert is_alive(child, start_of(child) or "")
    quarantine.cancel("one", [1])
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await is_gone(child)
    assert not quarantine.suspicion.is_active
    assert (await quarantine.call(item("double")))[1] is None


async def test_signals_to_the_whole_terminal_are_not_for_a_child(lab: Lab) -> None:
    outcome, _ = await lab.quarantine().call(item("signal_all"))
    assert isinstance(outcome, TaskCompleted)


async def test_user_code_has_its_prints_and_no_input(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    outcome, _ = await lab.quarantine().call(item("say", '"hear me"'))
    assert isinstance(outcome, TaskCompleted)
    assert outcome.result == '""'
    assert "hear me" in capfd.readouterr().err


async def test_a_child_ends_after_a_minute_without_suspects(lab: Lab) -> None:
    quarantine = lab.quarantine()
    outcome, _ = await quarantine.call(item("process_id"))
    assert isinstance(outcome, TaskCompleted)
    child = int(outcome.result or "")
    lab.clock.pass_by(59)
    assert is_alive(child, start_of(child) or "")
    lab.clock.pass_by(1)
    assert await is_gone(child)


async def test_a_child_ends_with_its_host_whatever_user_code_left_in_it(lab: Lab) -> None:
    quarantine = lab.quarantine()
    await quarantine.call(item("leave_a_thread"))
    outcome, _ = await quarantine.call(item("process_id"))
    assert isinstance(outcome, TaskCompleted)
    await quarantine.close()
    assert await is_gone(int(outcome.result or ""))


HOST = """
import asyncio, sys
sys.path.insert(0, {here!r})
from contextlib import nullcontext
from quarantine_programs import COMMAND, make_program
from durable_ext.clock import SystemClock
from durable_ext.messages import WorkItem
from durable_ext.runtime.quarantine import Quarantine
from durable_ext.runtime.register import Register

quarantine = Quarantine(Register(None), make_program(), SystemClock(), COMMAND, nullcontext)
item = WorkItem(instance_id="one", execution_id="e", task_id=1, name="touch_and_hang", orchestrator="o", input={arg!r})
asyncio.run(quarantine.call(item))
"""


async def test_a_child_does_not_outlive_a_host_that_is_killed(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    program = HOST.format(here=str(Path(__file__).parent), arg=f'"{marker}"')
    host = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stderr=subprocess.DEVNULL)
    try:
        child = int(await has_written(marker))
    finally:
        host.kill()
        await host.wait()
    assert await is_gone(child)


# --- without a child ---------------------------------------------------------------------------------

BROKEN = [sys.executable, "-c", "import an_app_that_is_not_there"]


@pytest.mark.parametrize("command", [None, COMMAND], ids=["alone", "in a child"])
async def test_user_code_knows_its_call(lab: Lab, command: Sequence[str] | None) -> None:
    outcome, _ = await lab.quarantine(command).call(item("who_am_i"))
    assert isinstance(outcome, TaskCompleted)
    assert outcome.result == '"one, attempt 1"'


@pytest.mark.parametrize("command", [None, BROKEN, ["/there/is/no/such/program"]], ids=["none", "broken", "missing"])
async def test_where_no_child_can_load_the_app_a_suspect_runs_here_alone(
    lab: Lab, command: Sequence[str] | None, caplog: pytest.LogCaptureFixture
) -> None:
    quarantine = lab.after_a_death(lambda register: register.enter(item("double"), in_thread=True), command)
    for name in ("double", "double_later", "raise_error"):
        outcome, reason = await quarantine.call(item(name))
        assert isinstance(outcome, TaskFailed if name == "raise_error" else TaskCompleted)
        assert reason is None
    assert lab.times_alone == 3
    assert not quarantine.suspicion.is_active
    assert ("no process could be started" in caplog.text) == (command is not None)


ALONE = HOST.replace("Register(None)", "Register(Path({directory!r}))").replace("COMMAND, null", "None, null")
ALONE = ALONE.replace("asyncio.run(", "quarantine.take_over(sole=True)\nasyncio.run(").replace(
    "import asyncio, sys", "import asyncio, sys\nfrom pathlib import Path"
)


async def test_a_call_that_runs_alone_fails_after_three_deaths_of_its_host(lab: Lab, tmp_path: Path) -> None:
    program = ALONE.format(here=str(Path(__file__).parent), directory=str(lab.directory), arg="1")
    program = program.replace("touch_and_hang", "exit_7").replace('name="exit_7"', 'name="exit_7", tries=4')
    for _ in range(3):
        host = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stderr=subprocess.PIPE)
        _, errors = await host.communicate()
        assert host.returncode == 7, errors.decode()
    quarantine = lab.quarantine(None)
    assert quarantine.holds_call(item("exit_7"))
    outcome, reason = await quarantine.call(item("exit_7"))
    assert isinstance(outcome, TaskFailed)
    assert "activity 'exit_7' killed its process 3 times: it ran alone" in str(reason)
    assert lab.times_alone == 0


@pytest.mark.parametrize("name", ["touch_and_hang", "hang"])
async def test_a_call_that_runs_alone_for_long_runs_on_beside_others(lab: Lab, tmp_path: Path, name: str) -> None:
    quarantine = lab.after_a_death(lambda register: register.enter(item(name), in_thread=True), None)
    running = asyncio.create_task(quarantine.call(item(name, f'"{tmp_path / "marker"}"')))
    while not lab.is_alone:
        await asyncio.sleep(0)
    if name == "touch_and_hang":
        await has_written(tmp_path / "marker")
    while not lab.clock.alarms:
        await asyncio.sleep(0)
    lab.clock.pass_by(9.9)
    await asyncio.sleep(0)
    assert lab.is_alone
    lab.clock.pass_by(0.1)
    while lab.is_alone:
        await asyncio.sleep(0)
    assert not running.done()
    (found,) = {each.key: each for each in Register(tmp_path).take_over(sole=True)}.values()
    assert (found.name, found.alone) == (name, 0), "a death is no longer its own"
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    (tmp_path / "marker").unlink(missing_ok=True)


async def test_a_turn_that_runs_alone_fails_after_three_deaths_of_its_host(lab: Lab) -> None:
    turn = starting("turn_exits")
    quarantine = lab.after_a_death(lambda register: register.mark_turn("one", "turn_exits", alone=3), None)
    with pytest.raises(OrchestratorProcessLostError, match="'one' killed its process 3 times: it ran alone"):
        await quarantine.decide(turn, NAME)


async def test_nothing_is_tried_for_ever_where_there_is_neither_child_nor_register(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    lab.directory = tmp_path / "file"
    outcome, reason = await lab.quarantine(None).call(item("exit_7", tries=11))
    assert isinstance(outcome, TaskFailed)
    assert "killed its process 10 times" in str(reason)


# --- turns -------------------------------------------------------------------------------------------


class Opaque:
    """A version, or a receipt: of no use to anybody but its store."""


def starting(name: str, *others: Delivery | LocalOutcome) -> TurnInput:
    start = ExecutionStarted(timestamp=NOW, name=name, instance_id="one", execution_id="e", start_id="e", input="5")
    delivery = Delivery(receipt=Opaque(), instance_id="one", execution_id="e", event=start)
    return TurnInput(
        snapshot=Snapshot(instance_id="one", version=Opaque(), status=OrchestrationRuntimeStatus.Pending, history=[]),
        arrivals=[delivery, *others],
        now=NOW,
    )


def event(name: str, receipt: object, execution_id: str | None = None) -> Delivery:
    raised = EventRaised(timestamp=NOW, name=name, input='"data"')
    return Delivery(receipt=receipt, instance_id="one", execution_id=execution_id, event=raised)  # type: ignore[arg-type]


def same(one: Decision, other: Decision) -> bool:
    """Whether two decisions say the same: sent or not, about the same objects."""
    first, second = (msgspec.json.encode(each, enc_hook=id) for each in (one, other))
    return first == second


async def test_a_turn_comes_out_as_it_would_in_the_host(lab: Lab) -> None:
    quarantine = lab.after_a_death(lambda register: register.mark_turn("one", "chain"))
    turn = starting("chain")
    decision = await quarantine.decide(turn, NAME)
    assert same(decision, decide_cold(make_program(), turn))
    assert decision.turn is not None
    assert any(isinstance(each, TaskScheduled) for each in decision.turn.events)
    assert quarantine.holds_turn("one", "chain"), "it is not committed yet"


async def test_a_decision_names_what_the_store_named(lab: Lab) -> None:
    unread, read = event("other", Opaque()), event("go", Opaque())
    turn = starting("waits", unread, read)
    decision = await lab.quarantine().decide(turn, NAME)
    assert same(decision, decide_cold(make_program(), turn))
    assert set(decision.consumed) | set(decision.kept) == {each.receipt for each in turn.arrivals}  # type: ignore[union-attr]


async def test_what_came_before_the_start_is_deferred_as_it_came(lab: Lab) -> None:
    turn = TurnInput(snapshot=starting("chain").snapshot, arrivals=[event("go", Opaque())], now=NOW)
    decision = await lab.quarantine().decide(turn, NAME)
    assert list(decision.deferred) == list(turn.arrivals)
    assert decision.deferred[0] is turn.arrivals[0]


async def test_an_outcome_that_came_with_a_rewind_is_deferred_as_it_came(lab: Lab) -> None:
    failure = FailureDetails(error_type="ValueError", error_message="no")
    ended = OrchestrationRuntimeStatus.Failed
    history = [
        *decide_cold(make_program(), starting("chain")).turn.events,  # type: ignore[union-attr]
        OrchestratorStarted(timestamp=NOW),
        TaskFailed(timestamp=NOW, task_scheduled_id=0, reason="no", failure_details=failure),
        ExecutionCompleted(timestamp=NOW, event_id=1, orchestration_status=ended, result="no", failure_details=failure),
        OrchestratorCompleted(timestamp=NOW),
    ]
    rewound = Delivery(receipt=Opaque(), instance_id="one", event=ExecutionRewound(timestamp=NOW, task_ids=(0,)))
    late = LocalOutcome(item("double", task_id=0), TaskCompleted(timestamp=NOW, task_scheduled_id=0))
    snapshot = Snapshot(instance_id="one", version=Opaque(), status=ended, history=history)
    decision = await lab.quarantine().decide(TurnInput(snapshot=snapshot, arrivals=[rewound, late], now=NOW), NAME)
    assert decision.rewinds
    assert decision.consumed == [rewound.receipt]
    assert decision.deferred[0] is late


@pytest.mark.parametrize(("name", "how"), [("turn_exits", "exit code 7"), ("turn_is_killed", "signal 9 (SIGKILL)")])
async def test_a_turn_that_kills_its_process_is_given_up_after_two_deaths(lab: Lab, name: str, how: str) -> None:
    quarantine = lab.quarantine()
    with pytest.raises(OrchestratorProcessLostError) as lost:
        await quarantine.decide(starting(name), name)
    assert f"the turn of instance 'one' killed its process twice: {how}" in str(lost.value)
    assert quarantine.holds_turn("another", name)


async def test_a_turn_that_does_not_come_back_is_a_death_too(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TURN_LIMIT", 0.3)
    lab.clock = SystemClock()  # type: ignore[assignment]
    with pytest.raises(OrchestratorProcessLostError, match="without an answer"):
        await lab.quarantine().decide(starting("turn_hangs"), "turn_hangs")


async def test_a_turn_that_breaks_down_says_so(lab: Lab) -> None:
    snapshot = Snapshot(
        instance_id="one",
        version=1,
        status=OrchestrationRuntimeStatus.Running,
        history=[],
        unreadable="not JSON",
    )
    quarantine = lab.quarantine()
    with pytest.raises(TurnBrokenInChildError, match="UnreadableHistoryError"):
        await quarantine.decide(TurnInput(snapshot=snapshot, arrivals=[event("go", 1)], now=NOW), NAME)
    assert not quarantine.suspicion.is_active


async def test_a_turn_runs_here_alone_where_no_child_can_load_the_app(lab: Lab) -> None:
    turn = starting("chain")
    decision = await lab.quarantine(None).decide(turn, NAME)
    assert same(decision, decide_cold(make_program(), turn))
    assert lab.times_alone == 1
