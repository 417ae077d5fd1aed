"""Hello sequence: three activities one after the other, started over HTTP.

Written as a generator, the style of Durable Functions for Python since its first release::

    curl -X POST http://localhost:7071/api/orchestrators/E1_HelloSequence

answers 202 with the URLs of the new instance. GET its `statusQueryGetUri` until that no longer answers 202; `output`
is then `["Hello Tokyo!", "Hello Seattle!", "Hello London!"]`.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import azure.functions as func

import durable_ext as df

bp = df.Blueprint()


@bp.orchestration_trigger(context_name="context", orchestration="E1_HelloSequence")
def hello_sequence(context: df.DurableOrchestrationContext) -> Generator[Any, Any, list[str]]:
    # Every `yield` is a checkpoint: after a restart, greetings that were said are remembered, not said again.
    outputs = []
    outputs.append((yield context.call_activity("E1_SayHello", "Tokyo")))
    outputs.append((yield context.call_activity("E1_SayHello", "Seattle")))
    outputs.append((yield context.call_activity("E1_SayHello", "London")))
    return outputs


@bp.activity_trigger(input_name="name", activity="E1_SayHello")
def say_hello(name: str) -> str:
    # I/O, clocks and chance belong into activities: their results are recorded.
    return f"Hello {name}!"


@bp.function_name("HttpStart")
@bp.route(route="orchestrators/{functionName}", methods=["POST"])
@bp.durable_client_input(client_name="client")
async def http_start(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Start any orchestrator of the app by name, with the request's JSON body as its input."""
    try:
        value = req.get_json() if req.get_body() else None
        instance_id = await client.start_new(req.route_params["functionName"], client_input=value)
    except df.FunctionNotFoundError as error:
        return func.HttpResponse(str(error), status_code=404)
    except ValueError as error:
        return func.HttpResponse(f"the body is not JSON: {error}", status_code=400)
    return client.create_check_status_response(req, instance_id)
