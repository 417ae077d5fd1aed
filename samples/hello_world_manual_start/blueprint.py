"""HelloWorldManualStart: start an orchestration by hand, in two ways.

Through the orchestrationClient *output binding*: the function needs no client, it puts out an object (or a list)
with `FunctionName`, `Input` and `InstanceId`, and whatever it put out is started once it has returned::

    curl -X POST http://localhost:7071/api/HelloWorldManualStart -d Ada

With an injected *client*, which knows the new instance's URLs, and here takes the instance id from the caller::

    curl -X POST http://localhost:7071/api/HelloWorldManualStart/client/my-id -d Ada

`HelloWorld` itself is a plain function: an orchestrator that waits for nothing needs neither `yield` nor `async`.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

import azure.functions as func

import durable_ext as df

bp = df.Blueprint()


@bp.orchestration_trigger(context_name="context", orchestration="HelloWorld")
def hello_world(context: df.DurableOrchestrationContext) -> str:
    return f"Hello {context.get_input() or 'world'}!"


@bp.function_name("HelloWorldManualStart")
@bp.route(route="HelloWorldManualStart", methods=["POST"])
@bp.orchestration_client_output(arg_name="starter")
def manual_start(req: func.HttpRequest, starter: func.Out[list[dict[str, Any]]]) -> func.HttpResponse:
    """Start `HelloWorld` through the output binding, under an id made here."""
    instance_id = uuid.uuid4().hex
    starter.set([{"FunctionName": "HelloWorld", "Input": req.get_body().decode(), "InstanceId": instance_id}])
    return func.HttpResponse(json.dumps({"id": instance_id}), status_code=202, mimetype="application/json")


@bp.function_name("HelloWorldManualStartWithClient")
@bp.route(route="HelloWorldManualStart/client/{instanceId?}", methods=["POST"])
@bp.durable_client_input(client_name="starter")
async def manual_start_with_client(req: func.HttpRequest, starter: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Start `HelloWorld` with a client; without an id in the URL a random one is made."""
    try:
        instance_id = await starter.start_new(
            "HelloWorld", instance_id=req.route_params.get("instanceId"), client_input=req.get_body().decode()
        )
    except df.InvalidInstanceIdError as error:
        return func.HttpResponse(str(error), status_code=400)
    return starter.create_check_status_response(req, instance_id)
