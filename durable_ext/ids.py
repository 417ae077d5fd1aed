"""The identity of instances and executions: what a user may choose, what we make up, what a replay must repeat."""

from __future__ import annotations

import re
import uuid
from datetime import datetime

from durable_ext.errors import InvalidInstanceIdError

MAX_INSTANCE_ID = 256
"""Characters in an instance id, at most."""

DATETIME_STRING_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"

_FORBIDDEN = re.compile(r"[/\\#?\x00-\x1f\x7f-\x9f\ud800-\udfff]")

# Both namespaces are part of the replay contract: another one gives other ids to running orchestrations.
_UUIDS = uuid.uuid5(uuid.NAMESPACE_OID, "9e952958-5e33-4daf-827f-2fa12937b875")
_EXECUTIONS = uuid.uuid5(uuid.NAMESPACE_OID, "durable_ext.execution")


def check_instance_id(instance_id: str) -> str:
    """Return the id if a user may choose it, else raise `InvalidInstanceIdError` naming the rule it breaks."""
    if not isinstance(instance_id, str):
        raise InvalidInstanceIdError(str(instance_id), f"it must be a string, not {type(instance_id).__name__}")
    if not instance_id:
        raise InvalidInstanceIdError(instance_id, "it must not be empty; pass None to have one generated")
    if not instance_id.strip():  # poison to .NET workers of the same hub
        raise InvalidInstanceIdError(instance_id, "it must not be blank; pass None to have one generated")
    if len(instance_id) > MAX_INSTANCE_ID:
        raise InvalidInstanceIdError(
            instance_id,
            f"Instance ID lengths must not exceed {MAX_INSTANCE_ID} characters, this one has {len(instance_id)}",
        )
    if instance_id[0] == "@":
        raise InvalidInstanceIdError(instance_id, "a leading '@' is reserved for entities")
    if found := _FORBIDDEN.search(instance_id):
        raise InvalidInstanceIdError(
            instance_id,
            f"it holds {found[0]!r} at position {found.start()}; "
            f"'/', '\\', '#', '?', control characters and lone surrogates cannot be stored",
        )
    return instance_id


def new_instance_id() -> str:
    """A random instance id: 32 hex digits."""
    return uuid.uuid4().hex


def new_execution_id() -> str:
    """A random execution id: 32 hex digits."""
    return uuid.uuid4().hex


def child_instance_id(parent_execution_id: str, task_id: int) -> str:
    """The instance id of a child that was not given one. Names the call, so a repeated send starts nothing new."""
    return f"{parent_execution_id}:{task_id}"


def child_execution_id(parent_execution_id: str, task_id: int) -> str:
    """The first execution id of the child that call `task_id` starts."""
    return uuid.uuid5(_EXECUTIONS, f"child {task_id} of {parent_execution_id}").hex


def next_execution_id(execution_id: str) -> str:
    """The execution id after a continue-as-new. The same turn computed twice names the same generation."""
    return uuid.uuid5(_EXECUTIONS, f"next of {execution_id}").hex


def deterministic_uuid(instance_id: str, now: datetime, n: int) -> str:
    """What the `n`-th id of an execution is, as `context.new_uuid` gives it; `now` is the orchestrator's time."""
    return str(uuid.uuid5(_UUIDS, f"{instance_id}_{now.strftime(DATETIME_STRING_FORMAT)}_{n}"))


def deterministic_guid(instance_id: str, now: datetime, n: int) -> uuid.UUID:
    """What the `n`-th id of an execution is, as `context.new_guid` gives it; `now` is the orchestrator's time."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"{instance_id}_{now}_{n}")
