"""Run seeds of the simulation: `python tests/simulation/again.py 17`, `... 0:10000`, `... --orderly 5:80`."""

from __future__ import annotations

import argparse
import sys
import time

from sim_compare import check


def main() -> int:
    """Run the seeds; print those that do not come out as they should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", help="one, or first:last")
    parser.add_argument("--orderly", action="store_true", help="with the freedoms that leave messages in their order")
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.partition(":")
    began, failed = time.monotonic(), 0
    for seed in range(int(first), int(last or int(first) + 1)):
        try:
            check(seed, orderly=arguments.orderly)
        except AssertionError as problem:
            failed += 1
            print(problem, flush=True)  # noqa: T201 - what it is for
    print(f"{failed} failed, {time.monotonic() - began:.0f} s")  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
