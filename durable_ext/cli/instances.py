"""The commands about instances. They work on a running host or on a store, and print the same either way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

from durable_ext.cli import options, printing
from durable_ext.cli.hub import Hub, Status
from durable_ext.cli.target import open_hub
from durable_ext.errors import DurableError
from durable_ext.history import OrchestrationRuntimeStatus
from durable_ext.storage.contract import InstanceQuery

HERE = Path()

_LOOK_AGAIN = 0.5
"""Seconds between two looks at an instance that is waited for."""


class InstanceFailedError(DurableError):
    """An instance that was waited for ended, but not as Completed."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands = (start, status, history, list_, raise_, terminate, suspend, resume, rewind, restart, purge, deadletters)
    for command in commands:
        app.command(command.__name__.rstrip("_"), rich_help_panel="Instances")(command)


def start(
    name: Annotated[str, typer.Argument(help="The orchestrator's name.", show_default=False)],
    input_: Annotated[str | None, typer.Option("--input", help="Its input, as JSON.", show_default=False)] = None,
    instance_id: Annotated[
        str | None, typer.Option("--id", help="The new instance's id; a random one if left out.", show_default=False)
    ] = None,
    version: Annotated[str | None, typer.Option("--version", help="The version to run.", show_default=False)] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended; fails if it does.")] = False,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to wait at most.", min=0)] = 300,
    app: options.App = HERE,
    url: options.Url = None,
    storage: options.Storage = None,
    as_json: options.Json = False,
) -> None:
    """Start an orchestration."""
    value = options.json_value(input_, "--input")

    async def command(hub: Hub) -> None:
        started = await hub.start(name, instance_id, value, version)
        if not wait:
            _say(as_json, {"id": started}, started)
            return
        ended = await _wait(hub, started, timeout)
        if as_json:
            printing.print_json(ended)
        else:
            printing.print_status(ended)
        if ended["runtimeStatus"] != OrchestrationRuntimeStatus.Completed.name:
            raise InstanceFailedError(f"instance '{started}' is {ended['runtimeStatus']}")

    _run(app, url, storage, command)


def status(
    instance_id: options.InstanceId,
    app: options.App = HERE,
    url: options.Url = None,
    storage: options.Storage = None,
    as_json: options.Json = False,
) -> None:
    """Show how an instance is doing."""

    async def command(hub: Hub) -> None:
        found = await hub.status(instance_id)
        if as_json:
            printing.print_json(found)
        else:
            printing.print_status(found)

    _run(app, url, storage, command)


def history(
    instance_id: options.InstanceId,
    app: options.App = HERE,
    url: options.Url = None,
    storage: options.Storage = None,
    as_json: options.Json = False,
) -> None:
    """Show everything that happened to an instance."""

    async def command(hub: Hub) -> None:
        events = await hub.history(instance_id)
        if as_json:
            printing.print_json(printing.history_json(events))
        else:
            printing.out().print(printing.history_table(instance_id, events))

    _run(app, url, storage, command)


def deadletters(
    app: options.App = HERE,
    url: options.Url = None,
    storage: options.Storage = None,
    as_json: options.Json = False,
) -> None:
    """Show what could not be processed, and why. The instances it was for have failed."""

    async def command(hub: Hub) -> None:
        letters = await hub.dead_letters()
        if as_json:
            printing.print_json(msgspec.to_builtins(letters))
        elif letters:
            printing.print_dead_letters(letters)
        else:
            printing.out().print("no dead letters")

    _run(app, url, storage, command)


def list_(
    statuses: options.StatusNames = None,
    prefix: Annotated[str | None, typer.Option("--prefix", help="Only ids that begin so.", show_default=False)] = None,
    name: Annotated[str | None, typer.Option("--name", help="Only of this orchestrator.", show_default=False)] = None,
    created_from: options.CreatedFrom = None,
    created_to: options.CreatedTo = None,
    limit: Annotated[int, typer.Option("--limit", help="Show at most this many.", min=1)] = 100,
    app: options.App = HERE,
    url: options.Url = None,
    storage: options.Storage = None,
    as_json: options.Json = False,
) -> None:
    """List instances."""
    query = InstanceQuery(
        statuses=options.status_values(statuses),
        instance_id_prefix=prefix,
        name=name,
        created_from=options.time_value(created_from, "--created-from"),
        created_to=options.time_value(created_to, "--created-to"),
        page_size=min(limit + 1, 1000),
    )

    async def command(hub: Hub) -> None:
        found = await _take(hub.instances(query), limit + 1)
        shown = found[:limit]
        if as_json:
            printing.print_json(shown)
        elif shown:
            printing.print_instances(shown)
        else:
            printing.err().print(f"no instances match at {hub.where}", markup=False)
        if len(found) > limit:
            printing.err().print(f"only the first {limit} are shown; see more with --limit", markup=False)

    _run(app, url, storage, command)


def raise_(
    instance_id: options.InstanceId,
    event_name: Annotated[str, typer.Argument(help="The event's name.", show_default=False)],
    data: Annotated[str | None, typer.Option("--data", help="What it carries, as JSON.", show_default=False)] = None,
    app: options.App = HERE,
    url: options.Url = None,
    storage: options.Storage = None,
    as_json: options.Json = False,
) -> None:
    """Send an event to an instance."""
    value = options.json_value(data, "--data")

    async def command(hub: Hub) -> None:
        await hub.raise_event(instance_id, event_name, value)
        _say(as_json, {"id": instance_id, "event": event_name}, f"sent {event_name} to {instance_id}")

    _run(app, url, storage, command)


