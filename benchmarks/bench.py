"""What every workload needs: an engine on a fresh store, and a form for results."""

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
from durable_ext.client import OrchestrationClient
from durable_ext.codec import JsonCodec
from durable_ext.engine.turn import EngineOptions
from durable_ext.functions.lowering import lower
from durable_ext.registry import Registry
from durable_ext.runtime.worker import Worker
from durable_ext.settings import Settings
from durable_ext.storage.contract import Store
from durable_ext.storage.opening import open_store


class Result(msgspec.Struct, kw_only=True):
    """One figure."""

    peer: str = "durable_ext"
    workload: str
    metric: str
    value: float
    unit: str
    n: int
    setting: dict[str, Any]


class Engine(msgspec.Struct):
    """A running engine and the client that talks to it, in this process."""

    store: Store
    client: OrchestrationClient
    registry: Registry
    setting: dict[str, Any]

    def result(self, workload: str, metric: str, value: float, unit: str, n: int, **setting: Any) -> Result:
        """A figure measured on this engine."""
        return Result(
            workload=workload, metric=metric, value=round(value, 3), unit=unit, n=n, setting={**self.setting, **setting}
        )


@contextlib.asynccontextmanager
async def engine(store: str, *, warm_instances: int = 1_000) -> AsyncIterator[Engine]:
    """An engine on a new, empty store: "sqlite" (a file, power-loss durable) or "memory"."""
    with tempfile.TemporaryDirectory(prefix="durable-bench-") as folder:
        url = f"sqlite:///{Path(folder) / 'bench.db'}" if store == "sqlite" else "sqlite:///:memory:"
        opened = open_store(url)
        await opened.open()
        registry = lower(app).registry
        worker = Worker(opened, registry, Settings(), JsonCodec(), EngineOptions(), warm_instances=warm_instances)
        await worker.start()
        setting = {
            "store": store,
            "synchronous": "full" if store == "sqlite" else "none",
            "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        }
        try:
            client = OrchestrationClient(opened, codec=JsonCodec(), hub_name="Benchmarks")
            yield Engine(opened, client, registry, setting)
        finally:
            await worker.stop(5.0)
            await opened.close()


def check(found: object, expected: object) -> None:
    """A wrong result makes the figure worthless."""
    if found != expected:
        raise SystemExit(f"wrong output: {found!r} instead of {expected!r}")


def percentile(samples: Sequence[float], percent: int) -> float:
    """The value that `percent` of the samples do not exceed."""
    return statistics.quantiles(samples, n=100, method="inclusive")[percent - 1]
