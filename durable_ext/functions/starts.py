"""What a function puts out to start instances: objects with `FunctionName`, `Input` and `InstanceId`.

The shape is that of the orchestration client output binding of Durable Functions: one object, a list of them, or
JSON text of either, with member names in any case.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import azure.functions as func
import msgspec

from durable_ext.functions.resolving import resolve

_MEMBERS = {"functionname": "FunctionName", "input": "Input", "instanceid": "InstanceId"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """One instance to start. Without an id it gets a new one."""

    name: str
    input: Any = None
    instance_id: str | None = None


class StartsOut(func.Out[Any]):
    """The box a function puts its starts in. What was set last counts; nothing set starts nothing."""

    def __init__(self) -> None:
        self._value: Any = None

    def set(self, val: Any) -> None:
        """Replace what the box holds."""
        self._value = val

    def get(self) -> Any:
        """What the box holds, None at first."""
        return self._value


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
