"""`python -m benchmarks --store sqlite --workload chain1000 --json`."""

from __future__ import annotations

import argparse
import asyncio
import sys

import msgspec

from benchmarks.bench import Result
from benchmarks.workloads import WORKLOADS
from durable_ext.host.run import SWITCH_INTERVAL


async def _measure(store: str, names: list[str], *, as_json: bool) -> None:
    for name in names:
        async for result in WORKLOADS[name](store):
            print(msgspec.json.encode(result).decode() if as_json else _line(result), flush=True)


def _line(result: Result) -> str:
    detail = " ".join(f"{key}={value}" for key, value in result.setting.items())
    return f"{result.workload:12} {result.metric:28} {result.value:12,.2f} {result.unit:16} {detail}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--store", choices=["sqlite", "memory"], default="sqlite")
    parser.add_argument("--workload", action="append", choices=list(WORKLOADS), help="all of them by default")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    chosen = parser.parse_args()
    sys.setswitchinterval(SWITCH_INTERVAL)
    asyncio.run(_measure(chosen.store, chosen.workload or list(WORKLOADS), as_json=chosen.json))


main()
