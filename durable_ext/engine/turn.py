"""Turns: what one step of an orchestrator leads to, and what the engine needs to know of the app."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from durable_ext.history import (
    EventRaised,
    ExecutionStarted,
    HistoryEvent,
    OrchestrationRuntimeStatus,
)
from durable_ext.messages import Message, WorkItem


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """The result of feeding new events to an orchestrator. Same session, same events, same time: same Turn.

    `events` are to be appended to the history, or, with `replaces_history`, are the whole history of a new
    generation. `status_changed` is False where the status row need not be written for the turn's sake.
    `output` is JSON text for Completed; the failure's or reason's text for Failed, Terminated and Suspended.
    `custom_status` is UNSET while this execution has not set one: what an earlier generation set stays.

    `unread` are external events of this inbox that nobody waits for yet: they are not in the history, and the session
    has them in mind. `read` are earlier ones of that kind that were fed now, or that nobody is to have any more. Both
    hold the very objects that were in the inbox. A session that replays knows of none: give them to its first
    `advance`, ahead of the news.
    `cancelled` are the numbers of activities and timers of this execution that nobody waits for any more.
    """

    execution_id: str
    events: Sequence[HistoryEvent]
    replaces_history: bool = False
    messages: Sequence[Message] = ()
    work: Sequence[WorkItem] = ()
    runtime_status: OrchestrationRuntimeStatus
    custom_status: str | msgspec.UnsetType | None = msgspec.UNSET
    output: str | None = None
    started: ExecutionStarted | None = None
    status_changed: bool = False
    unread: Sequence[EventRaised] = ()
    read: Sequence[EventRaised] = ()
    cancelled: Sequence[int] = ()


class Callee(msgspec.Struct, frozen=True, kw_only=True):
    """A function as orchestrator code names it: its durable name, and what its result restores to."""

    name: str
    result_type: Any = None


def by_name_only(function: Any, kind: str) -> Callee:
    """The resolver for apps that call functions by name only."""
    if isinstance(function, str):
        if not function:
            raise ValueError("function_name cannot be empty")
        return Callee(name=function)
    raise ValueError(f"an {kind} is called by its name, not by {function!r}")


class EngineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What host.json and the app say that matters to replay.

    `resolve(function, kind)` turns what user code passed to a call (`kind` is "activity" or "orchestrator") into a
    `Callee`; it raises ValueError on what it cannot name. `max_actions` bounds the actions of one execution.
    """

    resolve: Callable[[Any, str], Callee] = by_name_only
    default_version: str | None = None
    store_inputs: bool = False
    max_actions: int = 100_000
    python: str = f"{sys.version_info.major}.{sys.version_info.minor}"
