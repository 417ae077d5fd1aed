r"""Monitor: look at something again and again, until it is as wanted or time is up.

`WaitForFile` looks every few seconds whether a file is there::

    curl -X POST http://localhost:7071/api/durabletask/orchestrators/WaitForFile \
         -H "Content-Type: application/json" -d '{"path": "/tmp/report.pdf", "every_seconds": 5, "for_seconds": 3600}'

Between two looks nothing runs: the instance waits for a durable timer. The clock would tell another time in a replay,
so the end is reckoned with `context.current_utc_datetime`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import durable_ext as df

bp = df.Blueprint()


@dataclass(frozen=True)
class Watch:
    path: str
    every_seconds: float = 5.0
    for_seconds: float = 3600.0


@bp.activity_trigger(input_name="path", activity="FileSize")
def file_size(path: str) -> int | None:
    file = Path(path)
    return file.stat().st_size if file.is_file() else None


@bp.orchestration_trigger(context_name="context", orchestration="WaitForFile", input_type=Watch)
async def wait_for_file(context: df.DurableOrchestrationContext) -> dict[str, Any]:
    watch: Watch = context.get_input()
    expires = context.current_utc_datetime + timedelta(seconds=watch.for_seconds)
    looks = 0
    while True:
        size: int | None = await context.call_activity(file_size, watch.path)
        looks += 1
        if size is not None:
            return {"found": True, "size": size, "looks": looks}
        if context.current_utc_datetime >= expires:
            return {"found": False, "looks": looks}
        context.set_custom_status(f"looked {looks} times")
        await asyncio.sleep(watch.every_seconds)
