"""RaiseEvent: send an event to an instance that waits for it, or will.

::

    curl -X POST http://localhost:7071/api/durabletask/orchestrators/WaitForMyEvent/listener
    curl -X POST http://localhost:7071/api/RaiseEvent/listener

An event that comes before its wait is kept until the wait comes. `WaitForMyEvent` says what it expects the event to
carry: an event with anything else raises `CodecError` at the `await`.
"""

from __future__ import annotations

from typing import Any

import azure.functions as func

import durable_ext as df

bp = df.Blueprint()


@bp.orchestration_trigger(context_name="context", orchestration="WaitForMyEvent")
async def wait_for_my_event(context: df.DurableOrchestrationContext) -> dict[str, Any]:
    numbers: tuple[int, ...] = await context.wait_for_external_event("MyEvent", tuple[int, ...])
    return {"received": numbers, "sum": sum(numbers)}


@bp.function_name("RaiseEvent")
@bp.route(route="RaiseEvent/{instanceId}", methods=["POST"])
@bp.durable_client_input(client_name="client")
async def raise_event(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Send `MyEvent` with a list of numbers."""
    event_data = [1, 2, 3]
    try:
        await client.raise_event(req.route_params["instanceId"], "MyEvent", event_data)
    except df.InstanceNotFoundError as error:
        return func.HttpResponse(str(error), status_code=404)
    except df.InstanceStateError as error:  # it has ended
        return func.HttpResponse(str(error), status_code=410)
    return func.HttpResponse(status_code=202)
