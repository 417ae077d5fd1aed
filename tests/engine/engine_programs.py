"""Random orchestrators: small programs that can be written as a generator and as a coroutine.

A program says how its own calls turn out, by their inputs: `[failures, value]` fails that many attempts and returns
the value afterwards; more failures than attempts never succeed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from durable_ext.errors import TaskFailedError
from durable_ext.retry import RetryPolicy

SECOND = timedelta(seconds=1)
CAUGHT = (TaskFailedError, TimeoutError)


@dataclass(frozen=True)
class Call:
    """An activity, perhaps under a retry policy or a timeout."""

    value: int
    failures: int = 0
    attempts: int = 1
    timeout: bool = False

    def task(self, context: Any) -> Any:
        retry = RetryPolicy(first_retry_interval=SECOND, max_number_of_attempts=self.attempts)
        return context.call_activity(
            f"a{self.value % 3}",
            [self.failures, self.value],
            retry_policy=retry if self.attempts > 1 else None,
            timeout=SECOND if self.timeout else None,
        )


@dataclass(frozen=True)
class Child:
    """A sub-orchestration."""

    value: int
    failures: int = 0

    def task(self, context: Any) -> Any:
        return context.call_sub_orchestrator("child", [self.failures, self.value])


@dataclass(frozen=True)
class Timer:
    """A durable timer."""

    delay: int

    def task(self, context: Any) -> Any:
        return context.create_timer(self.delay * SECOND)


@dataclass(frozen=True)
class Wait:
    """A wait for an external event; without a timeout it may never end."""

    name: str
    timeout: str = "raises"

    def task(self, context: Any) -> Any:
        if self.timeout == "none":
            return context.wait_for_external_event(self.name)
        default = {"default": "late"} if self.timeout == "default" else {}
        return context.wait_for_external_event(self.name, timeout=SECOND, **default)


@dataclass(frozen=True)
class All:
    """Several tasks, all of them."""

    tasks: tuple[Any, ...]

    def task(self, context: Any) -> Any:
        return context.task_all([each.task(context) for each in self.tasks])


@dataclass(frozen=True)
class First:
    """Several tasks, the first of them."""

    tasks: tuple[Any, ...]

    def task(self, context: Any) -> Any:
        return context.task_any([each.task(context) for each in self.tasks])


@dataclass(frozen=True)
class Race:
    """A task against a timer, which is cancelled if it loses; the task may be awaited afterwards."""

    racer: Any
    after: bool


@dataclass(frozen=True)
class Pool:
    """Several tasks in a set, taken out as they complete; a call is made for each that is left after the first."""

    tasks: tuple[Any, ...]


@dataclass(frozen=True)
class Tell:
    """Something without an outcome."""

    what: str


@dataclass(frozen=True)
class Try:
    """Steps whose failure is caught, and what follows from it."""

    body: tuple[Any, ...]
    handler: tuple[Any, ...]


@dataclass(frozen=True)
class Again:
    """Some task of before, once more."""

    back: int


@dataclass(frozen=True)
class Leave:
    """A wait for an external event that the code turns away from. It may come back to it by `Again` or `Poll`."""

    name: str
    timeout: bool = False

    def task(self, context: Any) -> Any:
        if self.timeout:
            return context.wait_for_external_event(self.name, timeout=2 * SECOND, default="late")
        return context.wait_for_external_event(self.name)


@dataclass(frozen=True)
class Poll:
    """Some wait left behind before: is it completed?"""

    back: int


@dataclass(frozen=True)
class Branches:
    """Sequences of steps side by side, as tasks of their own. Coroutines only."""

    branches: tuple[tuple[Any, ...], ...]
    how: str


@dataclass(frozen=True)
class Program:
    """What each generation does."""

    generations: tuple[tuple[Any, ...], ...]
    reads_time: bool = False
    save_events: bool = True


def tell(context: Any, what: str) -> None:
    match what:
        case "status":
            context.set_custom_status(what)
        case "send":
            context.send_event("somebody", "news", 1)
        case "start":
            context.start_orchestration("child", [0, 1])
        case "leave":
            context.call_activity("left", [0, 1])
        case "timer":
            context.create_timer(SECOND).cancel()


def poll(left: list[Any], back: int, said: list[Any]) -> None:
    if left:
        wait = left[back % len(left)]
        said.append(shown(wait.get_result()) if wait.is_completed else "open")


def follow_up(context: Any, made: list[Any], pool: set[Any]) -> list[Any]:
    """A call for each open task, in the order of the set."""
    return [context.call_activity("left", [0, made.index(each)]) for each in pool if not each.is_completed]


def read(context: Any) -> list[Any]:
    return [str(context.current_utc_datetime), context.new_uuid(), str(context.new_guid())]


def shown(result: Any) -> Any:
    """Results of task_any are tasks."""
    if isinstance(result, list):
        return [shown(each) for each in result]
    return result if isinstance(result, int | str | type(None)) else "a task"


def as_generator(program: Program) -> Callable[..., Any]:
    """The program with `yield`."""

    def steps(context: Any, body: tuple[Any, ...], said: list[Any], tasks: list[Any]) -> Any:
        left: list[Any] = []
        for step in body:
            match step:
                case Tell(what=what):
                    tell(context, what)
                case Leave():
                    left.append(step.task(context))
                    tasks.append(left[-1])
                case Poll(back=back):
                    poll(left, back, said)
                case Try(body=inner, handler=handler):
                    try:
                        yield from steps(context, inner, said, tasks)
                    except CAUGHT as error:
                        said.append(type(error).__name__)
                        yield from steps(context, handler, said, tasks)
                case Again(back=back):
                    if tasks:
                        said.append(shown((yield tasks[back % len(tasks)])))
                case Race(racer=racer, after=after):
                    task, timer = racer.task(context), context.create_timer(SECOND)
                    if (yield context.task_any([task, timer])) is task:
                        timer.cancel()
                        said.append(shown((yield task)))
                    elif after:
                        said.append(shown((yield task)))
                case Pool(tasks=several):
                    made = [each.task(context) for each in several]
                    pool = set(made)
                    while pool:
                        pool.remove(winner := (yield context.task_any(pool)))
                        said.append(made.index(winner))
                        if len(pool) + 1 == len(made):
                            said.append(shown((yield context.task_all(follow_up(context, made, pool)))))
                case _:
                    tasks.append(step.task(context))
                    said.append(shown((yield tasks[-1])))
            if program.reads_time:
                said.append(read(context))

    def orchestrator(context: Any) -> Any:
        generation, said = context.get_input() or [0, []]
        yield from steps(context, program.generations[generation], said, [])
        if generation + 1 < len(program.generations):
            context.continue_as_new([generation + 1, said], save_events=program.save_events)
        return said

    return orchestrator


def as_coroutine(program: Program) -> Callable[..., Any]:
    """The program with `await`."""

    async def steps(context: Any, body: tuple[Any, ...], said: list[Any], tasks: list[Any]) -> None:
        left: list[Any] = []
        for step in body:
            match step:
                case Tell(what=what):
                    tell(context, what)
                case Leave():
                    left.append(step.task(context))
                    tasks.append(left[-1])
                case Poll(back=back):
                    poll(left, back, said)
                case Try(body=inner, handler=handler):
                    try:
                        await steps(context, inner, said, tasks)
                    except CAUGHT as error:
                        said.append(type(error).__name__)
                        await steps(context, handler, said, tasks)
                case Again(back=back):
                    if tasks:
                        said.append(shown(await tasks[back % len(tasks)]))
                case Race(racer=racer, after=after):
                    task, timer = racer.task(context), context.create_timer(SECOND)
                    if (await context.task_any([task, timer])) is task:
                        timer.cancel()
                        said.append(shown(await task))
                    elif after:
                        said.append(shown(await task))
                case Pool(tasks=several):
                    made = [each.task(context) for each in several]
                    pool = set(made)
                    while pool:
                        pool.remove(winner := await context.task_any(pool))
                        said.append(made.index(winner))
                        if len(pool) + 1 == len(made):
                            said.append(shown(await context.task_all(follow_up(context, made, pool))))
                case Branches(branches=branches, how=how):
                    logs: list[list[Any]] = [[] for _ in branches]
                    made = [steps(context, each, log, []) for each, log in zip(branches, logs, strict=True)]
                    await side_by_side(made, how, said)
                    said.extend(logs)
                case _:
                    tasks.append(step.task(context))
                    said.append(shown(await tasks[-1]))
            if program.reads_time:
                said.append(read(context))

    async def orchestrator(context: Any) -> Any:
        generation, said = context.get_input() or [0, []]
        await steps(context, program.generations[generation], said, [])
        if generation + 1 < len(program.generations):
            context.continue_as_new([generation + 1, said], save_events=program.save_events)
        return said

    return orchestrator


async def side_by_side(made: list[Any], how: str, said: list[Any]) -> None:
    """Run coroutines as asyncio offers to."""
    match how:
        case "gather":
            found = await asyncio.gather(*made, return_exceptions=True)
            said.append([type(each).__name__ for each in found])
        case "group":
            try:
                async with asyncio.TaskGroup() as group:
                    for each in made:
                        group.create_task(each)
            except* CAUGHT as errors:
                said.append([type(each).__name__ for each in errors.exceptions])
        case "wait":
            tasks = [asyncio.ensure_future(each) for each in made]
            done, pending = await asyncio.wait(set(tasks), timeout=1, return_when=asyncio.FIRST_EXCEPTION)
            said.append([[tasks.index(each) for each in group] for group in (done, pending)])
            for each in pending:
                each.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        case "gathers":
            pending: Any = [asyncio.gather(each, return_exceptions=True) for each in made]
            numbers = {each: number for number, each in enumerate(pending)}
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                said.append([numbers[each] for each in done])
        case "as_completed":
            for each in asyncio.as_completed(made):
                try:
                    await each
                except CAUGHT as error:
                    said.append(type(error).__name__)
        case "timeout":
            try:
                async with asyncio.timeout(1):
                    await asyncio.gather(*made)
            except CAUGHT as error:
                said.append(type(error).__name__)
        case "shield":
            try:
                await asyncio.wait_for(asyncio.shield(asyncio.gather(*made)), 1)
            except CAUGHT as error:
                said.append(type(error).__name__)


# --- making them up ----------------------------------------------------------------------------------

values = st.integers(0, 9)
few = st.sampled_from([0, 0, 0, 1, 1, 2])
names = st.sampled_from(["x", "y"])
either = st.booleans()

calls = st.builds(Call, values, few, st.integers(1, 3), st.booleans())
children = st.builds(Child, values, st.sampled_from([0, 0, 0, 1]))
timers = st.builds(Timer, st.integers(-1, 3))
waits = st.builds(Wait, names, st.sampled_from(["raises", "default", "default", "default", "none"]))
single = st.one_of(calls, calls, children, timers, waits)


def compounds(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, max_size=3).map(tuple)
    return st.builds(All, several) | st.builds(First, several)


tasks = st.recursive(single, compounds, max_leaves=5)
plain_steps = st.one_of(
    tasks,
    tasks,
    tasks,
    st.builds(Race, single, st.booleans()),
    st.builds(Tell, st.sampled_from(["status", "send", "start", "leave", "timer"])),
    st.builds(Again, st.integers(0, 5)),
    st.builds(Leave, names, st.booleans()),
    st.builds(Poll, st.integers(0, 3)),
)


def bodies(steps: st.SearchStrategy[Any], size: int) -> st.SearchStrategy[Any]:
    return st.lists(steps, min_size=size // 3, max_size=size).map(tuple)


def blocks(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(Try, bodies(inner, 3), bodies(inner, 2))


def blocks_and_branches(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    branches = st.lists(bodies(inner, 3), min_size=1, max_size=3).map(tuple)
    hows = st.sampled_from(["gather", "group", "wait", "gathers", "as_completed", "timeout", "shield"])
    return blocks(inner) | st.builds(Branches, branches, hows)


pools = st.builds(Pool, st.lists(tasks, min_size=1, max_size=6).map(tuple))
ordered_steps = st.recursive(plain_steps, blocks, max_leaves=6)  # without sets, which each form orders in its own way
steps = st.recursive(plain_steps | pools, blocks, max_leaves=6)
async_steps = st.recursive(plain_steps | pools, blocks_and_branches, max_leaves=8)


def programs(
    steps: st.SearchStrategy[Any], *, reads_time: Any = False, save: Any = either
) -> st.SearchStrategy[Program]:
    clock = st.just(False) if reads_time is False else st.booleans()
    return st.builds(Program, st.lists(bodies(steps, 7), min_size=1, max_size=3).map(tuple), clock, save)
