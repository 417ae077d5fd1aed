"""Starting what a function put out, at most once per entry even if its queue message comes again."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import azure.functions as func

from durable_ext.client.status import DurableOrchestrationStatus
from durable_ext.errors import InstanceAlreadyExistsError
from durable_ext.functions.client import DurableOrchestrationClient, SyncDurableOrchestrationClient
from durable_ext.functions.starts import StartRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStart:
    """A start with what is needed to recognise that an earlier delivery of the same message has done it.

    `own_id`: nobody else uses the id, so an instance that has it is ours. `since`: the message exists since then; set
    only if this may be a second delivery.
    """

    request: StartRequest
    own_id: bool = False
    since: datetime | None = None

    def is_done(self, status: DurableOrchestrationStatus) -> bool:
        """Whether this instance is what an earlier delivery started."""
        if not status:
            return False
        return self.own_id or (
            self.since is not None and status.created_time is not None and status.created_time >= self.since
        )


def plan(
    requests: Iterable[StartRequest], message: func.QueueMessage | None, function_name: str, binding_name: str
) -> Iterator[PlannedStart]:
    """Give starts without an id one that every delivery of the same queue message would give them."""
    for position, request in enumerate(requests):
        if message is None or not message.id:
            yield PlannedStart(request=request)
            continue
        since = _present_since(message)
        if request.instance_id is not None:
            yield PlannedStart(request=request, since=since)
            continue
        entry = f"{message.id}/{function_name.casefold()}/{binding_name}/{position}"
        instance_id = uuid.uuid5(uuid.NAMESPACE_OID, entry).hex
        yield PlannedStart(request=dataclasses.replace(request, instance_id=instance_id), own_id=True, since=since)


async def start_all(client: DurableOrchestrationClient, starts: Iterable[PlannedStart]) -> None:
    """Start them in order. The first that fails ends it; a redelivery goes on from there."""
    for start in starts:
        request = start.request
        asked = request.instance_id if start.since is not None else None
        if asked and start.is_done(await client.get_status(asked)):
            continue
        try:
            await client.start_new(request.name, request.instance_id, request.input)
        except InstanceAlreadyExistsError:
            if not start.own_id:
                raise


def start_all_sync(client: SyncDurableOrchestrationClient, starts: Iterable[PlannedStart]) -> None:
    """`start_all` for functions that are not coroutines."""
    for start in starts:
        request = start.request
        asked = request.instance_id if start.since is not None else None
        if asked and start.is_done(client.get_status(asked)):
            continue
        try:
            client.start_new(request.name, request.instance_id, request.input)
        except InstanceAlreadyExistsError:
            if not start.own_id:
                raise


def _present_since(message: func.QueueMessage) -> datetime | None:
    # The plain class that users construct in tests has no delivery count; then this may be any delivery.
    if (getattr(message, "dequeue_count", None) or 2) < 2:
        return None
    inserted: datetime | None = getattr(message, "insertion_time", None)
    if inserted is None:
        return datetime.max.replace(tzinfo=UTC)
    return inserted if inserted.tzinfo else inserted.replace(tzinfo=UTC)
