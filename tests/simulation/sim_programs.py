"""Random programs for the simulation: orchestrators, and what clients do to them meanwhile.

A program comes out the same whatever the order in which messages arrive, but for the order of events of one name.
To that end timeouts are either so long that nothing reaches them, or run out for certain; steps that fail stand in a
`Try`; and how an activity turns out follows from its input and from the history its instance has.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any, TypeAlias

from durable_ext.errors import TaskFailedError
from durable_ext.retry import RetryPolicy

Run: TypeAlias = Generator[Any, Any, None]
CAUGHT = (TaskFailedError, TimeoutError)
NEVER = timedelta(days=30)
SOON = timedelta(seconds=2)
RETRY = RetryPolicy(first_retry_interval=timedelta(seconds=1), max_number_of_attempts=3)
SINK = "sink"
LATE = "late"
"""What a stuck activity returns in the end."""


@dataclass(frozen=True)
class Call:
    """An activity. `mode` says how it turns out, see `sim_world.Activities`."""

    key: str
    mode: str = "fine"
    times: int = 0
    retries: bool = False
    timeout: timedelta | None = None

    def task(self, context: Any) -> Any:
        return context.call_activity(
            "act",
            [context.instance_id, self.key, self.mode, self.times],
            retry_policy=RETRY if self.retries else None,
            timeout=self.timeout,
        )


@dataclass(frozen=True)
class Child:
    """A sub-orchestration."""

    body: Body
    instance_id: str | None = None

    def task(self, context: Any) -> Any:
        return context.call_sub_orchestrator(self.body.flavour, [self.body.number, 0, []], self.instance_id)


@dataclass(frozen=True)
class Timer:
    """A durable timer."""

    seconds: float

    def task(self, context: Any) -> Any:
        return context.create_timer(timedelta(seconds=self.seconds))


@dataclass(frozen=True)
class One:
    """Wait for one task."""

    what: Call | Child | Timer

    def run(self, context: Any, said: list[Any]) -> Run:
        result = yield self.what.task(context)
        if result == LATE:
            raise TimeoutError  # where everything else stands still, the call may end before its timeout
        said.append(result)


@dataclass(frozen=True)
class All:
    """Wait for several."""

    what: tuple[Call | Child | Timer, ...]

    def run(self, context: Any, said: list[Any]) -> Run:
        said.append((yield context.task_all([each.task(context) for each in self.what])))


@dataclass(frozen=True)
class Race:
    """The first of two, of which one never comes; its timer is cancelled, or its call left."""

    winner: Call | Timer

    def run(self, context: Any, said: list[Any]) -> Run:
        winner, loser = self.winner.task(context), context.create_timer(NEVER)
        first = yield context.task_any([loser, winner])
        loser.cancel()
        said.append("won" if first is winner else "lost")


@dataclass(frozen=True)
class Wait:
    """Wait for events of a name, one after the other or all at once."""

    name: str
    count: int
    at_once: bool = False
    timeout: timedelta | None = None

    def run(self, context: Any, said: list[Any]) -> Run:
        if self.at_once:
            waits = [context.wait_for_external_event(self.name, timeout=self.timeout) for _ in range(self.count)]
            # The newest wait is served first: who gets which depends on whether they had come before.
            payloads = sorted((yield context.task_all(waits)), key=str)
        else:
            payloads = []
            for _ in range(self.count):
                payloads.append((yield context.wait_for_external_event(self.name, timeout=self.timeout)))
        # What several instances tell the sink comes in any order.
        said.append({"event": self.name, "payloads": payloads if self.name != "told" else sorted(payloads)})


@dataclass(frozen=True)
class Missed:
    """Wait for an event that is never sent."""

    def run(self, context: Any, said: list[Any]) -> Run:
        said.append((yield context.wait_for_external_event("never", timeout=SOON, default="missed")))


@dataclass(frozen=True)
class NothingMore:
    """Wait whether an event of this name comes once too often."""

    name: str

    def run(self, context: Any, said: list[Any]) -> Run:
        said.append(
            (yield context.wait_for_external_event(self.name, timeout=timedelta(seconds=30), default="no more"))
        )


@dataclass(frozen=True)
class Tell:
    """Something without an outcome: an event to the sink, a custom status, an orchestration."""

    what: str
    value: Any
    body: Body | None = None

    def run(self, context: Any, said: list[Any]) -> Run:
        match self.what:
            case "event":
                context.send_event(SINK, "told", self.value)
            case "status":
                context.set_custom_status(self.value)
            case "start":
                assert self.body is not None
                context.start_orchestration(self.body.flavour, [self.body.number, 0, []], self.value)
        yield from ()


@dataclass(frozen=True)
class Try:
    """Steps of which one fails, and what follows from it."""

    body: tuple[Step, ...]
    handler: tuple[Step, ...]

    def run(self, context: Any, said: list[Any]) -> Run:
        try:
            for each in self.body:
                yield from each.run(context, said)
        except CAUGHT as error:
            said.append("timeout" if isinstance(error, TimeoutError) else type(error).__name__)
            for each in self.handler:
                yield from each.run(context, said)


Step: TypeAlias = One | All | Race | Wait | Missed | NothingMore | Tell | Try


@dataclass(frozen=True)
class Body:
    """What an orchestrator does, generation by generation."""

    number: int
    flavour: str
    generations: tuple[tuple[Step, ...], ...]

    def run(self, context: Any) -> Generator[Any, Any, list[Any]]:
        _, generation, said = context.get_input()
        for each in self.generations[generation]:
            yield from each.run(context, said)
        if generation + 1 < len(self.generations):
            context.continue_as_new([self.number, generation + 1, said])
        return said  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Do:
    """Something that a client does, `at` seconds after the start and once `after` is the instance's status.

    "replace" starts `body` with the id of the instance, whatever runs, and sends it the events of `payload`.
    """

    what: str
    instance_id: str
    at: float = 0.0
    after: str | None = None
    name: str = ""
    payload: Any = None
    body: Body | None = None


@dataclass
class Program:
    """Orchestrations to start, at what time, and what clients do to them."""

    seed: int
    bodies: list[Body] = field(default_factory=list)
    starts: list[tuple[float, str, Body]] = field(default_factory=list)
    deeds: list[Do] = field(default_factory=list)
    all_read: set[tuple[str, str]] = field(default_factory=set)
    """The instances, and the names of which they read every event: which ones does not depend on the order."""

    def orchestrators(self) -> dict[str, Callable[[Any], Any]]:
        """By name: one for each flavour."""

        def generator(context: Any) -> Any:
            return (yield from self.bodies[context.get_input()[0]].run(context))

        async def coroutine(context: Any) -> Any:
            return await _awaiting(self.bodies[context.get_input()[0]].run(context))

        return {"generator": generator, "coroutine": coroutine}


async def _awaiting(steps: Generator[Any, Any, Any]) -> Any:
    """Run what yields tasks as something that awaits them."""
    try:
        task = next(steps)
        while True:
            try:
                result = await task
            except CAUGHT as error:
                task = steps.throw(error)
            else:
                task = steps.send(result)
    except StopIteration as end:
        return end.value


# --- making them up ----------------------------------------------------------------------------------


TAILS = ("return", "return", "return", "fail", "terminate", "rewind", "rewind a child")


def make_program(seed: int, *, orderly: bool = False, tails: Sequence[str] = TAILS) -> Program:
    """The program of this seed. `orderly`: messages will be delivered in order. `tails`: how its instances may end."""
    return _Author(seed, orderly, tails).write()


class _Author:
    def __init__(self, seed: int, orderly: bool, tails: Sequence[str]) -> None:
        self.random, self.orderly, self.tails = Random(f"program {seed}"), orderly, tails
        self.program = Program(seed)
        self.told = 0
        self.keys = iter(range(10**6))
        self.payloads = iter(range(10**6))

    def write(self) -> Program:
        random, program = self.random, self.program
        for number in range(random.choice((1, 1, 2))):
            self.instance(f"i{number}")
        if random.random() < 0.15:
            self.replaced("replaced")
        if self.told:
            sink = self.body([(Wait("told", self.told, random.random() < 0.5), NothingMore("told"))])
            program.starts.insert(0, (0.0, SINK, sink))
        return program

    def instance(self, instance_id: str) -> None:
        random, program = self.random, self.program
        awaited = {name: random.choice((0, 0, 1, 2, 4)) for name in ("x", "y")}
        generations = [self.steps(random.randint(1, 4)) for _ in range(random.choice((1, 1, 1, 2, 3)))]
        tail, deeds = self.tail(instance_id)
        generations[-1] += tail
        is_rewound = any(each.what == "rewind" for each in deeds)
        for name, count in awaited.items():
            if is_rewound and self.orderly and random.random() < 0.7:
                # They are there before the failure, and are kept through it.
                generations[-1].insert(len(generations[-1]) - len(tail), One(Timer(2)))
                generations[-1] += [Wait(name, count)] if count else []
            else:
                self.spread(generations, name, count, before=len(tail))
        begin = random.choice((0.0, 0.0, 2.0))
        program.starts.append((begin, instance_id, self.body(generations)))
        for name, count in awaited.items():
            extra = random.choice((0, 0, 1, 3)) if count else 0
            if not extra:
                program.all_read.add((instance_id, name))
            for number in range(count + extra):
                # Those nobody reads come last, so that which are read does not depend on the order.
                # Before a rewind the instance is over for a while, and takes no events.
                latest = 0.5 if is_rewound and self.orderly else 8.0
                at = begin + (random.uniform(0, latest) if number < count else latest + 1)
                program.deeds.append(Do("raise", instance_id, at, None, name, f"{name}{next(self.payloads)}"))
        program.deeds += deeds
        if random.random() < 0.25:
            program.deeds.append(Do("suspend and resume", instance_id, begin + random.uniform(0, 6)))

    def replaced(self, instance_id: str) -> None:
        """An instance that gives way to another, which must see nothing of what the first one had."""
        random, deeds = self.random, self.program.deeds
        first = [Wait("z", random.randint(0, 1)), Tell("status", "replace me"), One(Timer(1)), Wait("never", 1)]
        self.program.starts.append((0.0, instance_id, self.body([first])))
        for _ in range(random.randint(1, 4)):
            deeds.append(Do("raise", instance_id, random.uniform(0, 2), None, "z", f"z{next(self.payloads)}"))
        count = random.randint(1, 2)
        second = self.body([[One(self.single()), Wait("z", count)]])
        payloads = [f"z{next(self.payloads)}" for _ in range(count)]
        deeds.append(Do("replace", instance_id, random.uniform(2.1, 4), "replace me", "z", payloads, second))
        self.program.all_read.add((instance_id, "z"))

    def spread(self, generations: list[list[Step]], name: str, count: int, before: int) -> None:
        """Put so many waits for a name somewhere, `before` so many steps at the end of the last generation."""
        while count:
            some = self.random.randint(1, count)
            count -= some
            steps = self.random.choice(generations)
            timeout = self.random.choice((None, None, NEVER))
            wait = Wait(name, some, self.random.random() < 0.3, timeout)
            most = len(steps) - (before if steps is generations[-1] else 0)
            steps.insert(self.random.randint(0, max(most, 0)), wait)

    def tail(self, instance_id: str) -> tuple[list[Step], list[Do]]:
        """How it ends, and what has to be done about it."""
        until_told: list[Step] = [Tell("status", "ready"), Wait("never", 1)]
        match self.random.choice(self.tails):
            case "fail":
                return [One(self.call("fails"))], []
            case "terminate":
                if self.random.random() < 0.5:
                    child = Child(self.body([[Wait("never", 1)]]))
                    until_told = [Tell("status", "ready"), One(child)]
                return until_told, [Do("terminate", instance_id, after="ready")]
            case "rewind":
                calls = tuple(
                    self.call(self.random.choice(("broken", "slowly broken", "fine", "slow"))) for _ in range(2)
                )
                return [All((*calls, self.call(self.random.choice(("broken", "slowly broken")))))], [
                    Do("rewind", instance_id, after="Failed")
                ]
            case "rewind a child":
                child = Child(self.body([[*self.steps(1), One(self.call("broken"))]]))
                return [One(child)], [Do("rewind", instance_id, after="Failed")]
        return [], []

    def body(self, generations: Any) -> Body:
        number = len(self.program.bodies)
        flavour = self.random.choice(("generator", "coroutine"))
        body = Body(number, flavour, tuple(tuple(each) for each in generations))
        self.program.bodies.append(body)
        return body

    def steps(self, count: int, depth: int = 0) -> list[Step]:
        return [self.step(depth) for _ in range(count)]

    def step(self, depth: int) -> Step:
        random = self.random
        match random.choice(("one", "one", "all", "all", "race", "missed", "tell", "tell", "try", "child")):
            case "one":
                return One(self.single())
            case "all":
                return All(tuple(self.single() for _ in range(random.choice((0, 2, 3, 6)))))
            case "race":
                return Race(random.choice((self.call("fine"), Timer(1))))
            case "missed":
                return Missed()
            case "tell":
                return self.tell(depth)
            case "try":
                failing: Call | Child = random.choice(
                    (self.call("fails"), self.call("fails", retries=True), self.stuck())
                )
                if depth < 2 and random.random() < 0.3:
                    failing = Child(self.body([[*self.steps(1, 2), One(self.call("fails"))]]))
                before = [One(self.single())] if random.random() < 0.5 else []
                return Try((*before, One(failing), One(self.single())), tuple(self.steps(1, 3)))
        if depth >= 2:
            return One(self.single())
        named = f"named{next(self.keys)}" if random.random() < 0.3 else None
        return One(Child(self.body([self.steps(random.randint(1, 2), depth + 1)]), named))

    def tell(self, depth: int) -> Step:
        what = self.random.choice(("event", "event", "status", "start"))
        if what == "start" and depth < 2:
            return Tell("start", f"started{next(self.keys)}", self.body([self.steps(1, 2)]))
        if what == "status":
            return Tell("status", f"status{next(self.keys)}")
        self.told += 1
        return Tell("event", next(self.payloads))

    def single(self) -> Call | Timer:
        if self.random.random() < 0.2:
            return Timer(self.random.choice((0, 0.5, 2)))
        return self.call(self.random.choice(("fine", "fine", "fine", "slow", "flaky")))

    def call(self, mode: str, *, retries: bool = False) -> Call:
        times = self.random.randint(1, 2)
        timeout = self.random.choice((None, None, NEVER))
        return Call(f"key{next(self.keys)}", mode, times, retries or mode == "flaky", timeout)

    def stuck(self) -> Call:
        return Call(f"key{next(self.keys)}", "stuck", timeout=SOON)


def all_steps(steps: tuple[Step, ...]) -> Iterator[Step]:
    """These and those inside them."""
    for each in steps:
        yield each
        if isinstance(each, Try):
            yield from all_steps(each.body + each.handler)
