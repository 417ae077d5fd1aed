r"""Function chaining, with retries and compensation.

`ProcessOrder` reserves, charges and ships, each step with what the one before returned. If a later step fails for
good, `except` undoes the earlier one, as in any Python program::

    curl "http://localhost:7071/api/durabletask/orchestrators/ProcessOrder?timeout=10&pollingInterval=1" \
         -H "Content-Type: application/json" -d '{"item": "book", "amount": 12, "limit": 100}'

With an amount above the limit the charge fails, and the output says that the reservation was released.

Written as `async def`: nothing in a chain needs more than `await`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import durable_ext as df

bp = df.Blueprint()


@dataclass(frozen=True)
class Order:
    item: str
    amount: float
    limit: float = 100.0
    retry_after_seconds: float = 1.0


@bp.activity_trigger(input_name="item", activity="ReserveStock")
async def reserve_stock(item: str) -> str:
    return f"reservation of {item}"


@bp.activity_trigger(input_name="reservation", activity="ReleaseStock")
async def release_stock(reservation: str) -> str:
    return f"{reservation} released"


@bp.activity_trigger(input_name="order", activity="ChargeCard")
async def charge_card(order: Order) -> str:
    if order.amount > order.limit:
        raise PermissionError(f"{order.amount:g} is more than the card's limit of {order.limit:g}")
    return f"payment of {order.amount:g}"


@bp.activity_trigger(input_name="reservation_and_payment", activity="Ship")
async def ship(reservation_and_payment: tuple[str, str]) -> str:
    reservation, payment = reservation_and_payment
    return f"shipped: {reservation}, {payment}"


@bp.orchestration_trigger(context_name="context", orchestration="ProcessOrder", input_type=Order)
async def process_order(context: df.DurableOrchestrationContext) -> dict[str, Any]:
    order: Order = context.get_input()
    policy = df.RetryPolicy(first_retry_interval=timedelta(seconds=order.retry_after_seconds), max_number_of_attempts=3)
    reservation: str = await context.call_activity(reserve_stock, order.item, retry_policy=policy)
    try:
        payment: str = await context.call_activity(charge_card, order, retry_policy=policy)
        shipment: str = await context.call_activity(ship, (reservation, payment), retry_policy=policy)
    except df.ActivityFailedError as error:
        released: str = await context.call_activity(release_stock, reservation)
        return {"done": False, "because": error.message, "attempts": error.attempt, "undone": released}
    return {"done": True, "shipment": shipment}
