"""Options that several commands share, read while the command line is."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from durable_ext.history import OrchestrationRuntimeStatus


def json_value(text: str) -> Any:
    """The value of an option that takes JSON, or with `@` the name of a file that holds it.

    A wrong one is a usage error.
    """
    if text.startswith("@"):
        return _json_in_file(text[1:])
    try:
        return json.loads(text)
    except ValueError as err:
        quoted = json.dumps(text)
        raise typer.BadParameter(f"{text!r} is not JSON ({err}); a text needs its quotes: '{quoted}'") from err


def _json_in_file(name: str) -> Any:
    """What a file holds; `-` is the standard input."""
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return json.loads(content)
    except OSError as err:
        raise typer.BadParameter(f"cannot read {name}: {err.strerror}") from err
    except ValueError as err:
        raise typer.BadParameter(f"{name} does not hold JSON: {err}") from err


def time_value(text: str) -> datetime:
    """The value of an option that takes a time; without a zone it is UTC. A wrong one is a usage error."""
    try:
        given = datetime.fromisoformat(text)
    except ValueError as err:
        raise typer.BadParameter(f"{text!r} is not an ISO 8601 time, such as 2030-01-31T12:00Z") from err
    return given.replace(tzinfo=UTC) if given.tzinfo is None else given.astimezone(UTC)


def status_values(names: list[str] | None) -> frozenset[OrchestrationRuntimeStatus]:
    """The statuses named, in any case, with or without commas between them; a wrong one is a usage error."""
    known = {each.name.casefold(): each for each in OrchestrationRuntimeStatus}
    wanted = [name.strip() for each in names or () for name in each.split(",") if name.strip()]
    for name in wanted:
        if name.casefold() not in known:
            names_there_are = ", ".join(each.name for each in known.values())
            raise typer.BadParameter(f"'{name}' is not one of {names_there_are}", param_hint="--status")
    return frozenset(known[name.casefold()] for name in wanted)


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
Statuses = Annotated[
    list[str] | None,
    typer.Option("--status", help="Only in this status; may be repeated.", show_default=False),
]
CreatedFrom = Annotated[
    datetime | None,
    typer.Option(
        "--created-from",
        help="Only created at this ISO time or later.",
        parser=time_value,
        metavar="TIME",
        show_default=False,
    ),
]
CreatedTo = Annotated[
    datetime | None,
    typer.Option(
        "--created-to",
        help="Only created at this ISO time or earlier.",
        parser=time_value,
        metavar="TIME",
        show_default=False,
    ),
]
