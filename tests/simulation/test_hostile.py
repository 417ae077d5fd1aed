"""Random programs come out on a store that takes every freedom of its contract as they do on a calm one.

`make simulate SEEDS=0:100000` runs more of them.
"""

from __future__ import annotations

import pytest
from sim_compare import check

CHUNK = 50


@pytest.mark.parametrize("first", range(0, 2000, CHUNK))
def test_programs_survive_two_workers_that_crash_on_a_hostile_store(first: int) -> None:
    for seed in range(first, first + CHUNK):
        check(seed)


@pytest.mark.parametrize("first", range(0, 300, CHUNK))
def test_one_worker_reads_events_in_the_order_in_which_they_were_sent(first: int) -> None:
    for seed in range(first, first + CHUNK):
        check(seed, orderly=True)
