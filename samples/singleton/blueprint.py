"""Singleton: at most one instance of a job at a time.

The instance id is the lock. Starting is atomic: of any number of requests at the same moment one is answered 202
and the others 409, so there is no need to look at the status first::

    curl -i -X POST http://localhost:7071/api/backups/database -d '{"seconds": 30}'
    curl -i -X POST http://localhost:7071/api/backups/database -d '{"seconds": 30}'

Once the backup has ended, a new one may start under the same id.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import azure.functions as func
import msgspec

import durable_ext as df

bp = df.Blueprint()


@dataclass(frozen=True)
class BackupPlan:
    seconds: float = 30.0


@bp.orchestration_trigger(context_name="context", orchestration="Backup", input_type=BackupPlan)
async def backup(context: df.DurableOrchestrationContext) -> str:
    plan: BackupPlan = context.get_input()
    await asyncio.sleep(plan.seconds)
    return f"{context.instance_id} is backed up"


@bp.function_name("StartBackup")
@bp.route(route="backups/{name}", methods=["POST"])
@bp.durable_client_input(client_name="client")
async def start_backup(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Start the backup of `name` unless it runs."""
    try:
        plan = msgspec.json.decode(req.get_body() or b"{}", type=BackupPlan)
        instance_id = await client.start_new("Backup", f"backup-{req.route_params['name']}", plan)
    except df.InstanceAlreadyExistsError as error:
        return func.HttpResponse(str(error), status_code=409)
    except ValueError as error:
        return func.HttpResponse(str(error), status_code=400)
    return client.create_check_status_response(req, instance_id)
