r"""GetStatus: ask how an instance is doing.

`Countdown` shows its progress as its custom status::

    curl -X POST http://localhost:7071/api/durabletask/orchestrators/Countdown/launch \
         -H "Content-Type: application/json" -d '{"start": 10, "seconds": 1}'
    curl http://localhost:7071/api/GetStatus/launch

`Countdown` is `async def`: inside an orchestrator `asyncio.sleep` is a durable timer, which survives restarts.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

import azure.functions as func

import durable_ext as df

bp = df.Blueprint()


@dataclass(frozen=True)
class Plan:
    start: int = 10
    seconds: float = 1.0


@bp.orchestration_trigger(context_name="context", orchestration="Countdown", input_type=Plan)
async def countdown(context: df.DurableOrchestrationContext) -> str:
    plan: Plan = context.get_input() or Plan()
    for left in range(plan.start, 0, -1):
        context.set_custom_status({"left": left})
        await asyncio.sleep(plan.seconds)
    context.set_custom_status({"left": 0})
    return "lift-off"


@bp.function_name("GetStatus")
@bp.route(route="GetStatus/{instanceId}", methods=["GET"])
@bp.durable_client_input(client_name="client")
async def get_status(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Name, id, times, input, output, runtime status and custom status of an instance."""
    status = await client.get_status(req.route_params["instanceId"])
    if not status:  # an unknown instance is no error: the status is falsy
        return func.HttpResponse("null", status_code=404, mimetype="application/json")
    return func.HttpResponse(json.dumps(status.to_json()), mimetype="application/json")
