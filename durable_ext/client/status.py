"""The status of an instance, in the shape users of Durable Functions know."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from durable_ext.history import OrchestrationRuntimeStatus
from durable_ext.storage.contract import InstanceRecord


def json_or_text(stored: str | None) -> Any:
    """The JSON value a store kept as text; text that is no JSON (reasons, failures) comes back as it is."""
    if stored is None:
        return None
    if not stored.strip():
        return ""
    try:
        return json.loads(stored)
    except ValueError:
        return stored


class DurableOrchestrationStatus:
    """The status of one instance. Falsy if there is no such instance.

    `input_`, `output` and `custom_status` are JSON values, already decoded. Whatever keys the constructor does not
    know become attributes; without an instance, `message` says so. Not JSON itself: use `to_json`.
    """

    def __init__(
        self,
        name: str | None = None,
        instanceId: str | None = None,  # noqa: N803 - the constructor's names are the wire's
        createdTime: str | datetime | None = None,  # noqa: N803
        lastUpdatedTime: str | datetime | None = None,  # noqa: N803
        input: Any = None,
        output: Any = None,
        runtimeStatus: str | OrchestrationRuntimeStatus | None = None,  # noqa: N803
        customStatus: Any = None,  # noqa: N803
        history: list[dict[str, Any]] | None = None,
        **extra: Any,
    ) -> None:
        # The management API calls it historyEvents, the Python client always called it history: both are the same.
        events = extra.pop("historyEvents", None)
        self.__dict__.update(extra)
        self._name, self._instance_id = name, instanceId
        self._created_time, self._last_updated_time = _time(createdTime), _time(lastUpdatedTime)
        self._input, self._output, self._custom_status = input, output, customStatus
        self._runtime_status = None if runtimeStatus is None else OrchestrationRuntimeStatus(runtimeStatus)
        self._history = history if history is not None else events

    @classmethod
    def from_json(cls, json_obj: str | Mapping[str, Any]) -> DurableOrchestrationStatus:
        """Build a status from a decoded status payload. From text: a falsy status with that text as `message`."""
        if isinstance(json_obj, str):
            return cls(message=json_obj)
        return cls(**json_obj)

    @classmethod
    def from_record(
        cls, record: InstanceRecord, *, show_input: bool = True, history: list[dict[str, Any]] | None = None
    ) -> DurableOrchestrationStatus:
        """The status a store's row describes."""
        return cls(
            name=record.name,
            instanceId=record.instance_id,
            createdTime=record.created_at,
            lastUpdatedTime=record.updated_at,
            input=json_or_text(record.input) if show_input else None,
            output=json_or_text(record.output),
            runtimeStatus=record.runtime_status,
            customStatus=json_or_text(record.custom_status),
            history=history,
        )

    def __bool__(self) -> bool:
        return self._created_time is not None

    def __repr__(self) -> str:
        status = self._runtime_status.name if self._runtime_status else "no such instance"
        return f"<DurableOrchestrationStatus {self._name} {self._instance_id}: {status}>"

    @property
    def name(self) -> str | None:
        """The orchestrator function's name."""
        return self._name

    @property
    def instance_id(self) -> str | None:
        """The instance's id."""
        return self._instance_id

    @property
    def created_time(self) -> datetime | None:
        """When the instance was started, in UTC."""
        return self._created_time

    @property
    def last_updated_time(self) -> datetime | None:
        """When its status, custom status or output last changed, in UTC."""
        return self._last_updated_time

    @property
    def input_(self) -> Any:
        """The input, decoded; None if it was not asked for."""
        return self._input

    @property
    def output(self) -> Any:
        """The result, decoded; of a failed instance the failure's text, of a terminated one the reason."""
        return self._output

    @property
    def runtime_status(self) -> OrchestrationRuntimeStatus | None:
        """Where the instance is in its life."""
        return self._runtime_status

    @property
    def custom_status(self) -> Any:
        """What the orchestrator last said with `set_custom_status`, decoded."""
        return self._custom_status

    @property
    def history(self) -> list[dict[str, Any]] | None:
        """The history as the management API shows it, or None if it was not asked for."""
        return self._history

    @property
    def historyEvents(self) -> list[dict[str, Any]] | None:  # noqa: N802 - the wire's name for `history`
        """The same as `history`."""
        return self._history

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `json.dumps` takes; times carry microseconds. A missing instance has no times."""
        body: dict[str, Any] = {"name": self._name, "instanceId": self._instance_id}
        for key, moment in (("createdTime", self._created_time), ("lastUpdatedTime", self._last_updated_time)):
            if moment is not None:
                body[key] = moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        body["output"], body["input"] = self._output, self._input
        if self._runtime_status is not None:
            body["runtimeStatus"] = self._runtime_status.name
        body["customStatus"], body["history"] = self._custom_status, self._history
        return body


def _time(given: str | datetime | None) -> datetime | None:
    if given is None:
        return None
    moment = datetime.fromisoformat(given) if isinstance(given, str) else given
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class StatusPage:
    """Some instances, and the token of the next page; without a token this was the last.

    A page may be short, even empty, and still have a successor.
    """

    instances: Sequence[DurableOrchestrationStatus]
    continuation_token: str | None = None


class PurgeHistoryResult:
    """How many instances a purge removed."""

    def __init__(self, instancesDeleted: int, **extra: Any) -> None:  # noqa: N803 - the wire's name
        self.__dict__.update(extra)
        self._instances_deleted = instancesDeleted

    @classmethod
    def from_json(cls, json_obj: Mapping[str, Any]) -> PurgeHistoryResult:
        """Build the result from a decoded purge payload."""
        return cls(**json_obj)

    @property
    def instances_deleted(self) -> int:
        """The number of instances removed."""
        return self._instances_deleted

    def __repr__(self) -> str:
        return f"<PurgeHistoryResult: {self._instances_deleted}>"
