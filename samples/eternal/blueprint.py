r"""Eternal orchestration: the same again and again, without a history that grows.

`PeriodicCleanup` cleans up, waits, and begins anew with `continue_as_new`: same instance, next input, empty history::

    curl -X POST http://localhost:7071/api/durabletask/orchestrators/PeriodicCleanup/cleanup \
         -H "Content-Type: application/json" -d '{"every_seconds": 3600}'

It ends when somebody sends it the event `Stop`, which no restart of the loop loses, or terminates it::

    curl -X POST http://localhost:7071/api/durabletask/instances/cleanup/raiseEvent/Stop \
         -H "Content-Type: application/json" -d true
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import durable_ext as df

bp = df.Blueprint()


@dataclass(frozen=True)
class Cleanup:
    every_seconds: float = 3600.0
    rounds: int = 0


@bp.activity_trigger(input_name="number", activity="CleanUp")
def clean_up(number: int) -> str:
    return f"cleaned up for the {number}. time"


@bp.orchestration_trigger(context_name="context", orchestration="PeriodicCleanup", input_type=Cleanup)
async def periodic_cleanup(context: df.DurableOrchestrationContext) -> str | None:
    cleanup: Cleanup = context.get_input() or Cleanup()
    rounds = cleanup.rounds + 1
    done: str = await context.call_activity(clean_up, rounds)
    context.set_custom_status(done)
    stop = await context.wait_for_external_event("Stop", timeout=cleanup.every_seconds, default=False)
    if stop:
        return done
    context.continue_as_new(replace(cleanup, rounds=rounds))
    return None  # takes effect now; what is returned is ignored
