"""How `durable run` comes to its end: real signals, real processes."""

from __future__ import annotations

import json
import signal
import socket
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from hosting import DEADLINE, Process, durable, running_host, write_app

APP = """
import asyncio, atexit, contextlib, multiprocessing, os, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

def slow_library_call():
    print("in the library", flush=True)
    time.sleep(3600)

def first_time():
    with contextlib.suppress(FileExistsError):
        Path("begun").touch(exist_ok=False)
        print("begun", flush=True)
        return True
    return False

@app.orchestration_trigger(context_name="context")
def calls(context: df.DurableOrchestrationContext):
    return (yield context.call_activity(context.get_input()))

@app.orchestration_trigger(context_name="context")
def spins(context: df.DurableOrchestrationContext):
    print("spinning", flush=True)
    while True:
        pass
    yield

@app.activity_trigger(input_name="x")
async def raises(x: None) -> str:
    if first_time():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError as error:
            raise RuntimeError("request aborted") from error
    return "fetched"

@app.activity_trigger(input_name="x")
async def returns(x: None) -> str:
    if first_time():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        return None
    return "fetched"

@app.activity_trigger(input_name="x")
def blocks(x: None) -> str:
    if first_time():
        time.sleep(3600)
    return "fetched"

@app.activity_trigger(input_name="x")
async def convert(x: None) -> None:
    await asyncio.to_thread(slow_library_call)

@app.activity_trigger(input_name="x")
def interrupts(x: None) -> None:
    raise KeyboardInterrupt

@app.activity_trigger(input_name="x")
async def interrupts_async(x: None) -> None:
    raise KeyboardInterrupt

def sleep_on(begun):
    begun.set()
    time.sleep(3600)

@app.activity_trigger(input_name="x")
def ends_a_child(x: None) -> int:
    fork = multiprocessing.get_context("fork")
    begun = fork.Event()
    child = fork.Process(target=sleep_on, args=(begun,))
    child.start()
    begun.wait()  # what comes in the middle of a fork, Python forgets
    child.terminate()
    child.join()
    return child.exitcode

@app.route(route="convert")
async def convert_over_http(req: func.HttpRequest) -> str:
    await asyncio.to_thread(slow_library_call)

@app.route(route="spawn")
def spawn(req: func.HttpRequest) -> str:
    threading.Thread(target=slow_library_call).start()
    return "spawned"

@app.route(route="pool")
def use_pool(req: func.HttpRequest) -> str:
    list(pool.map(str, range(30)))
    return "used"

pool = ThreadPoolExecutor(3)
atexit.register(print, "flushed", flush=True)
"""


@pytest.fixture
def app_dir(tmp_path: Path) -> Path:
    return write_app(tmp_path / "app", APP)


def ask(url: str, method: str = "GET", value: Any = None) -> Any:
    body = None if value is None else json.dumps(value).encode()
    request = urllib.request.Request(url, method=method, data=body, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
        return answer.read()


def start(url: str, activity: str) -> None:
    ask(f"{url}/api/durabletask/orchestrators/calls/one", "POST", activity)


def ended(url: str) -> Any:
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        status = json.loads(ask(f"{url}/api/durabletask/instances/one"))
        if status["runtimeStatus"] not in ("Pending", "Running"):
            return status
    raise AssertionError(f"it does not end: {status}")


def stop(process: Process, number: signal.Signals = signal.SIGTERM) -> float:
    """Stop a host that is to stop well; return how long that took."""
    began = time.monotonic()
    process.signal(number)
    assert process.wait() == 0
    return time.monotonic() - began


def send(url: str, path: str) -> socket.socket:
    """A request whose answer nobody waits for."""
    host, _, port = url.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)), timeout=DEADLINE)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return connection


@pytest.mark.parametrize("activity", ["raises", "returns", "blocks"])
def test_what_an_activity_does_after_a_stop_has_given_it_up_is_no_outcome(app_dir: Path, activity: str) -> None:
    with running_host(app_dir, "--grace", "0.1") as (process, url):
        start(url, activity)
        process.until("begun")
        stop(process)
    with running_host(app_dir) as (process, url):
        status = ended(url)
    assert (status["runtimeStatus"], status["output"]) == ("Completed", "fetched")


def test_a_call_that_ran_at_a_second_signal_is_not_suspected(app_dir: Path) -> None:
    with running_host(app_dir) as (process, url):
        start(url, "blocks")
        process.until("begun")
        process.signal(signal.SIGINT)
        process.until("stopping")
        process.signal(signal.SIGINT)
        assert process.wait() == 130
    with running_host(app_dir) as (process, url):
        assert ended(url)["output"] == "fetched"
        stop(process)
    assert "runs apart" not in process.output


