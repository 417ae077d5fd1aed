"""TerminateInstance: stop an instance, and say why.

`Patience` waits for an event that nobody sends::

    curl -X POST http://localhost:7071/api/durabletask/orchestrators/Patience/saint
    curl -X POST http://localhost:7071/api/TerminateInstance/saint

Its status is then `Terminated`, and its output the reason. The HTTP function is a plain `def`, so its client's
methods are called without `await`.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import azure.functions as func

import durable_ext as df

bp = df.Blueprint()


@bp.orchestration_trigger(context_name="context", orchestration="Patience")
def patience(context: df.DurableOrchestrationContext) -> Generator[Any, Any, str]:
    yield context.wait_for_external_event("Godot")
    return "he came"


@bp.function_name("TerminateInstance")
@bp.route(route="TerminateInstance/{instanceId}", methods=["POST"])
@bp.durable_client_input(client_name="client")
def terminate_instance(req: func.HttpRequest, client: df.SyncDurableOrchestrationClient) -> func.HttpResponse:
    """Ask for the end; an instance that has ended already is left as it is."""
    reason = "It was time to be done."
    try:
        client.terminate(req.route_params["instanceId"], reason)
    except df.InstanceNotFoundError as error:
        return func.HttpResponse(str(error), status_code=404)
    return func.HttpResponse(status_code=202)
