"""What every workload needs: a task hub on a fresh store, and a form for results."""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.app import app
from durable_ext.functions.lowering import lower
from durable_ext.registry import Registry
from durable_ext.storage.opening import open_store
from durable_ext.taskhub import TaskHub


class Result(msgspec.Struct, kw_only=True):
    """One figure."""

    peer: str = "durable_ext"
    workload: str
    metric: str
    value: float
    unit: str
    n: int
    setting: dict[str, Any]


class Bench(msgspec.Struct):
    """A running task hub in this process, and what is written on its figures."""

    hub: TaskHub
    registry: Registry
    setting: dict[str, Any]

    def result(self, workload: str, metric: str, value: float, unit: str, n: int, **setting: Any) -> Result:
        """A figure measured on this hub."""
        return Result(
            workload=workload, metric=metric, value=round(value, 3), unit=unit, n=n, setting={**self.setting, **setting}
        )


@contextlib.asynccontextmanager
async def running(store: str, *, warm_instances: int = 1_000) -> AsyncIterator[Bench]:
    """A hub on a new, empty store: "sqlite" (a file, power-loss durable) or "memory" (dictionaries)."""
    with tempfile.TemporaryDirectory(prefix="durable-bench-") as folder:
        url = f"sqlite:///{Path(folder) / 'bench.db'}" if store == "sqlite" else "memory://"
        registry = lower(app).registry
        setting = {
            "store": store,
            "synchronous": "full" if store == "sqlite" else "none",
            "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        }
        async with TaskHub(open_store(url), registry, warm_instances=warm_instances) as hub:
            yield Bench(hub, registry, setting)


def check(found: object, expected: object) -> None:
    """A wrong result makes the figure worthless."""
    if found != expected:
        raise SystemExit(f"wrong output: {found!r} instead of {expected!r}")


def percentile(samples: Sequence[float], percent: int) -> float:
    """The value that `percent` of the samples do not exceed."""
    return statistics.quantiles(samples, n=100, method="inclusive")[percent - 1]
