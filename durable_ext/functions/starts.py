"""Starts by output: what a function puts out, started at most once even if its queue message comes again.

What is put out has the shape of the orchestration client output binding of Durable Functions: one object with
`FunctionName`, `Input` and `InstanceId`, a list of them, or JSON text of either, with member names in any case.
All of it is read before anything is started.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import azure.functions as func
import msgspec

from durable_ext.client.status import DurableOrchestrationStatus
from durable_ext.errors import InstanceAlreadyExistsError
from durable_ext.functions.client import DurableOrchestrationClient, SyncDurableOrchestrationClient
from durable_ext.functions.resolving import resolve

_MEMBERS = {"functionname": "FunctionName", "input": "Input", "instanceid": "InstanceId"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """One instance to start. Without an id it gets a new one."""

    name: str
    input: Any = None
    instance_id: str | None = None


# --- reading -----------------------------------------------------------------------------------------


def read_starts(value: Any, place: str) -> list[StartRequest]:
    """Read what was put out; None is nothing. Raises ValueError naming the member that is wrong.

    `place` says for the message where the value comes from. All of it is read before anything is started, so a bad
    entry starts none.
    """
    if value is None:
        return []
    if isinstance(value, str | bytes | bytearray):
        value = _decode(value, place)
    if not isinstance(value, list | tuple):
        return [_read_one(value, place)]
    return [_read_one(each, f"{place}, entry {position}") for position, each in enumerate(value)]


def _read_one(value: Any, place: str) -> StartRequest:
    if isinstance(value, str | bytes | bytearray):
        value = _decode(value, place)
    members: dict[str, Any] = {}
    for key, member in _members_of(value, place).items():
        known = _MEMBERS.get(key.casefold()) if isinstance(key, str) else None
        if known is None:
            raise ValueError(f"{place}: unknown member {key!r}; the members are FunctionName, Input and InstanceId")
        if known in members:
            raise ValueError(f"{place}: member {known} is there twice, the second time as {key!r}; keep one")
        members[known] = member
    if "FunctionName" not in members:
        raise ValueError(f"{place}: member FunctionName is missing; it names the orchestrator to start")
    try:
        name = resolve(members["FunctionName"], "orchestrator").name
    except ValueError as error:
        raise ValueError(f"{place}: member FunctionName is not the name of an orchestrator: {error}") from None
    instance_id = members.get("InstanceId")
    if instance_id is not None and not isinstance(instance_id, str):
        raise ValueError(
            f"{place}: member InstanceId must be a string or null, not {instance_id!r} of type "
            f"{type(instance_id).__name__}"
        )
    return StartRequest(name=name, input=members.get("Input"), instance_id=instance_id or None)


def _members_of(value: Any, place: str) -> Mapping[Any, Any]:
    if isinstance(value, Mapping):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # Not asdict(): a typed input must reach the codec as it is.
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value)
    if hasattr(value, "__dict__") and not callable(value):
        members: Mapping[str, Any] = vars(value)
        return members
    raise ValueError(
        f"{place}: expected an object with FunctionName, Input and InstanceId, a list of such objects, or JSON text "
        f"of either; got {value!r} of type {type(value).__name__}"
    )


def _decode(text: str | bytes | bytearray, place: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        shown = repr(text if len(text) <= 80 else text[:80])
        raise ValueError(f"{place}: {shown} is not JSON ({error})") from None


# --- starting ----------------------------------------------------------------------------------------


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
