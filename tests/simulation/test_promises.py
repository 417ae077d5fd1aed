"""Every sentence of the contract matters: a store that breaks one is found by some seed."""

from __future__ import annotations

import pytest
from broken import NOT_NEEDED, PROMISES, Promise

SEEDS = 600


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.says)
def test_a_store_that_breaks_this_promise_is_found(promise: Promise) -> None:
    for seed in range(SEEDS):
        try:
            promise.check(seed)
        except AssertionError:
            promise.check(seed, keep=True)  # it was not the seed
            return
    pytest.fail(f"{SEEDS} seeds came out as they should on {promise.broken.__name__}")


@pytest.mark.parametrize("promise", NOT_NEEDED, ids=lambda promise: promise.says)
def test_the_runtime_does_without_this_promise(promise: Promise) -> None:
    for seed in range(40):
        promise.check(seed)