def terminate(
    instance_id: options.InstanceId,
    reason: options.Reason = None,
    app: options.App = HERE,
    url: options.Url = None,
    storage: options.Storage = None,
    as_json: options.Json = False,
) -> None:
    """Stop an instance for good."""
    _steer("terminate", instance_id, reason, app, url, storage, as_json)


def suspend(
    instance_id: options.InstanceId,
    reason: options.Reason = None,
    app: options.App = HERE,
    url: options.Url = None,
    storage: options.Storage = None,
    as_json: options.Json = False,
) -> None:
    """Pause an instance."""
    _steer("suspend", instance_id, reason, app, url, storage, as_json)


def resume(
    instance_id: options.InstanceId,
    reason: options.Reason = None,
    app: options.App = HERE,
    url: options.Url = None,
    storage: options.Storage = None,
    as_json: options.Json = False,
) -> None:
    """Let a paused instance go on."""
    _steer("resume", instance_id, reason, app, url, storage, as_json)


def rewind(
    instance_id: options.InstanceId,
    reason: options.Reason = None,
    app: options.App = HERE,
    url: options.Url = None,
    storage: options.Storage = None,
    as_json: options.Json = False,
) -> None:
    """Run what failed in a failed instance again."""
    _steer("rewind", instance_id, reason, app, url, storage, as_json)


def restart(
    instance_id: options.InstanceId,
    same_id: Annotated[bool, typer.Option("--same-id", help="Replace the instance, which must have ended.")] = False,
    app: options.App = HERE,
    url: options.Url = None,
    storage: options.Storage = None,
    as_json: options.Json = False,
) -> None:
    """Start the same orchestration with the same input again."""

    async def command(hub: Hub) -> None:
        started = await hub.restart(instance_id, with_new_id=not same_id)
        _say(as_json, {"id": started}, started)

    _run(app, url, storage, command)


def purge(
    instance_id: Annotated[
        str | None, typer.Argument(help="One instance; or select many with options.", show_default=False)
    ] = None,
    statuses: options.StatusNames = None,
    created_from: options.CreatedFrom = None,
    created_to: options.CreatedTo = None,
    everything: Annotated[bool, typer.Option("--all", help="Every instance that has ended.")] = False,
    app: options.App = HERE,
    url: options.Url = None,
    storage: options.Storage = None,
    as_json: options.Json = False,
) -> None:
    """Remove instances that have ended, with their history. Live ones are never touched."""
    selected = bool(statuses or created_from or created_to)
    if (instance_id is not None) + selected + everything != 1:
        raise typer.BadParameter(
            "name one instance, or select many with --status, --created-from, --created-to or --all"
        )
    query = InstanceQuery(
        statuses=options.status_values(statuses),
        created_from=options.time_value(created_from, "--created-from") or datetime(2000, 1, 1, tzinfo=UTC),
        created_to=options.time_value(created_to, "--created-to"),
    )

    async def command(hub: Hub) -> None:
        with printing.err().status("removing instances that have ended …"):
            removed = await (hub.purge(instance_id) if instance_id is not None else hub.purge_matching(query))
        _say(as_json, {"instancesDeleted": removed}, f"removed {removed}")

    _run(app, url, storage, command)


# --- what they share ---------------------------------------------------------------------------------


def _run(app: Path, url: str | None, storage: str | None, command: Callable[[Hub], Awaitable[None]]) -> None:
    app_dir = app.absolute()

    async def main() -> None:
        async with open_hub(app_dir, url, storage) as hub:
            await command(hub)

    asyncio.run(main())


def _steer(
    verb: str, instance_id: str, reason: str | None, app: Path, url: str | None, storage: str | None, as_json: bool
) -> None:
    async def command(hub: Hub) -> None:
        await hub.steer(verb, instance_id, reason)
        _say(as_json, {"id": instance_id, "request": verb}, f"asked {instance_id} to {verb}")

    _run(app, url, storage, command)


async def _wait(hub: Hub, instance_id: str, timeout: float) -> Status:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    with printing.err().status(f"{instance_id} …") as progress:
        while True:
            found = await hub.wait(instance_id, _LOOK_AGAIN)
            name = found["runtimeStatus"]
            if OrchestrationRuntimeStatus(name).is_terminal:
                return found
            if loop.time() > deadline:
                raise InstanceFailedError(f"instance '{instance_id}' is still {name} after {timeout:g} s")
            custom = "" if found["customStatus"] is None else f": {found['customStatus']}"
            progress.update(f"{instance_id} {name}{custom} …")
            await asyncio.sleep(_LOOK_AGAIN)


async def _take(instances: AsyncIterator[Status], limit: int) -> list[Status]:
    taken: list[Status] = []
    async with contextlib.aclosing(instances) as closing:  # type: ignore[type-var]  # it is a generator
        async for each in closing:
            taken.append(each)
            if len(taken) == limit:
                break
    return taken


def _say(as_json: bool, value: Any, text: str) -> None:
    if as_json:
        printing.print_json(value)
    else:
        console: Console = printing.out()
        console.print(text, markup=False, soft_wrap=True)
