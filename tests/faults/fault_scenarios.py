"""Programs that between them use everything an orchestration can do, and the clients that drive them.

What they do must not depend on which of two things is faster: whatever may race is either far away or never comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from durable_ext.errors import ActivityFailedError, ActivityTimeout, SubOrchestrationFailedError
from durable_ext.registry import Activity, Orchestrator, Registry
from durable_ext.retry import RetryPolicy
from durable_ext.runtime.logs import current_activity

REGISTRY = Registry()
SOON = timedelta(milliseconds=15)
NEVER = timedelta(hours=1)

Expected = dict[str, tuple[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """`drive` plays the client; `ends` says how its instances end: status and output.

    `leaves_work`: an activity never ends. `is_racy`: which outcomes make it into the history is a matter of speed.
    `kills`: its own functions end the process, or it is one to be killed. `has_child`: the quarantine has children.
    `prepare` is what the client does before there is a host.
    """

    drive: Callable[[Any], Awaitable[None]]
    ends: Expected
    leaves_work: bool = False
    is_racy: bool = False
    kills: bool = False
    has_child: bool = False
    prepare: Callable[[Any], Awaitable[None]] | None = None


SCENARIOS: dict[str, Scenario] = {}


def scenario(ends: Expected, **options: Any) -> Callable[..., Any]:
    def add(drive: Callable[[Any], Awaitable[None]]) -> Any:
        SCENARIOS[drive.__name__] = Scenario(drive=drive, ends=ends, **options)
        return drive

    return add


def orchestrator(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    REGISTRY.orchestrators.add(Orchestrator(name=function.__name__, function=function))
    return function


def activity(function: Callable[..., Any]) -> Callable[..., Any]:
    (argument,) = function.__code__.co_varnames[: function.__code__.co_argcount]
    REGISTRY.activities.add(Activity(name=function.__name__, function=function, input_name=argument))
    return function


# --- activities ----------------------------------------------------------------------------------------


@activity
async def double(number: int) -> int:
    return number * 2


@activity
def add_one(number: int) -> int:
    return number + 1


@activity
async def slowly(number: int) -> int:
    await asyncio.sleep(0.01)
    return number


@activity
async def fail(text: str) -> None:
    raise ValueError(text)


@activity
async def third_time_lucky(name: str) -> str:
    attempt = current_activity.get().attempt
    if attempt < 3:
        raise RuntimeError(f"attempt {attempt}")
    return f"{name} at attempt {attempt}"


@activity
async def hang(nothing: None) -> None:
    await asyncio.Event().wait()


@activity
def needs_file(path: str) -> str:
    if not Path(path).exists():
        raise FileNotFoundError("not yet there")
    return "found"


# --- chains and fan-outs -------------------------------------------------------------------------------


@orchestrator
def chain(context: Any) -> Any:
    number = context.get_input()
    for step in range(3):
        number = yield context.call_activity("double" if step % 2 else "add_one", number)
        context.set_custom_status(step)
    return number


@scenario({"chain": ("Completed", 7)})
async def a_chain(hub: Any) -> None:
    await hub.start("chain", "chain", 2)
    await hub.end("chain")


@orchestrator
async def chain_of_awaits(context: Any) -> Any:
    number = context.get_input()
    for step in range(3):
        number = await context.call_activity("double" if step % 2 else "add_one", number)
        context.set_custom_status(step)
    return number


@scenario({"chain": ("Completed", 7)})
async def a_chain_in_a_coroutine(hub: Any) -> None:
    await hub.start("chain_of_awaits", "chain", 2)
    await hub.end("chain")


@orchestrator
def fan_out(context: Any) -> Any:
    return (yield context.task_all([context.call_activity("slowly", number) for number in range(6)]))


@scenario({"fan": ("Completed", [0, 1, 2, 3, 4, 5])})
async def a_fan_out(hub: Any) -> None:
    await hub.start("fan_out", "fan")
    await hub.end("fan")


@orchestrator
async def asyncio_tools(context: Any) -> Any:
    gathered = await asyncio.gather(*(context.call_activity("double", number) for number in range(3)))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_twice(context, number)) for number in gathered]
    try:
        await asyncio.wait_for(context.wait_for_external_event("never"), 0.015)
    except TimeoutError:
        await asyncio.sleep(0.01)
    first = await asyncio.wait_for(context.call_activity("double", 50), 3600)
    return [first, *(task.result() for task in tasks)]


async def _twice(context: Any, number: int) -> int:
    return await context.call_activity("double", await context.call_activity("add_one", number))


@scenario({"tools": ("Completed", [100, 2, 6, 10])}, is_racy=True)
async def asyncio_inside(hub: Any) -> None:
    await hub.start("asyncio_tools", "tools")
    await hub.end("tools")


# --- timers and retries --------------------------------------------------------------------------------


@orchestrator
def first_of_two(context: Any) -> Any:
    expiry = context.create_timer(SOON)
    event = context.wait_for_external_event("never")
    first = yield context.task_any([event, expiry])
    late = context.create_timer(NEVER)
    quick = context.call_activity("double", 21)
    second = yield context.task_any([late, quick])
    late.cancel()
    return [first is expiry, second is quick, quick.result]


@scenario({"race": ("Completed", [True, True, 42])})
async def any_of_timer_event_and_activity(hub: Any) -> None:
    await hub.start("first_of_two", "race")
    await hub.end("race")


@orchestrator
def stubborn(context: Any) -> Any:
    policy = RetryPolicy(first_retry_interval=timedelta(milliseconds=5), max_number_of_attempts=3)
    lucky = yield context.call_activity("third_time_lucky", "one", retry_policy=policy)
    try:
        yield context.call_activity("fail", "always", retry_policy=policy)
    except ActivityFailedError as error:
        return [lucky, error.message]


@scenario({"stubborn": ("Completed", ["one at attempt 3", "always"])})
async def retries_with_timers(hub: Any) -> None:
    await hub.start("stubborn", "stubborn")
    await hub.end("stubborn")


@orchestrator
def impatient(context: Any) -> Any:
    try:
        yield context.call_activity("hang", timeout=SOON)
    except ActivityTimeout as error:
        return error.task_name


@scenario({"impatient": ("Completed", "hang")}, leaves_work=True)
async def an_activity_timeout(hub: Any) -> None:
    await hub.start("impatient", "impatient")
    await hub.end("impatient")


@orchestrator
def leaves_a_timer(context: Any) -> Any:
    context.create_timer(SOON)
    context.call_activity("slowly", 1)
    return (yield context.call_activity("double", 4))


@scenario({"early": ("Completed", 8)}, is_racy=True)
async def an_end_before_its_timers_and_activities(hub: Any) -> None:
    await hub.start("leaves_a_timer", "early")
    await hub.end("early")


# --- events --------------------------------------------------------------------------------------------


@orchestrator
def collector(context: Any) -> Any:
    yield context.wait_for_external_event("go")
    items = []
    for _ in range(3):
        items.append((yield context.wait_for_external_event("item")))  # noqa: PERF401 - no yield in a comprehension
    return items


@scenario({"collector": ("Completed", [1, 2, 3])})
async def events_before_their_waits(hub: Any) -> None:
    await hub.start("collector", "collector")
    for number in (1, 2, 3):
        await hub.event("collector", "item", number)
    await hub.event("collector", "go")
    await hub.end("collector")


@orchestrator
async def doorkeeper(context: Any) -> Any:
    answer = await context.wait_for_external_event("answer", timeout=NEVER)
    default = await context.wait_for_external_event("silence", timeout=SOON, default="nobody")
    return [answer, default]


@scenario({"door": ("Completed", ["come in", "nobody"])})
async def events_with_timeouts(hub: Any) -> None:
    await hub.start("doorkeeper", "door")
    await hub.until("door", "Running")
    await hub.event("door", "answer", "come in")
    await hub.end("door")


@orchestrator
def pinger(context: Any) -> Any:
    pongs = []
    for number in range(2):
        context.send_event("listener", "ping", [context.instance_id, number])
        pongs.append((yield context.wait_for_external_event("pong")))
    return pongs


@orchestrator
def listener(context: Any) -> Any:
    for _ in range(2):
        sender, number = yield context.wait_for_external_event("ping")
        number = yield context.call_activity("double", number + 1)
        context.send_event(sender, "pong", number)
    return "heard"


@scenario({"pinger": ("Completed", [2, 4]), "listener": ("Completed", "heard")})
async def events_between_orchestrations(hub: Any) -> None:
    await hub.start("listener", "listener")
    await hub.start("pinger", "pinger")
    await hub.end("pinger", "listener")


# --- sub-orchestrations --------------------------------------------------------------------------------


@orchestrator
def child(context: Any) -> Any:
    return (yield context.call_activity("double", context.get_input()))


@orchestrator
def failing_child(context: Any) -> Any:
    yield context.call_activity("fail", "as told")


@orchestrator
def family(context: Any) -> Any:
    first = yield context.call_sub_orchestrator("child", 1, instance_id="family-first")
    second = yield context.call_sub_orchestrator("child", first)
    return [first, second]


@scenario({"family": ("Completed", [2, 4]), "family-first": ("Completed", 2)})
async def children_one_after_the_other(hub: Any) -> None:
    await hub.start("family", "family")
    await hub.end("family")


@orchestrator
def big_family(context: Any) -> Any:
    return (yield context.task_all([context.call_sub_orchestrator("child", number) for number in range(4)]))


@scenario({"family": ("Completed", [0, 2, 4, 6])})
async def children_side_by_side(hub: Any) -> None:
    await hub.start("big_family", "family")
    await hub.end("family")


@orchestrator
async def troubled_family(context: Any) -> Any:
    try:
        await context.call_sub_orchestrator("failing_child")
    except SubOrchestrationFailedError as error:
        caught = error.type
    policy = RetryPolicy(first_retry_interval=timedelta(milliseconds=5), max_number_of_attempts=2)
    await context.call_sub_orchestrator("failing_child", retry_policy=policy)
    return caught


@scenario({"family": ("Failed", None)})
async def failing_children(hub: Any) -> None:
    await hub.start("troubled_family", "family")
    await hub.end("family")


@orchestrator
def mother(context: Any) -> Any:
    try:
        yield context.call_sub_orchestrator("collector", instance_id="taken")
    except SubOrchestrationFailedError as error:
        return error.type


@scenario({"mother": ("Completed", "InstanceAlreadyExistsError"), "taken": ("Completed", [1, 2, 3])})
async def a_child_id_that_is_taken(hub: Any) -> None:
    await hub.start("collector", "taken")
    await hub.until("taken", "Running")
    await hub.start("mother", "mother")
    await hub.end("mother")
    for number in (1, 2, 3):
        await hub.event("taken", "item", number)
    await hub.event("taken", "go")
    await hub.end("taken")


@orchestrator
def launcher(context: Any) -> Any:
    return [
        context.start_orchestration("chain", 3, instance_id="launched-1"),
        context.start_orchestration("collector", instance_id="launched-2"),
    ]


@scenario(
    {
        "launcher": ("Completed", ["launched-1", "launched-2"]),
        "launched-1": ("Completed", 9),
        "launched-2": ("Completed", [5, 6, 7]),
    }
)
async def starts_nobody_waits_for(hub: Any) -> None:
    await hub.start("launcher", "launcher")
    await hub.end("launcher")
    await hub.until("launched-2", "Running")
    for number in (5, 6, 7):
        await hub.event("launched-2", "item", number)
    await hub.event("launched-2", "go")
    await hub.end("launched-1", "launched-2")


@orchestrator
def lost(context: Any) -> Any:
    caught = []
    try:
        yield context.call_activity("no_such_activity")
    except ActivityFailedError as error:
        caught.append(error.type)
    try:
        yield context.call_sub_orchestrator("no_such_orchestrator", instance_id="nowhere")
    except SubOrchestrationFailedError as error:
        caught.append(error.type)
    return caught


@scenario({"lost": ("Completed", ["FunctionNotFoundError"] * 2), "nowhere": ("Failed", None)})
async def unknown_functions(hub: Any) -> None:
    await hub.start("lost", "lost")
    await hub.end("lost")


# --- continue as new -----------------------------------------------------------------------------------


@orchestrator
def accumulator(context: Any) -> Any:
    total, left = context.get_input()
    if not left:
        return total
    number = yield context.wait_for_external_event("add")
    total += yield context.call_activity("double", number)
    context.set_custom_status(total)
    context.continue_as_new([total, left - 1])


@scenario({"sum": ("Completed", 20)})
async def continue_as_new_with_unread_events(hub: Any) -> None:
    await hub.start("accumulator", "sum", [0, 4])
    for number in (1, 2, 3, 4):
        await hub.event("sum", "add", number)
    await hub.end("sum")


@orchestrator
def town_crier(context: Any) -> Any:
    left = context.get_input()
    if left:
        context.send_event("audience", "item", left)
        context.start_orchestration("child", left, instance_id=f"crier-{left}")
        context.continue_as_new(left - 1)
    else:
        context.send_event("audience", "go")


@scenario({"crier": ("Completed", None), "audience": ("Completed", [3, 2, 1]), "crier-2": ("Completed", 4)})
async def sends_of_a_turn_that_continues_as_new(hub: Any) -> None:
    await hub.start("collector", "audience")
    await hub.start("town_crier", "crier", 3)
    await hub.end("crier", "audience", "crier-3", "crier-2", "crier-1")


@orchestrator
def generations(context: Any) -> Any:
    left = context.get_input()
    context.call_activity("slowly", 100 + left)
    quick = context.call_activity("double", left)
    result = yield quick
    if left:
        context.continue_as_new(left - 1)
        return None
    return result


@scenario({"generations": ("Completed", 0)}, is_racy=True)
async def late_outcomes_of_former_generations(hub: Any) -> None:
    await hub.start("generations", "generations", 3)
    await hub.end("generations")


# --- steering ------------------------------------------------------------------------------------------


@orchestrator
def pausable(context: Any) -> Any:
    context.set_custom_status("waiting")
    event = yield context.wait_for_external_event("item")
    context.set_custom_status("working")
    return [event, (yield context.call_activity("double", 4))]


@scenario({"pausable": ("Completed", ["kept", 8])})
async def suspend_and_resume(hub: Any) -> None:
    await hub.start("pausable", "pausable")
    await hub.until("pausable", "Running", "waiting")
    await hub.once("suspend", lambda: hub.client.suspend("pausable", "lunch"))
    await hub.until("pausable", "Suspended")
    await hub.event("pausable", "item", "kept")
    await hub.once("resume", lambda: hub.client.resume("pausable"))
    await hub.end("pausable")


@orchestrator
def grandparent(context: Any) -> Any:
    yield context.call_sub_orchestrator("parent", instance_id="parent")


@orchestrator
def parent(context: Any) -> Any:
    yield context.call_sub_orchestrator("collector", instance_id="grandchild")


@scenario(dict.fromkeys(("grandparent", "parent", "grandchild"), ("Terminated", None)))
async def recursive_termination(hub: Any) -> None:
    await hub.start("grandparent", "grandparent")
    await hub.until("grandchild", "Running")
    await hub.once("terminate", lambda: hub.client.terminate("grandparent", "enough", recursive=True))
    await hub.end("grandparent", "parent", "grandchild")


@orchestrator
def hopeless(context: Any) -> Any:
    yield context.task_all([context.call_activity("hang"), context.create_timer(NEVER)])


@scenario({"doomed": ("Terminated", None)}, leaves_work=True)
async def termination_while_an_activity_runs(hub: Any) -> None:
    await hub.start("hopeless", "doomed")
    await hub.until("doomed", "Running")
    await hub.once("terminate", lambda: hub.client.terminate("doomed", "enough"))
    await hub.end("doomed")


@orchestrator
def fragile(context: Any) -> Any:
    before = yield context.call_activity("double", 1)
    found = yield context.call_activity("needs_file", context.get_input())
    return [before, found]


@scenario({"fragile": ("Completed", [2, "found"])})
async def rewind_of_a_failed_activity(hub: Any) -> None:
    path = hub.folder / "there"
    await hub.start("fragile", "fragile", str(path))
    await hub.until("fragile", "Failed")
    path.touch()
    await hub.once("rewind", lambda: hub.client.rewind("fragile", "it is there"))
    await hub.until("fragile", "Completed")


@orchestrator
def fragile_family(context: Any) -> Any:
    return (yield context.call_sub_orchestrator("fragile", context.get_input(), instance_id="fragile-child"))


@scenario({"family": ("Completed", [2, "found"]), "fragile-child": ("Completed", [2, "found"])})
async def rewind_of_a_failed_child(hub: Any) -> None:
    path = hub.folder / "there"
    await hub.start("fragile_family", "family", str(path))
    await hub.until("family", "Failed")
    path.touch()
    await hub.once("rewind", lambda: hub.client.rewind("family", "it is there"))
    await hub.until("family", "Completed")


@scenario({"again": ("Completed", 7)})
async def restart_and_purge(hub: Any) -> None:
    await hub.start("chain", "again", 1)
    await hub.start("chain", "purged", 1)
    await hub.end("again", "purged")
    await hub.once("purge", lambda: hub.client.purge_instance_history("purged"))
    await hub.once("start again", lambda: hub.client.start_new("chain", "again", 2))
    await hub.end("again")
