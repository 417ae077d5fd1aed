"""What a process had in hand when it died is found by whoever comes after it, and nothing else is."""

from __future__ import annotations

import logging
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from durable_ext.messages import WorkItem
from durable_ext.runtime.processes import is_alive, start_of
from durable_ext.runtime.register import UNRECORDED, Register, RunningCall, RunningTurn


def item(task_id: int, name: str = "work", instance_id: str = "one") -> WorkItem:
    return WorkItem(instance_id=instance_id, execution_id="e", task_id=task_id, name=name, orchestrator="o")


def call(task_id: int, name: str = "work", *, in_thread: bool = False, alone: int = 0) -> RunningCall:
    return RunningCall("one", "e", task_id, 0, name, in_thread, alone)


def files(directory: Path, suffix: str) -> list[Path]:
    return sorted(directory.glob(f"*.{suffix}"))


@pytest.fixture
def abandoned(tmp_path: Path) -> Callable[..., Path]:
    """The register of a process that is gone, named after one that cannot be alive."""

    def make(fill: Callable[[Register], Any]) -> Path:
        before = set(files(tmp_path, "register"))
        register = Register(tmp_path)
        fill(register)
        (path,) = set(files(tmp_path, "register")) - before
        return path.rename(path.with_name(f"{os.getpid()}-1-{len(before):08x}.register"))

    return make