def test_a_thread_that_an_activity_waits_for_is_named_with_its_instance_and_left(app_dir: Path) -> None:
    with running_host(app_dir, "--grace", "0.1") as (process, url):
        start(url, "convert")
        process.until("in the library")
        assert stop(process) < 8
    assert "leaving 1 function call(s) that did not return: slow_library_call (" in process.output
    assert "for activity 'convert' of one" in process.output
    assert "flushed" in process.output


def test_a_thread_that_an_http_function_waits_for_is_named_and_left(app_dir: Path) -> None:
    with running_host(app_dir, "--grace", "0.1") as (process, url), send(url, "/api/convert"):
        process.until("in the library")
        assert stop(process) < 8
    assert "slow_library_call (" in process.output
    assert "for function 'convert_over_http'" in process.output


def test_idle_threads_of_the_app_do_not_count_and_exit_handlers_run(app_dir: Path) -> None:
    with running_host(app_dir) as (process, url):
        ask(f"{url}/api/pool")
        assert stop(process) < 5
    assert "leaving" not in process.output
    assert process.output.count("flushed") == 1


def test_a_thread_of_the_apps_own_is_named_and_exit_handlers_run(app_dir: Path) -> None:
    with running_host(app_dir) as (process, url):
        ask(f"{url}/api/spawn")
        process.until("in the library")
        assert stop(process) < 8
    assert "leaving 1 function call(s) that did not return: slow_library_call (" in process.output
    assert process.output.count("flushed") == 1


def test_exit_handlers_that_do_not_return_are_left_as_well(tmp_path: Path) -> None:
    app = write_app(
        tmp_path,
        """
        import atexit, threading, time
        from durable_ext.host import ending
        ending.OVERTIME = ending.EXIT_HANDLERS = 0.5
        atexit.register(time.sleep, 3600)
        """,
    )
    with running_host(app, "--grace", "0") as (process, _):
        assert stop(process) < 8


def test_a_stop_that_the_app_blocks_is_ended_by_force_and_names_what_blocks_it(app_dir: Path) -> None:
    with (app_dir / "function_app.py").open("a") as file:
        file.write("from durable_ext.host import ending\nending.OVERTIME = 0.5\n")
    with running_host(app_dir, "--grace", "0") as (process, url):
        ask(f"{url}/api/durabletask/orchestrators/spins/one", "POST")
        process.until("spinning")
        process.signal(signal.SIGTERM)
        assert process.wait() == 1
    assert "the stop is not through after 0.5 s and is ended by force; still running: spins (" in process.output
    assert process.output.count("flushed") == 1


def test_a_second_signal_ends_a_host_whose_event_loop_is_blocked(app_dir: Path) -> None:
    with running_host(app_dir) as (process, url):
        ask(f"{url}/api/durabletask/orchestrators/spins/one", "POST")
        process.until("spinning")
        process.signal(signal.SIGINT)
        time.sleep(0.2)  # two signals at once are one
        process.signal(signal.SIGINT)
        assert process.wait() == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_the_first_signal_ends_a_slow_import(tmp_path: Path, number: signal.Signals) -> None:
    app = write_app(tmp_path, "import time\nprint('importing', flush=True)\ntime.sleep(3600)")
    with durable("run", "--port", "0", cwd=app) as process:
        process.until("importing")
        process.signal(number)
        assert process.wait() == 130
    assert process.lines[1:] == ["stopped while the app was being imported"]


def test_a_signal_that_the_import_swallows_still_stops_the_host(tmp_path: Path) -> None:
    body = """
    import time
    try:
        print('importing', flush=True)
        time.sleep(3600)
    except BaseException:
        pass
    """
    with durable("run", "--port", "0", cwd=write_app(tmp_path, body)) as process:
        process.until("importing")
        stop(process, signal.SIGINT)


def test_an_app_that_takes_the_signals_at_import_does_not_keep_them(tmp_path: Path) -> None:
    app = write_app(tmp_path, "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)")
    with running_host(app) as (process, _):
        stop(process)


@pytest.mark.parametrize("activity", ["interrupts", "interrupts_async"])
def test_a_keyboard_interrupt_that_a_function_raises_is_an_error_of_its_call(app_dir: Path, activity: str) -> None:
    with running_host(app_dir) as (process, url):
        start(url, activity)
        status = ended(url)
        stop(process)
    assert status["runtimeStatus"] == "Failed"
    assert "KeyboardInterrupt" in status["output"]


def test_a_process_that_the_app_has_forked_can_be_ended(app_dir: Path) -> None:
    with running_host(app_dir) as (process, url):
        start(url, "ends_a_child")
        assert ended(url)["output"] == -signal.SIGTERM
        stop(process)
