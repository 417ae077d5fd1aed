"""Async HTTP API: long work behind a request that answers at once.

::

    curl -i -X POST http://localhost:7071/api/reports -d '{"pages": 3, "seconds": 2}'

answers 202 with a `Location` to poll, a `Retry-After`, and the instance's management URLs. A client that would rather
wait a little says for how many seconds::

    curl -i -X POST "http://localhost:7071/api/reports?wait=10" -d '{"pages": 3, "seconds": 0.1}'

and gets the report itself if it is ready by then, else the same 202.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import azure.functions as func
import msgspec

import durable_ext as df

bp = df.Blueprint()


@dataclass(frozen=True)
class ReportRequest:
    pages: int
    seconds: float = 1.0


@bp.activity_trigger(input_name="request", activity="RenderReport")
async def render_report(request: ReportRequest) -> dict[str, list[str]]:
    await asyncio.sleep(request.seconds)  # stands for the work
    return {"pages": [f"page {number}" for number in range(1, request.pages + 1)]}


@bp.orchestration_trigger(context_name="context", orchestration="Report", input_type=ReportRequest)
async def report(context: df.DurableOrchestrationContext) -> dict[str, list[str]]:
    rendered: dict[str, list[str]] = await context.call_activity(render_report, context.get_input())
    return rendered


@bp.function_name("StartReport")
@bp.route(route="reports", methods=["POST"])
@bp.durable_client_input(client_name="client")
async def start_report(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Start a report. What is wrong with the request is said now, not by a failed orchestration later."""
    try:
        request = msgspec.json.decode(req.get_body(), type=ReportRequest)
        wait = float(req.params.get("wait", 0))
    except ValueError as error:
        return func.HttpResponse(str(error), status_code=400)
    instance_id = await client.start_new("Report", client_input=request)
    if wait <= 0:
        return client.create_check_status_response(req, instance_id)
    milliseconds = int(wait * 1000)
    return await client.wait_for_completion_or_create_check_status_response(
        req, instance_id, milliseconds, min(1000, milliseconds)
    )