DIES = """
import os, signal, sys
from pathlib import Path
from durable_ext.messages import WorkItem
from durable_ext.runtime.register import Register

def item(task_id):
    return WorkItem(instance_id="one", execution_id="e", task_id=task_id, name="work", orchestrator="o")

register = Register(Path(sys.argv[1]))
register.enter(item(1), in_thread=True)
register.leave(register.enter(item(2), in_thread=True))
register.enter(item(3), in_thread=False)
register.mark_turn("before", "gone")
register.clear()
register.mark_turn("two", "hello")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("sole", [True, False])
def test_the_register_of_a_killed_process_names_what_ran(tmp_path: Path, sole: bool) -> None:
    subprocess.run([sys.executable, "-c", DIES, str(tmp_path)], check=False)
    assert set(Register(tmp_path).take_over(sole)) == {call(1, in_thread=True), RunningTurn("two", "hello")}


def test_the_marked_code_and_the_calls_on_threads_are_suspect(tmp_path: Path, abandoned: Any) -> None:
    def fill(register: Register) -> None:
        register.enter(item(1), in_thread=True)
        register.mark_call(register.enter(item(2), in_thread=False), item(2))

    abandoned(fill)
    assert {each.key for each in Register(tmp_path).take_over(sole=False)} == {item(1).receipt, item(2).receipt}


def test_all_calls_are_suspect_if_none_was_on_a_thread_and_nothing_was_marked(tmp_path: Path, abandoned: Any) -> None:
    def fill(register: Register) -> None:
        register.mark_turn("two", "hello")
        register.clear()
        for number in range(3):
            register.enter(item(number), in_thread=False)

    abandoned(fill)
    assert Register(tmp_path).take_over(sole=False) == [call(0), call(1), call(2)]


def test_what_ran_alone_is_the_only_suspect(tmp_path: Path, abandoned: Any) -> None:
    def fill(register: Register) -> None:
        register.enter(item(1), in_thread=True)
        register.enter(item(2), in_thread=True, alone=2)

    abandoned(fill)
    assert Register(tmp_path).take_over(sole=False) == [call(2, in_thread=True, alone=2)]


def test_a_turn_that_ran_alone_is_the_only_suspect(tmp_path: Path, abandoned: Any) -> None:
    def fill(register: Register) -> None:
        register.enter(item(1), in_thread=True)
        register.mark_turn("two", "hello", alone=1)

    abandoned(fill)
    assert Register(tmp_path).take_over(sole=False) == [RunningTurn("two", "hello", 1)]


def test_several_deaths_over_the_same_call_name_it_once_with_the_highest_count(tmp_path: Path, abandoned: Any) -> None:
    for times in (0, 2, 1):
        abandoned(lambda register, times=times: register.enter(item(1), in_thread=True, alone=times))
    assert Register(tmp_path).take_over(sole=False) == [call(1, in_thread=True, alone=2)]


def test_a_process_that_died_with_nothing_in_hand_leaves_nothing(tmp_path: Path, abandoned: Any) -> None:
    abandoned(lambda register: register.leave(register.enter(item(1), in_thread=True)))
    assert Register(tmp_path).take_over(sole=False) == []
    assert files(tmp_path, "taken") == []


def test_a_living_neighbour_keeps_its_register(tmp_path: Path) -> None:
    neighbour = Register(tmp_path)
    neighbour.mark_turn("two", "hello")
    assert Register(tmp_path).take_over(sole=False) == []
    assert len(files(tmp_path, "register")) == 2


def test_a_sole_host_takes_every_other_register(tmp_path: Path) -> None:
    neighbour = Register(tmp_path)
    neighbour.mark_turn("two", "hello")
    assert Register(tmp_path).take_over(sole=True) == [RunningTurn("two", "hello")]


def test_two_neighbours_do_not_both_take_one_register(tmp_path: Path, abandoned: Any) -> None:
    for number in range(20):
        abandoned(lambda register, number=number: register.mark_turn(f"i{number}", "hello"))
    first, second = Register(tmp_path), Register(tmp_path)
    listed = second._of_the_dead(sole=False)
    one = next(listed)  # the second has looked, and the first is quicker
    assert len(first.take_over(sole=False)) == 20
    assert second._claim(one) is None
    assert second.take_over(sole=False) == []


def test_a_suspicion_outlives_the_next_death_too(tmp_path: Path, abandoned: Any) -> None:
    abandoned(lambda register: register.mark_turn("two", "hello"))
    assert Register(tmp_path).take_over(sole=True) == [RunningTurn("two", "hello")]
    assert Register(tmp_path).take_over(sole=True) == [RunningTurn("two", "hello")]


def test_a_claim_goes_once_every_suspect_in_it_has_an_outcome(tmp_path: Path, abandoned: Any) -> None:
    def fill(register: Register) -> None:
        register.mark_turn("two", "hello")
        register.enter(item(1), in_thread=True)

    abandoned(fill)
    register = Register(tmp_path)
    register.take_over(sole=False)
    register.settle("two")
    register.settle("somebody else")
    assert len(files(tmp_path, "taken")) == 1
    register.settle(item(1).receipt)
    assert files(tmp_path, "taken") == []


def test_a_claim_of_a_day_ago_is_dropped(tmp_path: Path, abandoned: Any) -> None:
    abandoned(lambda register: register.mark_turn("two", "hello"))
    Register(tmp_path).take_over(sole=True)
    (claim,) = files(tmp_path, "taken")
    yesterday = time.time() - 25 * 3600
    os.utime(claim, (yesterday, yesterday))
    assert Register(tmp_path).take_over(sole=True) == []
    assert files(tmp_path, "taken") == []


def test_a_register_counts_however_long_ago_its_process_died(tmp_path: Path, abandoned: Any) -> None:
    path = abandoned(lambda register: register.mark_turn("two", "hello"))
    os.utime(path, (0, 0))
    assert Register(tmp_path).take_over(sole=True) == [RunningTurn("two", "hello")]


def test_a_clean_close_removes_the_file_and_leaves_the_claims(tmp_path: Path, abandoned: Any) -> None:
    abandoned(lambda register: register.mark_turn("two", "hello"))
    register = Register(tmp_path)
    register.take_over(sole=True)
    slot = register.enter(item(1), in_thread=True)
    register.close()
    register.close()
    register.leave(slot)
    register.mark_turn("late", "hello")
    assert files(tmp_path, "register") == []
    assert Register(tmp_path).take_over(sole=True) == [RunningTurn("two", "hello")]


def test_any_number_of_calls_is_recorded(tmp_path: Path, abandoned: Any) -> None:
    def fill(register: Register) -> None:
        slots = [register.enter(item(number), in_thread=True) for number in range(500)]
        for slot in slots[::2]:
            register.leave(slot)
        for number in range(1000, 1100):
            register.enter(item(number), in_thread=True)

    abandoned(fill)
    found = {each.task_id for each in Register(tmp_path).take_over(sole=True) if isinstance(each, RunningCall)}
    assert found == {*range(1, 500, 2), *range(1000, 1100)}


def test_calls_beyond_what_can_be_recorded_run_all_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    register = Register(tmp_path)
    (path,) = files(tmp_path, "register")
    path.unlink()  # so that it cannot grow
    slots = [register.enter(item(number), in_thread=True) for number in range(40)]
    assert UNRECORDED in slots
    assert "cannot grow" in caplog.text
    for slot in slots:
        register.leave(slot)
    assert register.enter(item(41), in_thread=True) != UNRECORDED


@pytest.mark.parametrize("name", ["\ud800", "x" * 3000])
def test_what_cannot_be_recorded_is_left_out(tmp_path: Path, abandoned: Any, name: str) -> None:
    def fill(register: Register) -> None:
        register.enter(item(1, name), in_thread=True)
        register.enter(item(2), in_thread=True)
        register.mark_turn(name, "hello")

    abandoned(fill)
    assert Register(tmp_path).take_over(sole=True) == [call(2, in_thread=True)]


def test_the_longest_instance_id_fits(tmp_path: Path, abandoned: Any) -> None:
    abandoned(lambda register: register.mark_turn("\N{PILE OF POO}" * 256, "hello"))
    assert Register(tmp_path).take_over(sole=True) == [RunningTurn("\N{PILE OF POO}" * 256, "hello")]


@pytest.mark.parametrize("torn", [b"\xff" * 40, b"\x93\xa4turn\xa3tw"])
def test_a_record_half_written_reads_as_absent(tmp_path: Path, abandoned: Any, torn: bytes) -> None:
    def fill(register: Register) -> None:
        register.mark_turn("two", "hello")
        register.enter(item(1), in_thread=True)

    path = abandoned(fill)
    content = bytearray(path.read_bytes())
    content[64 : 68 + len(torn)] = struct.pack("I", len(torn)) + torn
    path.write_bytes(content)
    assert Register(tmp_path).take_over(sole=True) == [call(1, in_thread=True)]


def test_a_length_beyond_the_slot_reads_as_absent(tmp_path: Path, abandoned: Any) -> None:
    path = abandoned(lambda register: register.mark_turn("two", "hello"))
    content = bytearray(path.read_bytes())
    content[64:68] = struct.pack("I", 2**31)
    path.write_bytes(content)
    assert Register(tmp_path).take_over(sole=True) == []


@pytest.mark.parametrize("content", [b"", b"short", b"something else entirely".ljust(5000, b".")])
def test_what_is_no_register_is_ignored_with_a_warning(
    tmp_path: Path, abandoned: Any, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "1-1-00000000.register").write_bytes(content)
    (tmp_path / "a note of mine.txt").write_bytes(content)
    abandoned(lambda register: register.mark_turn("two", "hello"))
    register = Register(tmp_path)
    assert register.take_over(sole=True) == [RunningTurn("two", "hello")]
    assert register.take_over(sole=True) == []
    assert [each.levelno for each in caplog.records] == [logging.WARNING]
    assert (tmp_path / "a note of mine.txt").exists()


def test_a_directory_that_cannot_be_written_turns_the_register_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "taken").touch()
    register = Register(tmp_path / "taken")
    register.mark_turn("two", "hello")
    register.leave(register.enter(item(1), in_thread=True))
    register.clear()
    assert register.take_over(sole=True) == []
    assert register.directory is None
    register.close()
    assert "what runs here is not written down" in caplog.text


def test_without_a_directory_nothing_is_recorded() -> None:
    register = Register(None)
    register.mark_turn("two", "hello")
    for slot in [register.enter(item(number), in_thread=True) for number in range(100)]:
        register.leave(slot)
    assert register.take_over(sole=True) == []
    register.close()


def test_a_process_is_told_from_a_later_one_of_the_same_number() -> None:
    start = start_of(os.getpid())
    assert start is not None
    assert is_alive(os.getpid(), start)
    if sys.platform == "linux":
        assert not is_alive(os.getpid(), "1")


def test_a_process_that_has_ended_is_not_alive_though_nobody_has_asked_for_its_exit_code() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    start = start_of(process.pid)
    assert start is not None
    assert is_alive(process.pid, start)
    assert process.stdin is not None
    process.stdin.close()
    end = time.monotonic() + 20
    while is_alive(process.pid, start) and time.monotonic() < end:
        time.sleep(0.005)
    assert not is_alive(process.pid, start)
    process.wait()
