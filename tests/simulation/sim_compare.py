"""Whether a hostile run came out as the calm one did, and how to run it again if not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from random import Random
from typing import Any

from hostile import Odds
from jumping import HangError
from sim_programs import TAILS, Program, make_program
from sim_world import Outcome, Result, Setting, simulate

from durable_ext.storage.contract import StoreTraits

MOST = Odds(
    crash=0.03,
    error=0.1,
    lost_batch=0.1,
    pause=0.4,
    split=0.7,
    again=0.4,
    kept_again=0.4,
    astray=0.5,
    hand_over=0.3,
    conflict=0.1,
    work_again=0.4,
    outcome_again=0.5,
    debt=0.6,
    late_row=0.5,
    late_start=0.7,
    unwanted=0.5,
    blind=0.5,
    chatty=0.5,
    fresh=0.7,
    eager=0.5,
)
"""The likeliest that anything is."""

MOVES_NOTHING = ("error", "pause", "split", "again", "conflict", "debt", "late_row", "chatty", "unwanted", "work_again")
"""The freedoms that leave the messages of an instance in their order, as long as one worker has them all."""


def hostile_setting(seed: int) -> Setting:
    """Two workers, and some of the freedoms, each more or less."""
    random = Random(f"setting {seed}")
    odds = {each.name: getattr(MOST, each.name) * random.choice((0, 0, 0.2, 1)) for each in fields(Odds)}
    return _with_quirks(Setting(odds=Odds(**odds), workers=2, crashes=random.choice((0, 1, 3)), restarts=2), random)


def orderly_setting(seed: int) -> Setting:
    """One worker, and the freedoms that leave messages in their order."""
    random = Random(f"setting {seed}")
    odds = {each: getattr(MOST, each) * random.choice((0, 0.2, 1)) for each in MOVES_NOTHING}
    return _with_quirks(Setting(odds=Odds(**odds)), random)


def _with_quirks(setting: Setting, random: Random) -> Setting:
    return replace(
        setting,
        restarts=random.choice((0, 0, setting.restarts)),
        pauses=random.choice((0, 0, 2)),
        warm_instances=random.choice((0, 1, 100)),
        activities=random.choice((1, 2, 10)),
        traits=StoreTraits(turn_size=random.choice((None, None, 1, 2)), gather=random.choice((0.0, 0.0, 0.1))),
    )


def check(seed: int, *, orderly: bool = False, tails: Sequence[str] = TAILS, **changes: Any) -> None:
    """Raise AssertionError unless the hostile run of a seed comes out as its calm run. `changes` are to the setting."""
    program = make_program(seed, orderly=orderly, tails=tails)
    setting = replace((orderly_setting if orderly else hostile_setting)(seed), **changes)
    calm = simulate(program, Setting(), seed)
    try:
        hostile = simulate(program, setting, seed)
    except HangError as error:
        raise AssertionError(f"{_again(seed, orderly)}: it hangs: {error}") from error
    problems = [*hostile.faults, *events_read_twice(hostile), *_differences(program, calm, hostile, orderly=orderly)]
    if problems:
        raise AssertionError("\n  ".join([_again(seed, orderly), *problems[:10]]))


def _again(seed: int, orderly: bool) -> str:
    return f"seed {seed}; again: python tests/simulation/again.py {seed}{' --orderly' if orderly else ''}"


def _differences(program: Program, calm: Outcome, hostile: Outcome, *, orderly: bool) -> list[str]:
    differences = []
    named = ({id_: each for id_, each in run.results.items() if ":" not in id_} for run in (calm, hostile))
    expected_results, found_results = named
    for instance_id in sorted({*expected_results, *found_results}):
        expected, found = expected_results.get(instance_id), found_results.get(instance_id)
        if expected is None or found is None:
            differences.append(f"{instance_id}: {found} instead of {expected}")
            continue
        differences += _unread(program, instance_id, expected, found)
        expected, found = (_comparable(each, orderly=orderly) for each in (expected, found))
        differences += [
            f"{instance_id}: {each.name} is {getattr(found, each.name)} instead of {getattr(expected, each.name)}"
            for each in fields(Result)
            if getattr(found, each.name) != getattr(expected, each.name)
        ]
    # The ids of unnamed children hold the number of the call, and with retries side by side that is a matter of time.
    children = [
        sorted(str(_comparable(each, orderly=orderly)) for id_, each in run.results.items() if ":" in id_)
        for run in (calm, hostile)
    ]
    if children[0] != children[1]:
        differences.append(f"children: {children[1]} instead of {children[0]}")
    return differences


def _unread(program: Program, instance_id: str, expected: Result, found: Result) -> list[str]:
    """Whether other events were read than should have been, where all are."""
    events = [
        [each for each in _events(result.output) if (instance_id, each[0]) in program.all_read]
        for result in (expected, found)
    ]
    if sorted(events[0]) != sorted(events[1]):
        return [f"{instance_id}: read {sorted(events[1])} instead of {sorted(events[0])}"]
    return []


def _comparable(result: Result, *, orderly: bool) -> Result:
    """What of a result does not depend on the order in which messages came."""
    output = result.output if orderly else _without_order(result.output)
    outcomes = result.outcomes
    if result.was_rewound:
        # How many of several failures were recorded before the first of them ended the instance is a matter of time.
        outcomes = tuple(each for each in outcomes if each[0].endswith("Completed"))
    return replace(result, output=output, outcomes=outcomes)


def _without_order(said: Any) -> Any:
    if isinstance(said, dict):
        # Which of the events of one name this wait had depends on their order; that all were different does not.
        payloads = said["payloads"]
        return {"event": said["event"], "different payloads": len(set(map(str, payloads)))}
    return [_without_order(each) for each in said] if isinstance(said, list) else said


def events_read_twice(outcome: Outcome) -> list[str]:
    """Payloads that two waits of an instance got."""
    found = []
    for instance_id, result in outcome.results.items():
        counts = Counter(_events(result.output))
        found += [f"{instance_id}: {event} was read {count} times" for event, count in counts.items() if count > 1]
    return found


def _events(said: Any) -> list[tuple[str, str]]:
    """The names and payloads of the events that were read."""
    if isinstance(said, dict):
        return [(said["event"], str(each)) for each in said["payloads"]]
    return [event for each in said for event in _events(each)] if isinstance(said, list) else []
