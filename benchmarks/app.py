"""The functions the workloads run."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import durable_ext as df

app = df.DFApp()


@app.activity_trigger(input_name="number")
async def double(number: int) -> int:
    return 2 * number


@app.activity_trigger(input_name="number")
def double_sync(number: int) -> int:
    return 2 * number


@app.orchestration_trigger(context_name="context")
def chain(context: df.DurableOrchestrationContext) -> Generator[Any, Any, int]:
    activity, steps = context.get_input()
    total = 0
    for step in range(steps):
        total += yield context.call_activity(activity, step)
    return total


@app.orchestration_trigger(context_name="context")
async def chain_async(context: df.DurableOrchestrationContext) -> int:
    activity, steps = context.get_input()
    total = 0
    for step in range(steps):
        total += await context.call_activity(activity, step)
    return total


@app.orchestration_trigger(context_name="context")
def fan_out(context: df.DurableOrchestrationContext) -> Generator[Any, Any, int]:
    activity, width = context.get_input()
    results = yield context.task_all([context.call_activity(activity, each) for each in range(width)])
    return sum(results)


@app.orchestration_trigger(context_name="context")
def collect_events(context: df.DurableOrchestrationContext) -> Generator[Any, Any, int]:
    total = 0
    for _ in range(context.get_input()):
        total += yield context.wait_for_external_event("tick")
    return total


@app.orchestration_trigger(context_name="context")
def read_backlog(context: df.DurableOrchestrationContext) -> Generator[Any, Any, int | None]:
    left, total = context.get_input()
    if total == 0:
        yield context.wait_for_external_event("go")
    item = yield context.wait_for_external_event("item")
    doubled: int = yield context.call_activity("double", item)
    total += doubled
    if left == 1:
        return int(total)
    context.continue_as_new([left - 1, total])
    return None


@app.orchestration_trigger(context_name="context")
async def sleep(context: df.DurableOrchestrationContext) -> list[str]:
    due = context.current_utc_datetime.timestamp() + context.get_input()
    await asyncio.sleep(context.get_input())
    return [str(due), str(context.current_utc_datetime.timestamp())]
