"""Output of the commands: tables for people, JSON for programs. Progress goes to stderr, results to stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
from rich import box
from rich.console import Console, OverflowMethod
from rich.table import Column, Table
from rich.text import Text

from durable_ext.cli.target import Status
from durable_ext.history import (
    ExecutionCompleted,
    HistoryEvent,
    OrchestrationRuntimeStatus,
    TimerCreated,
    TimerFired,
    encode_event,
)
from durable_ext.printable import printable, printable_lines
from durable_ext.storage.contract import DeadLetter

_COLOURS = {
    OrchestrationRuntimeStatus.Completed: "green",
    OrchestrationRuntimeStatus.Failed: "red",
    OrchestrationRuntimeStatus.Terminated: "red",
    OrchestrationRuntimeStatus.Suspended: "yellow",
}

_UNFOLDED = 200
"""Columns of a table that goes into a file or a pipe: nobody reads it in a narrow window."""


def out() -> Console:
    """Where results go."""
    # Without emoji: rich would turn a `:key:` in somebody's data into a picture.
    return Console(width=None if sys.stdout.isatty() else _UNFOLDED, highlight=False, emoji=False)


def err() -> Console:
    """Where progress and complaints go."""
    return Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document, in printable ASCII, which no terminal or pipe can spoil."""
    out().print(json.dumps(value, indent=2).replace("\x7f", "\\u007f"), soft_wrap=True, markup=False)


def print_status(status: Status) -> None:
    """One instance, a line for each thing known."""
    table = Table.grid(padding=(0, 2))
    shown = ("instanceId", "name", "runtimeStatus", "customStatus", "input", "output", "createdTime", "lastUpdatedTime")
    for key in shown:
        if status.get(key) is not None:
            value = status[key]
            cell = _status_text(value) if key == "runtimeStatus" else many_lines(_plain(value))
            table.add_row(Text(key, style="dim"), cell)
    out().print(table)


_WIDE = 120
"""Columns from which on a list shows everything. In a narrower window ids and times stay whole, as they get copied."""


def print_instances(instances: Sequence[Status]) -> None:
    """A table of instances."""
    console = out()
    is_wide = console.width >= _WIDE
    longest = max(len(each["instanceId"]) for each in instances)
    table = Table(
        Column("Instance", overflow="fold", min_width=min(longest, 40)),
        Column("Name", overflow="ellipsis", no_wrap=True),
        Column("Status", no_wrap=True),
        Column("Created", no_wrap=True),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    if is_wide:
        table.add_column("Updated", no_wrap=True)
        table.add_column("Custom status", overflow="ellipsis", no_wrap=True)
    for each in instances:
        custom = "" if each["customStatus"] is None else _compact(each["customStatus"])
        cells = [
            one_line(each["instanceId"]),
            one_line(each["name"]),
            _status_text(each["runtimeStatus"]),
            one_line(each["createdTime"]),
            one_line(each["lastUpdatedTime"]),
            one_line(custom),
        ]
        table.add_row(*cells[: len(table.columns)])
    console.print(table)


def print_dead_letters(letters: Iterable[DeadLetter]) -> None:
    """A table of what could not be processed."""
    table = Table("When", "Kind", "Instance", "Name", "Reason", "Payload")
    for each in letters:
        table.add_row(
            moment(each.created_at),
            one_line(each.kind),
            one_line(each.instance_id),
            one_line(each.name),
            many_lines(each.reason),
            many_lines(each.payload or ""),
        )
    out().print(table)


def history_table(instance_id: str, events: Iterable[HistoryEvent]) -> Table:
    """The history as Durable Functions documents it: a row for each event, in order."""
    table = Table("EventType", "Timestamp", "Input", "Name", "Result", "Status")
    table.title = one_line(f"History of {instance_id}")
    for event in events:
        failure = getattr(event, "reason", None)
        result = getattr(event, "result", None)
        table.add_row(
            type(event).__name__,
            moment(event.timestamp),
            many_lines(_input_of(event), overflow=None),
            one_line(getattr(event, "name", None) or ""),
            many_lines(failure if result is None and failure is not None else result or ""),
            _status_text(event.orchestration_status.name) if isinstance(event, ExecutionCompleted) else "",
        )
    return table


def history_json(events: Iterable[HistoryEvent]) -> list[Any]:
    """The history as it is stored."""
    return [msgspec.json.decode(encode_event(event)) for event in events]


def moment(when: datetime) -> str:
    """A time, to the millisecond, as the history of Durable Functions shows it."""
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03}Z"


def _input_of(event: HistoryEvent) -> str:
    if isinstance(event, TimerCreated | TimerFired):
        return f"at {moment(event.fire_at)}"
    return getattr(event, "input", None) or ""


def one_line(text: str) -> Text:
    """Text from a store, which anybody may have written: shown, never obeyed, and never more than a line."""
    return Text(printable(text))


def many_lines(text: str, *, overflow: OverflowMethod | None = "fold") -> Text:
    """The same, of as many lines as it has."""
    return Text(printable_lines(text), overflow=overflow)


def _status_text(name: str) -> Text:
    return Text(name, style=_COLOURS.get(OrchestrationRuntimeStatus(name), ""))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else _compact(value)


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
