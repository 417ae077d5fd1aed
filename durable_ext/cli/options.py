"""Options that several commands share."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from durable_ext.cli.hub import parse_statuses
from durable_ext.history import OrchestrationRuntimeStatus

App = Annotated[Path, typer.Option("--app", help="The Function App's directory.", file_okay=False)]
Url = Annotated[
    str | None, typer.Option("--url", help="A running host, such as http://localhost:7071.", show_default=False)
]
Storage = Annotated[
    str | None, typer.Option("--storage", help="A store, such as sqlite:///state.db.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
InstanceId = Annotated[str, typer.Argument(help="The instance's id.", show_default=False)]
Reason = Annotated[str | None, typer.Option("--reason", help="Kept with the instance.", show_default=False)]
StatusNames = Annotated[
    list[str] | None, typer.Option("--status", help="Only in this status; may be repeated.", show_default=False)
]
CreatedFrom = Annotated[
    str | None, typer.Option("--created-from", help="Only created at this ISO time or later.", show_default=False)
]
CreatedTo = Annotated[
    str | None, typer.Option("--created-to", help="Only created at this ISO time or earlier.", show_default=False)
]


def json_value(text: str | None, option: str) -> Any:
    """The value of an option that takes JSON. A wrong one is a usage error."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as err:
        quoted = json.dumps(text)
        raise typer.BadParameter(
            f"{text!r} is not JSON ({err}); a text needs its quotes: '{quoted}'", param_hint=option
        ) from err


def time_value(text: str | None, option: str) -> datetime | None:
    """The value of an option that takes a time; without a zone it is UTC. A wrong one is a usage error."""
    if text is None:
        return None
    try:
        given = datetime.fromisoformat(text)
    except ValueError as err:
        raise typer.BadParameter(
            f"{text!r} is not an ISO 8601 time, such as 2030-01-31T12:00Z", param_hint=option
        ) from err
    return given.replace(tzinfo=UTC) if given.tzinfo is None else given.astimezone(UTC)


def status_values(names: list[str] | None) -> frozenset[OrchestrationRuntimeStatus]:
    """The statuses named; a wrong one is a usage error."""
    try:
        return parse_statuses(names or [])
    except ValueError as err:
        raise typer.BadParameter(str(err), param_hint="--status") from err
