"""Runs scenarios under every fault there is a moment for, each life in a process forked for it.

A server of lines of JSON, because only a process without threads can be forked safely, and forking is what makes
thousands of deaths affordable.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fault_killers  # noqa: F401 - adds its scenarios
from fault_life import BROKE, live
from fault_scenarios import SCENARIOS
from faulty_store import Moment

import durable_ext.storage.sqlite.store  # noqa: F401 - imported here, it need not be in every life
from durable_ext.runtime.quarantine import MOST_ALONE
from durable_ext.storage.sqlite.schema import connect, ensure_schema

PARALLEL = 3
MOST_CALLS = 300
MOST_LIVES = 60

Step = tuple[Moment | None, str]
"""Where a life is struck, and by what."""


class ScenarioBrokenError(Exception):
    """A scenario does not reach its end even if nothing goes wrong."""

    def __init__(self, failures: list[dict[str, Any]]) -> None:
        self.failures = failures


class Case:
    """A folder with a hub, and the lives it goes through, until one of them reaches the end."""

    def __init__(self, name: str, root: Path, label: str, lives: Iterator[Step]) -> None:
        self.name, self.label, self._lives = name, label, lives
        self.folder = Path(tempfile.mkdtemp(dir=root))
        shutil.copy(root / "empty.db", self.folder / "hub.db")
        self.lived: list[str] = []

    def next_life(self) -> int:
        moment, kind = next(self._lives)
        self.lived.append(f"{kind} {moment}" if moment else "to the end")
        child = os.fork()
        if child == 0:
            live(self.folder, self.name, moment, kind)
        return child

    def outcome(self) -> dict[str, Any] | None:
        path = self.folder / "outcome.json"
        return json.loads(path.read_text()) if path.exists() else None

    def logs(self) -> str:
        found = sorted(self.folder.glob("*.log"), key=lambda path: path.stat().st_mtime)
        return "\n".join(f"--- {path.name}\n{path.read_text()[-6000:]}" for path in found)


def run(cases: Iterator[Case], judge: Callable[[Case, int], bool]) -> tuple[int, list[dict[str, Any]]]:
    """Run all cases, a few at a time. Returns how many there were, and what `judge` found wrong."""
    living: dict[int, Case] = {}
    failures: list[dict[str, Any]] = []
    count, is_more = 0, True
    while is_more or living:
        while is_more and len(living) < PARALLEL:
            case = next(cases, None)
            if case is None:
                is_more = False
                break
            count += 1
            living[case.next_life()] = case
        if not living:
            break
        child, status = os.wait()
        case, code = living.pop(child), os.waitstatus_to_exitcode(status)
        if code not in (0, BROKE) and len(case.lived) < MOST_LIVES:
            living[case.next_life()] = case
            continue
        if not judge(case, code):
            failures.append({"lives": case.lived, "code": code, "outcome": case.outcome(), "logs": case.logs()})
        shutil.rmtree(case.folder, ignore_errors=True)
    return count, failures


def then_to_the_end(*steps: Step) -> Iterator[Step]:
    yield from steps
    while True:
        yield None, "nothing"


class Series:
    """The cases of one method and one side of it: number 1, 2, 3 ..., until a life ends without being struck."""

    def __init__(self, make: Callable[[Moment], Case], method: str, when: str) -> None:
        self._make, self._method, self._when = make, method, when
        self._number, self.is_over = 0, False

    def next(self) -> Case:
        self._number += 1
        return self._make(Moment(self._method, self._number, self._when))


def undisturbed(name: str, root: Path) -> dict[str, Any]:
    """What the others are compared with."""
    found: list[dict[str, Any]] = []

    def judge(case: Case, code: int) -> bool:
        found.append(case.outcome() or {})
        return code == 0

    _, failures = run(iter([Case(name, root, "undisturbed", then_to_the_end())]), judge)
    if failures:
        raise ScenarioBrokenError(failures)
    return found[0]


def every_moment(name: str, kind: str, root: Path, methods: list[str], sides: list[str]) -> dict[str, Any]:
    """One case for each call of these methods, on these sides of it."""
    baseline = undisturbed(name, root)
    outcomes: list[dict[str, Any]] = []
    series = {
        (method, when): Series(
            lambda moment: Case(name, root, f"{moment.method} {moment.when}", then_to_the_end((moment, kind))),
            method,
            when,
        )
        for method in methods
        if method in baseline["calls"]
        for when in sides
    }

    def cases() -> Iterator[Case]:
        for each in series.values():
            for _ in range(MOST_CALLS):
                if each.is_over:
                    break
                yield each.next()

    def judge(case: Case, code: int) -> bool:
        outcome = case.outcome()
        if outcome is not None and len(case.lived) == 1 and not outcome["struck"]:
            method, when = case.label.split()
            series[method, when].is_over = True
        if outcome is not None:
            outcomes.append(_essence(name, outcome))
        if kind in ("die", "fail"):
            return code == 0 and outcome is not None and _essence(name, outcome) == _essence(name, baseline)
        return code == 0 and outcome is not None

    count, failures = run(cases(), judge)
    return {"baseline": baseline, "cases": count, "failures": failures, "outcomes": outcomes}


def storms(name: str, root: Path, seeds: list[int], methods: list[str]) -> dict[str, Any]:
    """A process that dies again and again, at moments drawn by lot."""
    baseline = undisturbed(name, root)

    def lives(seed: int) -> Iterator[Step]:
        lot = random.Random(f"{name} {seed}")
        # One death less than what convicts a call that runs alone: to the outside, this process looks like a killer's.
        for _ in range(lot.randint(2, MOST_ALONE)):
            yield Moment(lot.choice(methods), lot.randint(1, 4), lot.choice(["before", "after"])), "die"
        yield from then_to_the_end()

    def judge(case: Case, code: int) -> bool:
        outcome = case.outcome()
        return code == 0 and outcome is not None and _essence(name, outcome) == _essence(name, baseline)

    count, failures = run((Case(name, root, f"seed {seed}", lives(seed)) for seed in seeds), judge)
    return {"baseline": baseline, "cases": count, "failures": failures}


def until_it_ends(name: str, root: Path, kills: int = 0) -> dict[str, Any]:
    """A scenario whose own functions kill the process, until all is done.

    The first `kills` lives are ended from outside within some milliseconds of their start.
    """
    soon = [(Moment("host", 1, "after"), "die soon")] * kills
    case = Case(name, root, "kills", then_to_the_end(*soon))
    found: list[dict[str, Any]] = []
    deaths: list[str] = []

    def judge(case: Case, code: int) -> bool:
        found.append(case.outcome() or {})
        log = case.folder / "deaths.log"
        deaths.extend(log.read_text().splitlines() if log.exists() else [])
        return code == 0

    _, failures = run(iter([case]), judge)
    return {"outcome": found[0], "lives": len(case.lived), "deaths": deaths, "failures": failures}


def _essence(name: str, outcome: dict[str, Any]) -> dict[str, Any]:
    """What must be the same whatever happens."""
    left_out = {"outcomes", "events"} if SCENARIOS[name].is_racy else set()
    instances = {
        instance_id: {key: value for key, value in account.items() if key not in left_out}
        for instance_id, account in outcome["instances"].items()
    }
    return {"instances": instances, "letters": outcome["letters"]}


TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    "every_moment": every_moment,
    "storms": storms,
    "until_it_ends": until_it_ends,
}


def create_hub(path: str) -> None:
    """An empty hub to copy: its schema need not be written in every first life."""
    connection = connect(path, synchronous="normal")
    ensure_schema(connection, path)
    connection.close()


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryDirectory(prefix="durable-faults-") as root:
            create_hub(str(Path(root) / "empty.db"))
            try:
                answer = TASKS[request.pop("task")](root=Path(root), **request)
            except ScenarioBrokenError as broken:
                answer = {"failures": broken.failures}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
