"""Messages that cannot be read: what becomes of them, and of the instances they were for.

An instance that may have been waiting for such a message fails readably instead of waiting for ever. Whatever the
message was, a dead letter keeps what is there of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from durable_ext.engine.turn import Turn
from durable_ext.errors import DurableError
from durable_ext.history import GenericEvent, OrchestrationRuntimeStatus
from durable_ext.runtime.admission import Admission, Standing
from durable_ext.storage.contract import DeadLetter, Delivery


class UnreadableMessageError(DurableError):
    """A message to an instance is damaged, or was written by a release that knows more than this one."""

    def __init__(self, instance_id: str, reason: str) -> None:
        super().__init__(
            f"a message to instance '{instance_id}' cannot be read: {reason}. It is kept as a dead letter. If a newer "
            f"release wrote it, run that one and rewind the instance, or start it again."
        )
        self.instance_id, self.reason = instance_id, reason


@dataclass(frozen=True, slots=True)
class Damage:
    """What unreadable messages lead to. `error` is set if the instance cannot go on without them."""

    letters: list[DeadLetter]
    error: UnreadableMessageError | None
    lost_start: str | None
    """The execution that was to begin, if it was the start that cannot be read."""


def assess(standing: Standing, admission: Admission, news: Sequence[Delivery], now: datetime) -> Damage | None:
    """What the unreadable ones among the news do to the instance; None if there are none to deal with now.

    They are taken out of what was admitted.
    """
    damaged = [each for each in news if each.damage is not None and each not in admission.deferred]
    if not damaged:
        return None
    letters = [_letter(standing, each, now) for each in damaged]
    admitted = {id(event) for event in admission.events}
    unreadable = {id(each.event) for each in damaged}
    admission.events = [event for event in admission.events if id(event) not in unreadable]
    for each in damaged:
        lost_start = each.execution_id if _is_start(standing, admission, each) else None
        if lost_start is not None or id(each.event) in admitted:
            return Damage(letters, UnreadableMessageError(standing.instance_id, each.damage or ""), lost_start)
    return Damage(letters, None, None)


def _is_start(standing: Standing, admission: Admission, damaged: Delivery) -> bool:
    # Before the start nothing but the start is for a certain execution.
    return (
        standing.status is OrchestrationRuntimeStatus.Pending
        and standing.started is None
        and admission.begins is None
        and damaged.execution_id is not None
    )


def _letter(standing: Standing, damaged: Delivery, now: datetime) -> DeadLetter:
    event = damaged.event
    return DeadLetter(
        kind="message",
        instance_id=damaged.instance_id,
        name=standing.name,
        payload=event.data if isinstance(event, GenericEvent) else None,
        reason=f"cannot be read: {damaged.damage}",
        created_at=now,
    )


def fail_before_start(execution_id: str, error: UnreadableMessageError) -> Turn:
    """The turn that fails an instance that never began. There is no history, as there was no execution."""
    return Turn(
        execution_id=execution_id,
        events=(),
        runtime_status=OrchestrationRuntimeStatus.Failed,
        output=str(error),
        status_changed=True,
    )
