"""Every error this package raises on purpose.

The tree::

    DurableError
    ├── ConfigurationError            host.json, app or store settings are wrong
    ├── CodecError                    a value cannot be stored, or not be restored as its annotation says
    ├── InvalidInstanceIdError        breaks a rule of orchestration identity
    ├── FunctionNotFoundError         no orchestrator, activity or entity of that name
    ├── ClientError
    │   ├── InstanceNotFoundError     no such instance
    │   ├── InstanceAlreadyExistsError  start refused: the id is live
    │   └── InstanceStateError        the instance is in the wrong status for this operation
    ├── TaskFailedError               what an orchestrator catches: a task it awaited failed
    │   ├── ActivityFailedError
    │   │   └── ActivityTimeout       (also a TimeoutError)
    │   └── SubOrchestrationFailedError
    ├── OrchestratorCodeError         orchestrator code did something a replay cannot repeat
    ├── NonDeterminismError           the code no longer asks for what its history recorded
    └── StoreError
        ├── VersionConflictError      somebody else moved the instance: this turn does not count
        ├── StoreInUseError           a second host on an embedded store
        └── StoreSchemaError          the store was written by an incompatible release

Errors carry facts as attributes and build their own message from them.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterable, Sequence

import msgspec


class DurableError(Exception):
    """Root of every error raised by this package."""


class ConfigurationError(DurableError, ValueError):
    """A setting has the wrong type, place or value; the message names the fix."""


class CodecError(DurableError, TypeError):
    """A value cannot be turned into JSON, or stored JSON does not fit the type asked for."""


class InvalidInstanceIdError(DurableError, ValueError):
    """An instance id breaks a rule of orchestration identity."""

    def __init__(self, instance_id: str, rule: str) -> None:
        shown = instance_id if len(instance_id) <= 80 else instance_id[:77] + "..."
        super().__init__(f"instance id {shown!r} is not allowed: {rule}")
        self.instance_id, self.rule = instance_id, rule


_ARTICLES = {"orchestrator": "an orchestrator", "activity": "an activity", "entity": "an entity"}


class FunctionNotFoundError(DurableError, ValueError):
    """No function of that name and kind is registered; the message lists those that are."""

    def __init__(self, name: str, kind: str, known: Iterable[str]) -> None:
        self.name, self.kind, self.known = name, kind, sorted(known, key=str.lower)
        if self.known:
            listed = ", ".join(f"'{each}'" for each in self.known)
            info = f"The following are the known {kind} functions: {listed}."
        else:
            info = f"No {kind} functions are currently registered!"
        super().__init__(
            f"The function '{name}' doesn't exist, is disabled, or is not {_ARTICLES.get(kind, kind)} function. "
            f"Additional info: {info}"
        )


# --- what a client sees ------------------------------------------------------------------------------


class ClientError(DurableError):
    """A client operation was refused; nothing was stored."""


class InstanceNotFoundError(ClientError, LookupError):
    """There is no instance with this id in the task hub."""

    def __init__(self, instance_id: str, message: str | None = None) -> None:
        super().__init__(message or f"No instance with ID '{instance_id}' found.")
        self.instance_id = instance_id


class InstanceAlreadyExistsError(ClientError):
    """An instance with this id is live, and the hub does not allow replacing it."""

    def __init__(self, instance_id: str, status: str) -> None:
        super().__init__(f"An Orchestration instance with the status {status} already exists.")
        self.instance_id, self.status = instance_id, status


class InstanceStateError(ClientError):
    """The operation does not apply to an instance in this status."""

    def __init__(self, instance_id: str, status: str, message: str | None = None) -> None:
        super().__init__(message or f"Instance '{instance_id}' is in the {status} state.")
        self.instance_id, self.status = instance_id, status


# --- what an orchestrator sees -----------------------------------------------------------------------


class FailureDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    """How a function failed, in a form that survives storage and other languages."""

    error_type: str
    error_message: str
    stack_trace: str | None = None
    inner_failure: FailureDetails | None = None
    is_non_retriable: bool = False

    @property
    def message(self) -> str:
        """The error's text."""
        return self.error_message

    @property
    def inner(self) -> FailureDetails | None:
        """The failure that caused this one, if any."""
        return self.inner_failure

    def is_caused_by(self, error: type[BaseException] | str) -> bool:
        """Whether this failure, or one it was caused by, is of the given exception type (class or name)."""
        wanted = error if isinstance(error, str) else error.__name__
        each: FailureDetails | None = self
        while each is not None:
            if each.error_type == wanted or each.error_type.rpartition(".")[2] == wanted.rpartition(".")[2]:
                return True
            each = each.inner_failure
        return False


