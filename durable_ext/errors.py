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
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec


class DurableError(Exception):
    """Root of every error raised by this package. Copies and pickles keep type, text and attributes."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Constructors take facts, not `args`, so the way of other exceptions would not make the same error again.
        return _made_again, (type(self), self.args, dict(self.__dict__))


def _made_again(kind: type[DurableError], args: tuple[Any, ...], attributes: Mapping[str, Any]) -> DurableError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


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


# --- how errors are told -----------------------------------------------------------------------------

MAX_TEXT = 8_000
"""Characters kept of an error's text: it is stored several times, and again by everybody who passes it on."""

MAX_TRACE = 16_000
"""Characters kept of a traceback."""

_MAX_CAUSES = 50


def describe(error: BaseException, stack_trace: str | None = None, *, is_final: bool = False) -> FailureDetails:
    """Turn an exception, with what caused it, into `FailureDetails` that can be stored.

    Causes are followed as Python prints them: `__cause__`, else `__context__` unless suppressed; each error once.
    `is_final`: it would not help to try again.
    """
    chain, _ = _chain(error)
    last = chain[-1]
    inner = last.details if isinstance(last, TaskFailedError) else None
    for each in reversed(chain):
        inner = FailureDetails(
            error_type=storable(type(each).__name__),
            error_message=_message(each),
            stack_trace=storable(stack_trace, MAX_TRACE) if each is error and stack_trace is not None else None,
            inner_failure=inner,
            is_non_retriable=is_final and each is error,
        )
    assert inner is not None
    return _bounded(inner)


def failure_text(error: BaseException) -> str:
    """What a status says of an error: its text (its type, if it has none), then type and text of each cause, once."""
    told = _reason(error) if isinstance(error, TaskFailedError) else text_of(error)
    return with_causes(told or str(type(error)), error)


def with_causes(told: str, error: BaseException) -> str:
    """`told`, and after it the causes of the error that it does not name."""
    chain, is_cut = _chain(error)
    for each in chain[1:]:
        cause = _reason(each) if isinstance(each, TaskFailedError) else f"{type(each).__name__}: {text_of(each)}"
        if cause not in told:
            told += f"; caused by {cause}"
    return storable(told + ("; and more causes" if is_cut else ""), MAX_TEXT)


def text_of(error: BaseException) -> str:
    """The error's text, also of errors that cannot tell it."""
    try:
        return str(error)
    except Exception as problem:
        return f"<no text: str() of this {type(error).__name__} raised {type(problem).__name__}>"


def brief(error: TaskFailedError) -> str:
    """What failed, and what it failed of in the first place. Of one size, however deep that is.

    The text of a sub-orchestration's failure names every level below it, and each of them is described as well.
    """
    failure = error.details
    if not isinstance(error, SubOrchestrationFailedError) or failure.inner_failure is None:
        return error.reason
    while failure.error_type == SubOrchestrationFailedError.__name__ and failure.inner_failure is not None:
        failure = failure.inner_failure
    names_itself = failure.error_type in _NAMING_THEMSELVES
    what = failure.error_message if names_itself else f"{failure.error_type}: {failure.error_message}"
    return f"Orchestrator function '{error.task_name}' failed: {what}"


def _reason(error: TaskFailedError) -> str:
    """Every level that failed, as long as that is not too much."""
    if len(error.reason) <= MAX_TEXT:
        return error.reason
    told = brief(error)
    left_out = len(error.reason) - len(told)
    return told if left_out <= 0 else f"{told} ({left_out:,} characters about what failed in between are left out)"


_NAMING_THEMSELVES = {
    each.__name__ for each in (ActivityFailedError, ActivityTimeout, SubOrchestrationFailedError, TaskFailedError)
}


def storable(text: str, limit: int = MAX_TEXT) -> str:
    """The text as every store takes it: without lone surrogates, and not longer than a little over `limit`."""
    text = shortened(text, limit)
    try:
        text.encode()
    except UnicodeEncodeError:
        escaped = text.encode("utf-8", "backslashreplace").decode()
        return f"{escaped} (escaped: lone surrogates cannot be stored)"
    return text


def shortened(text: str, limit: int) -> str:
    """The text; of a long one the beginning and the end, and between them how much is left out."""
    if len(text) <= limit + limit // 10:  # what was shortened before may have got a prefix, and is not cut again
        return text
    tail = limit // 4
    return f"{text[: limit - tail]} ... ({len(text) - limit:,} characters left out) ... {text[-tail:]}"


def details_json(failure: FailureDetails) -> str:
    """The one-line JSON that field code reads `["Message"]` from; note the leading blank it expects."""
    return json.dumps({"Message": f" {failure.error_type}: {failure.error_message}"}, ensure_ascii=False)


def _chain(error: BaseException) -> tuple[list[BaseException], bool]:
    """The error and its causes, and whether there are more. What caused a failed task its `details` say."""
    chain: dict[int, BaseException] = {}
    each: BaseException | None = error
    while each is not None and id(each) not in chain:
        if len(chain) > _MAX_CAUSES:
            return list(chain.values()), True
        chain[id(each)] = each
        if isinstance(each, TaskFailedError):
            break
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    return list(chain.values()), False


def _message(error: BaseException) -> str:
    return storable(brief(error) if isinstance(error, TaskFailedError) else text_of(error))


def _bounded(failure: FailureDetails) -> FailureDetails:
    """The failure with at most so many causes: the nearest and, whatever is left out before it, the first of all."""
    levels: list[FailureDetails] = []
    each: FailureDetails | None = failure
    while each is not None:
        levels.append(each)
        each = each.inner_failure
    left_out = len(levels) - _MAX_CAUSES - 2
    if left_out <= 0:
        return failure
    bounded = levels[-1]
    note = f" ... ({left_out:,} causes left out before the first)"
    for number, level in reversed(list(enumerate(levels[: _MAX_CAUSES + 1]))):
        message = level.error_message + note if number == _MAX_CAUSES else level.error_message
        bounded = msgspec.structs.replace(level, error_message=message, inner_failure=bounded)
    return bounded
