r"""Human interaction: ask somebody, wait for the answer, and do without it in the end.

::

    curl -X POST http://localhost:7071/api/durabletask/orchestrators/ApprovalWorkflow/vacation \
         -H "Content-Type: application/json" -d '{"what": "two weeks in May", "answer_within_seconds": 86400}'
    curl -X POST http://localhost:7071/api/durabletask/instances/vacation/raiseEvent/Approval \
         -H "Content-Type: application/json" -d true

Written with `yield` and `task_any`, as users of Durable Functions know it: a race between the event and a timer,
and the loser is cancelled. The same in one line is
`context.wait_for_external_event("Approval", timeout=..., default=None)`.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import durable_ext as df

bp = df.Blueprint()


@dataclass(frozen=True)
class Request:
    what: str
    answer_within_seconds: float = 86400.0


@bp.activity_trigger(input_name="what", activity="RequestApproval")
def request_approval(what: str) -> str:
    return f"asked: may we have {what}?"  # here would be the mail to the manager


@bp.activity_trigger(input_name="what", activity="Escalate")
def escalate(what: str) -> str:
    return f"no answer about {what}: asked the manager's manager"


@bp.orchestration_trigger(context_name="context", orchestration="ApprovalWorkflow", input_type=Request)
def approval_workflow(context: df.DurableOrchestrationContext) -> Generator[Any, Any, str]:
    request: Request = context.get_input()
    context.set_custom_status((yield context.call_activity(request_approval, request.what)))

    answer = context.wait_for_external_event("Approval", bool)
    deadline = context.create_timer(timedelta(seconds=request.answer_within_seconds))
    winner = yield context.task_any([answer, deadline])
    if winner is deadline:
        escalated: str = yield context.call_activity(escalate, request.what)
        return escalated
    deadline.cancel()
    return "approved" if answer.result is True else "rejected"
