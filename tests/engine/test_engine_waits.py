"""Which wait an event goes to: one that the code looks at, never one that it has turned away from."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from engine_hub import Hub, Status, play

from durable_ext.history import EventRaised

SECOND = timedelta(seconds=1)


def beat(context: Any) -> Any:
    """One round of a heartbeat: wait for an event, for ten seconds; then do something that takes five."""
    wait, timer = context.wait_for_external_event("n"), context.create_timer(10 * SECOND)
    if (yield context.task_any([wait, timer])) is wait:
        timer.cancel()
        return wait.get_result()
    yield context.call_activity("slow")
    return None


SLOW: dict[str, Any] = {"activities": {"slow": lambda value: value}, "durations": {"slow": 5}}


# Rounds begin at 0, 15, 30: at 5 the code waits for the event, at 12 it is busy.
@pytest.mark.parametrize("at", [5, 12, 20, 27])
@pytest.mark.parametrize("cold", [False, True])
def test_a_heartbeat_reads_its_event_whenever_it_comes(form: Any, at: int, cold: bool) -> None:
    def orchestrator(context: Any) -> Any:
        for _ in range(4):
            found = yield from beat(context)
            if found is not None:
                return found

    assert play(form(orchestrator), events=[(at, "n", "read")], cold=cold, **SLOW).output == "read"


@pytest.mark.parametrize("at", [5, 12, 20, 27])
@pytest.mark.parametrize("cold", [False, True])
def test_a_heartbeat_of_generations_reads_its_event_whenever_it_comes(form: Any, at: int, cold: bool) -> None:
    def orchestrator(context: Any) -> Any:
        found = yield from beat(context)
        if found is None:
            context.continue_as_new(None)
        return found

    instance = play(form(orchestrator), events=[(at, "n", "read")], cold=cold, **SLOW)
    assert instance.output == "read"


@pytest.mark.parametrize("save", [True, False])
def test_an_event_that_nobody_looked_for_counts_as_unread(form: Any, save: bool) -> None:
    """It was recorded, as there was an open wait, but that wait has lost its race."""

    def orchestrator(context: Any) -> Any:
        found = yield from beat(context)
        if found is None:
            context.continue_as_new(None, save_events=save)
        return found

    instance = play(form(orchestrator), events=[(12, "n", "first"), (27, "n", "second"), (33, "n", "third")], **SLOW)
    assert instance.output == ("first" if save else "third")


def test_several_events_that_came_while_nobody_looked_are_read_in_order(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        read = []
        while len(read) < 3:
            found = yield from beat(context)
            if found is not None:
                read.append(found)
        return read

    assert play(form(orchestrator), events=[(12, "n", 1), (13, "n", 2), (14, "n", 3)], **SLOW).output == [1, 2, 3]


def test_of_two_names_in_a_race_the_loser_keeps_no_event(form: Any) -> None:
    """Both events are at hand; the second is read by the next generation."""

    def orchestrator(context: Any) -> Any:
        read = context.get_input() or []
        if not read:
            yield context.create_timer(10 * SECOND)
        waits = {name: context.wait_for_external_event(name) for name in "ab"}
        winner = yield context.task_any(list(waits.values()))
        read = [*read, winner.get_result()]
        if len(read) == 2:
            return read
        context.continue_as_new(read)

    assert sorted(play(form(orchestrator), events=[(1, "a", 1), (2, "b", 2)]).output) == [1, 2]


def test_of_two_names_fed_while_nobody_looked_the_loser_keeps_no_event(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        read = context.get_input() or []
        waits = {name: context.wait_for_external_event(name) for name in "ab"}
        if not read:
            yield context.create_timer(10 * SECOND)  # both events are recorded meanwhile, as both are waited for
        winner = yield context.task_any(list(waits.values()))
        read = [*read, winner.get_result()]
        if len(read) == 2:
            return read
        context.continue_as_new(read)

    instance = play(form(orchestrator), events=[(1, "b", 2), (2, "a", 1)])
    assert instance.output == [1, 2]
    assert [event.input for event in instance.generations[0] if isinstance(event, EventRaised)] == ["2", "1"]


@pytest.mark.parametrize("how", ["is_completed", "state", "result", "again"])
def test_a_wait_that_is_polled_takes_the_event_when_it_is_read(how: str) -> None:
    def orchestrator(context: Any) -> Any:
        wait = context.wait_for_external_event("n")
        polls = 0
        while True:
            polls += 1
            match how:
                case "is_completed":
                    found = wait.is_completed
                case "state":
                    found = wait.state.name == "SUCCEEDED"
                case "result":
                    found = wait.result is not None
                case "again":
                    found = (yield context.task_any([wait, context.create_timer(timedelta(0))])) is wait
            if found:
                return [polls, wait.get_result()]
            yield context.create_timer(10 * SECOND)

    assert play(orchestrator, events=[(15, "n", "read")]).output == [3, "read"]


@pytest.mark.parametrize("how", ["is_completed", "done", "state", "exception"])
def test_a_future_that_is_polled_takes_the_event_when_it_is_read(how: str) -> None:
    async def orchestrator(context: Any) -> Any:
        wait = context.wait_for_external_event("n")
        for polls in range(5):
            match how:
                case "is_completed":
                    found = wait.is_completed
                case "done":
                    found = wait.done()
                case "state":
                    found = wait.state.name == "SUCCEEDED"
                case "exception":
                    try:
                        found = wait.exception() is None
                    except asyncio.InvalidStateError:
                        found = False
            if found:
                return [polls, wait.result()]
            await asyncio.sleep(10)

    assert play(orchestrator, events=[(15, "n", "read")]).output == [2, "read"]


def test_a_wait_left_behind_can_be_turned_to_again(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        wait = context.wait_for_external_event("n")
        yield context.task_any([wait, context.create_timer(SECOND)])
        yield context.create_timer(10 * SECOND)
        return (yield wait)

    assert play(form(orchestrator), events=[(5, "n", "read")]).output == "read"


def test_a_wait_that_code_waits_for_stays_looked_at_when_a_race_leaves_it(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        wait = context.wait_for_external_event("n")
        context.task_any([wait, context.create_timer(SECOND)])
        return (yield wait)

    assert play(form(orchestrator), events=[(5, "n", "read")]).output == "read"


@pytest.mark.parametrize("cold", [False, True])
def test_an_event_that_came_in_time_is_read_though_its_wait_was_looked_at_late(form: Any, cold: bool) -> None:
    def orchestrator(context: Any) -> Any:
        wait = context.wait_for_external_event("n", timeout=10)
        late = context.wait_for_external_event("late", timeout=10, default="none")
        yield context.create_timer(60 * SECOND)
        return [(yield wait), (yield late)]

    instance = play(form(orchestrator), events=[(5, "n", "in time"), (15, "late", "no")], cold=cold)
    assert instance.output == ["in time", "none"]


def test_an_event_that_came_in_time_for_a_wait_left_behind_goes_to_the_next_one(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        behind = context.wait_for_external_event("n", timeout=10, default="none")
        yield context.create_timer(60 * SECOND)
        return [(yield context.wait_for_external_event("n")), (yield behind)]

    assert play(form(orchestrator), events=[(5, "n", "in time")]).output == ["in time", "none"]


def test_an_event_that_two_waits_could_have_had_leaves_room_for_the_next(form: Any) -> None:
    """The wait whose time is over takes the older event, so that the open one has use for another."""

    def orchestrator(context: Any) -> Any:
        behind = context.wait_for_external_event("n", timeout=10)
        yield context.create_timer(20 * SECOND)
        other = context.wait_for_external_event("n")
        yield context.create_timer(20 * SECOND)
        return [(yield behind), (yield other)]

    assert play(form(orchestrator), events=[(5, "n", 1), (25, "n", 2)]).output == [1, 2]


def test_a_wait_whose_time_is_over_takes_no_event_that_came_later(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        behind = context.wait_for_external_event("n", timeout=10, default="none")
        yield context.create_timer(20 * SECOND)
        first = yield context.wait_for_external_event("n")
        last = context.wait_for_external_event("n")
        yield context.create_timer(20 * SECOND)
        return [first, (yield behind), (yield last)]

    assert play(form(orchestrator), events=[(5, "n", 1), (25, "n", 2)]).output == [1, "none", 2]


# --- asyncio -----------------------------------------------------------------------------------------


def test_a_wait_given_up_by_asyncio_takes_no_event() -> None:
    async def orchestrator(context: Any) -> Any:
        try:
            await asyncio.wait_for(context.wait_for_external_event("n", timeout=60), 5)
        except TimeoutError:
            return await context.wait_for_external_event("n")

    instance = play(orchestrator, events=[(10, "n", "read")])
    assert instance.output == "read"
    assert instance.turns[1].cancelled == [0]


def test_a_race_given_up_by_asyncio_looks_no_more() -> None:
    async def orchestrator(context: Any) -> Any:
        wait = context.wait_for_external_event("n")
        try:
            await asyncio.wait_for(context.task_any([wait, context.call_activity("never")]), 5)
        except TimeoutError:
            await asyncio.sleep(10)
            newer = context.wait_for_external_event("n")
            return [await newer, wait.done()]

    assert play(orchestrator, events=[(10, "n", "read")]).output == ["read", False]


def test_an_all_that_failed_looks_no_more(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        wait = context.wait_for_external_event("n")
        try:
            yield context.task_all([wait, context.call_activity("boom", 1)])
        except Exception:
            yield context.create_timer(10 * SECOND)
            newer = context.wait_for_external_event("n")
            return [(yield newer), wait.is_completed]

    assert play(form(orchestrator), events=[(5, "n", "read")]).output == ["read", False]


@pytest.mark.parametrize("combine", ["gather", "wait", "as_completed", "group", "shield"])
def test_every_way_of_asyncio_to_wait_looks(combine: str) -> None:
    async def orchestrator(context: Any) -> Any:
        wait = context.wait_for_external_event("n")
        match combine:
            case "gather":
                (found,) = await asyncio.gather(wait)
            case "wait":
                done, _ = await asyncio.wait({wait})
                (found,) = [each.result() for each in done]
            case "as_completed":
                (found,) = [await each for each in asyncio.as_completed([wait])]
            case "group":

                async def waits() -> Any:
                    return await wait

                async with asyncio.TaskGroup() as group:
                    task = group.create_task(waits())
                found = task.result()
            case "shield":
                found = await asyncio.shield(wait)
        return found

    instance = play(orchestrator, events=[(5, "n", "read")])
    assert instance.output == "read"
    instance = play(orchestrator, events=[(0, "n", "read")])
    assert instance.output == "read"


def test_a_wait_of_asyncio_that_timed_out_looks_no_more() -> None:
    async def orchestrator(context: Any) -> Any:
        left = context.wait_for_external_event("n")
        _, pending = await asyncio.wait({left}, timeout=5)
        assert pending == {left}
        await asyncio.sleep(10)
        newer = context.wait_for_external_event("n")
        return [await newer, left.done()]

    assert play(orchestrator, events=[(10, "n", "read")]).output == ["read", False]


# --- suspension --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cold", [False, True])
def test_while_suspended_only_what_is_waited_for_is_recorded(form: Any, cold: bool) -> None:
    def orchestrator(context: Any) -> Any:
        first = yield context.wait_for_external_event("n")
        return [first, (yield context.wait_for_external_event("n")), (yield context.wait_for_external_event("m"))]

    hub = Hub(cold=cold)
    instance = hub.start(form(orchestrator))
    hub.suspend(at=1)
    for at, name in enumerate(["n", "n", "m"], start=2):
        hub.raise_event(name, at, at=at)
    hub.run()
    assert instance.status is Status.Suspended
    assert [event.input for event in instance.recorded(EventRaised)] == ["2"]
    assert [event.input for event in instance.kept] == ["3", "4"]
    hub.resume(at=9)
    hub.run()
    assert instance.output == [2, 3, 4]


def test_what_was_held_when_the_code_ended_is_not_given_to_a_task_that_will_not_run() -> None:
    async def orchestrator(context: Any) -> Any:
        if context.get_input() is not None:
            return await context.wait_for_external_event("n")

        async def background() -> None:
            await context.wait_for_external_event("n")

        task = asyncio.create_task(background())
        await context.wait_for_external_event("go")
        context.continue_as_new([task.done()])

    hub = Hub()
    instance = hub.start(orchestrator)
    hub.suspend(at=1)
    hub.raise_event("go", at=2)
    hub.raise_event("n", "read", at=3)
    hub.resume(at=4)
    hub.run()
    assert instance.output == "read"


@pytest.mark.parametrize("save", [True, False])
def test_what_was_held_when_the_code_ended_counts_as_unread(form: Any, save: bool) -> None:
    def orchestrator(context: Any) -> Any:
        context.wait_for_external_event("n")
        read = [*(context.get_input() or []), (yield context.wait_for_external_event("n"))]
        if len(read) == 2:
            return read
        context.continue_as_new(read, save_events=save)

    hub = Hub()
    instance = hub.start(form(orchestrator))
    hub.suspend(at=1)
    for number in (1, 2, 3):
        hub.raise_event("n", number, at=2)
    hub.resume(at=3)
    hub.raise_event("n", 4, at=4)
    hub.run()
    assert instance.output == ([1, 2] if save else [1, 4])