class TaskFailedError(DurableError):
    """A task the orchestrator awaited has failed.

    `str()` is the text users of azure-functions-durable parse: the reason, then `" \\n "`, then details.
    """

    def __init__(
        self,
        *,
        task_name: str,
        task_id: int,
        reason: str,
        details: str | None,
        failure: FailureDetails,
        attempt: int = 1,
    ) -> None:
        super().__init__(f"{reason} \n {details}" if details is not None else reason)
        self.task_name, self.task_id, self.reason = task_name, task_id, reason
        self.details, self.attempt = failure, attempt

    @property
    def type(self) -> str:
        """Name of the exception type the function raised."""
        return self.details.error_type

    @property
    def message(self) -> str:
        """Text of the exception the function raised."""
        return self.details.error_message

    @property
    def traceback(self) -> str | None:
        """The function's own traceback, as text."""
        return self.details.stack_trace

    @property
    def cause(self) -> FailureDetails | None:
        """What the function's exception was itself caused by."""
        return self.details.inner_failure

    def is_caused_by(self, error: builtins.type[BaseException] | str) -> bool:
        """See `FailureDetails.is_caused_by`."""
        return self.details.is_caused_by(error)


class ActivityFailedError(TaskFailedError):
    """An activity raised, could not be found, or kept killing its process."""


class ActivityTimeout(ActivityFailedError, TimeoutError):  # noqa: N818 - the name users of asyncio expect
    """An activity did not finish within the `timeout` of its call."""


class SubOrchestrationFailedError(TaskFailedError):
    """A sub-orchestration failed or was terminated."""


class OrchestratorCodeError(DurableError, TypeError):
    """Orchestrator code did something a replay cannot repeat; the message says what to use instead."""


class NonDeterminismError(DurableError):
    """The code no longer asks for what its history recorded. Fails the instance; user code cannot catch it."""

    def __init__(self, *, step: int, recorded: str, requested: str, where: str | None = None, hint: str = "") -> None:
        message = (
            f"Non-Deterministic workflow detected: {hint}at step {step} the history has {recorded}, but {requested}"
        )
        if where:
            message += f" ({where})"
        super().__init__(message + ". Was the orchestrator code changed after the instance started?")
        self.step, self.recorded, self.requested, self.where = step, recorded, requested, where


# --- what a store raises -----------------------------------------------------------------------------


class StoreError(DurableError):
    """The store cannot do what was asked."""


class VersionConflictError(StoreError):
    """The instance is no longer at the version this commit was computed from; nothing of it was stored."""

    def __init__(self, instance_id: str) -> None:
        super().__init__(f"instance '{instance_id}' was changed by somebody else; the turn does not count")
        self.instance_id = instance_id


class StoreInUseError(StoreError):
    """Another host runs on this embedded store."""

    def __init__(self, path: str, owner: str) -> None:
        super().__init__(
            f"{path} is in use by {owner}. One host per file: stop that one, or give this one another --storage."
        )
        self.path, self.owner = path, owner


class StoreSchemaError(StoreError):
    """The store's schema is not one this release can use."""

    def __init__(self, path: str, found: int, supported: Sequence[int]) -> None:
        expected = ", ".join(map(str, supported))
        super().__init__(
            f"{path} has schema version {found}; this release understands {expected}. "
            f"Use the release that wrote it, or start with a new file."
        )
        self.path, self.found, self.supported = path, found, tuple(supported)


_MAX_CAUSES = 50


def describe(error: BaseException, stack_trace: str | None = None) -> FailureDetails:
    """Turn an exception, with what caused it, into `FailureDetails`.

    Causes are followed as Python prints them: `__cause__`, else `__context__` unless suppressed; each error once.
    """
    chain: dict[int, BaseException] = {}
    inner: FailureDetails | None = None
    each: BaseException | None = error
    while each is not None and id(each) not in chain and len(chain) <= _MAX_CAUSES:
        chain[id(each)] = each
        if isinstance(each, TaskFailedError):
            inner = each.details
            break
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    for each in reversed(chain.values()):
        inner = FailureDetails(
            error_type=type(each).__name__,
            error_message=text_of(each),
            stack_trace=stack_trace if each is error else None,
            inner_failure=inner,
        )
    assert inner is not None
    return inner


def text_of(error: BaseException) -> str:
    """The error's text, also of errors that cannot tell it."""
    try:
        return str(error)
    except Exception as problem:
        return f"<no text: str() of this {type(error).__name__} raised {type(problem).__name__}>"


def details_json(failure: FailureDetails) -> str:
    """The one-line JSON that field code reads `["Message"]` from; note the leading blank it expects."""
    return json.dumps({"Message": f" {failure.error_type}: {failure.error_message}"}, ensure_ascii=False)
