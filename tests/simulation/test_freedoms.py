"""The runtime has to reckon with every freedom of a store: one that does not is found by some seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import msgspec
import pytest
from sim_compare import check, hostile_setting

from durable_ext.engine.feeding import Feeder
from durable_ext.errors import VersionConflictError
from durable_ext.runtime import backoff, decide
from durable_ext.runtime.calls import Calls
from durable_ext.runtime.errands import Errands
from durable_ext.runtime.message_filter import _MessageFilter
from durable_ext.runtime.state import Arrival
from durable_ext.runtime.turns import Turns
from durable_ext.runtime.worker import Worker
from durable_ext.storage.contract import Commit, Delivery

SEEDS = 300

Patch: TypeAlias = Callable[[pytest.MonkeyPatch], None]


def forget_what_is_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(decide, "_each_once", lambda memory, arrivals: arrivals)


def take_a_conflict_for_success(patch: pytest.MonkeyPatch) -> None:
    commit = Turns._commit

    async def careless(self: Turns, given: Commit) -> Any:
        try:
            return await commit(self, given)
        except VersionConflictError:
            return given.version

    patch.setattr(Turns, "_commit", careless)


def give_up_after_a_conflict(patch: pytest.MonkeyPatch) -> None:
    lost = Worker._lost_to_another
    patch.setattr(Worker, "_lost_to_another", lambda self, instance, arrivals: lost(self, instance, ()))


def keep_claims_of_a_commit_without_an_answer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Errands, "give_work_back", lambda self, items, pause=0.0: None)


def call_the_store_once(patch: pytest.MonkeyPatch) -> None:
    async def once(what: str, call: Callable[[], Any], clock: Any) -> None:
        await call()

    patch.setattr(backoff, "serve_forever", _serve_forever(backoff.retry_forever))
    patch.setattr(backoff, "retry_forever", once)


def _serve_forever(retry: Callable[..., Any]) -> Callable[..., Any]:
    async def serve(what: str, call: Callable[[], Any], clock: Any) -> None:
        while True:
            await retry(what, call, clock)

    return serve


def drop_what_comes_before_the_start(patch: pytest.MonkeyPatch) -> None:
    def drop(self: _MessageFilter, arrival: Arrival) -> None:
        self._drop(arrival.event, "it has not begun")

    patch.setattr(_MessageFilter, "_before_the_start", drop)


def take_every_outcome(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Feeder, "is_open", lambda self, task_id, outcome: True)


def receive_only_for_this_share(patch: pytest.MonkeyPatch) -> None:
    deliver = Worker._deliver

    def picky(self: Worker, arrival: Arrival) -> None:
        if not isinstance(arrival, Delivery) or self._store.is_local(arrival.instance_id):
            deliver(self, arrival)

    patch.setattr(Worker, "_deliver", picky)


def answer_without_saying_which_asking(patch: pytest.MonkeyPatch) -> None:
    completed = Calls.completed
    patch.setattr(
        Calls, "completed", lambda self, item, result: msgspec.structs.replace(completed(self, item, result), asked=0)
    )


def believe_that_nothing_was_read(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Turns, "_leave_unread", lambda self, instance, snapshot: None)


FREEDOMS: Sequence[tuple[str, Patch]] = (
    ("what is kept may be delivered again", forget_what_is_kept),
    ("a commit may lose its version check", take_a_conflict_for_success),
    ("what was in a commit that lost is still to be done", give_up_after_a_conflict),
    ("a commit may have claimed work although its answer never came", keep_claims_of_a_commit_without_an_answer),
    ("any call may fail", call_the_store_once),
    ("a start may be stored later than its instance", drop_what_comes_before_the_start),
    ("a work item may be handed out again", take_every_outcome),
    ("a message may come to any worker", receive_only_for_this_share),
    ("a rewind asks for a call again", answer_without_saying_which_asking),
    ("a snapshot may come although nothing is news", believe_that_nothing_was_read),
)


@pytest.mark.parametrize(("freedom", "ignore"), FREEDOMS, ids=[each[0] for each in FREEDOMS])
def test_a_runtime_that_ignores_this_freedom_is_found(freedom: str, ignore: Patch) -> None:
    for seed in range(SEEDS):
        with pytest.MonkeyPatch.context() as patch:
            ignore(patch)
            try:
                check(seed)
                continue
            except AssertionError:
                pass
        check(seed)  # it was not the seed
        return
    pytest.fail(f"{SEEDS} seeds came out as they should on a runtime that does not know: {freedom}")


def test_a_runtime_may_do_without_hearing_that_it_lost_instances() -> None:
    # `lost` and `is_local` save work; the version check is what counts.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Worker, "_lost_some", lambda self: None)
        for seed in range(40):
            setting = hostile_setting(seed)
            check(seed, odds=replace(setting.odds, hand_over=0.3))
