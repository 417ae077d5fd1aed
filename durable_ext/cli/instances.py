"""The commands about instances. They work on a running host or on a store, and print the same either way."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import heapq
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer

from durable_ext.cli import options, printing
from durable_ext.cli.commands import TargetOptions, on_target
from durable_ext.cli.target import Request, Status, Target
from durable_ext.errors import DurableError
from durable_ext.history import OrchestrationRuntimeStatus
from durable_ext.storage.contract import InstanceQuery

_LOOK_AGAIN = 0.5
"""Seconds between two looks at an instance that is waited for."""

_WATCH_EVERY = 2.0
"""Seconds between two lists of `--watch`."""


class Order(enum.Enum):
    """In which order instances are listed."""

    created = "created"
    updated = "updated"
    id = "id"


_TIME = {Order.created: "createdTime", Order.updated: "lastUpdatedTime"}


class InstanceFailedError(DurableError):
    """An instance that was waited for ended, but not as Completed."""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    commands = (start, status, history, list_, raise_, terminate, suspend, resume, rewind, restart, purge, deadletters)
    for command in commands:
        app.command(command.__name__.rstrip("_"), rich_help_panel="Instances")(command)


@on_target
async def start(
    chosen: TargetOptions,
    name: Annotated[str, typer.Argument(help="The orchestrator's name.", show_default=False)],
    input_: Annotated[
        Any,
        typer.Option(
            "--input",
            help="Its input, as JSON, or @FILE that holds it (@- is standard input).",
            parser=options.json_value,
            metavar="JSON|@FILE",
            show_default=False,
        ),
    ] = None,
    instance_id: Annotated[
        str | None, typer.Option("--id", help="The new instance's id; a random one if left out.", show_default=False)
    ] = None,
    version: Annotated[str | None, typer.Option("--version", help="The version to run.", show_default=False)] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended; fails if it does.")] = False,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to wait at most.", min=0)] = 300,
) -> None:
    """Start an orchestration."""
    async with chosen.target() as target:
        started = await target.start(name, instance_id, input_, version)
        if not wait:
            chosen.say({"id": started}, started)
            return
        ended = await _wait(target, started, timeout)
    _show_status(chosen, ended)
    if ended["runtimeStatus"] != OrchestrationRuntimeStatus.Completed.name:
        raise InstanceFailedError(f"instance '{started}' is {ended['runtimeStatus']}")


@on_target
async def status(
    chosen: TargetOptions,
    instance_id: options.InstanceId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait until it has ended.")] = False,
) -> None:
    """Show how an instance is doing."""
    async with chosen.target() as target:
        found = await target.status(instance_id)
        if follow:
            found = await _wait(target, instance_id, math.inf)
    _show_status(chosen, found)


@on_target
async def history(chosen: TargetOptions, instance_id: options.InstanceId) -> None:
    """Show everything that happened to an instance."""
    async with chosen.target() as target:
        events = await target.history(instance_id)
    if chosen.as_json:
        printing.print_json(printing.history_json(events))
    else:
        printing.out().print(printing.history_table(instance_id, events))


@on_target
async def deadletters(chosen: TargetOptions) -> None:
    """Show what could not be processed, and why. The instances it was for have failed."""
    async with chosen.target() as target:
        letters = await target.dead_letters()
    if chosen.as_json:
        printing.print_json(msgspec.to_builtins(letters))
    elif letters:
        printing.print_dead_letters(letters)
    else:
        printing.out().print("no dead letters")


@on_target
async def list_(
    chosen: TargetOptions,
    statuses: options.Statuses = None,
    prefix: Annotated[str | None, typer.Option("--prefix", help="Only ids that begin so.", show_default=False)] = None,
    name: Annotated[str | None, typer.Option("--name", help="Only of this orchestrator.", show_default=False)] = None,
    created_from: options.CreatedFrom = None,
    created_to: options.CreatedTo = None,
    limit: Annotated[int, typer.Option("--limit", help="Show at most this many.", min=1)] = 100,
    sort: Annotated[Order, typer.Option("--sort", help="Newest first, last updated first, or by id.")] = Order.created,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show them again and again, until Ctrl-C.")] = False,
) -> None:
    """List instances, the newest first."""
    query = InstanceQuery(
        statuses=options.status_values(statuses),
        instance_id_prefix=prefix,
        name=name,
        created_from=created_from,
        created_to=created_to,
        page_size=min(limit + 1, 1000) if sort is Order.id else 1000,
        with_payloads=chosen.as_json,
    )
    async with chosen.target() as target:
        while True:
            found, total = await _first(target.instances(query), limit, sort)
            _show_instances(chosen, found, total, target.where)
            if not watch:
                return
            await asyncio.sleep(_WATCH_EVERY)


def _show_instances(chosen: TargetOptions, shown: list[Status], total: int, where: str) -> None:
    if chosen.as_json:
        printing.print_json(shown)
    elif shown:
        printing.print_instances(shown)
    else:
        printing.err().print(printing.one_line(f"no instances match at {where}"))
    if total > len(shown):
        printing.err().print(f"only the first {len(shown)} are shown; see more with --limit", markup=False)


@on_target
async def raise_(
    chosen: TargetOptions,
    instance_id: options.InstanceId,
    event_name: Annotated[str, typer.Argument(help="The event's name.", show_default=False)],
    data: Annotated[
        Any,
        typer.Option(
            "--data",
            help="What it carries, as JSON, or @FILE that holds it (@- is standard input).",
            parser=options.json_value,
            metavar="JSON|@FILE",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Send an event to an instance."""
    async with chosen.target() as target:
        await target.raise_event(instance_id, event_name, data)
    chosen.say({"id": instance_id, "event": event_name}, f"sent {event_name} to {instance_id}")


@on_target
async def terminate(chosen: TargetOptions, instance_id: options.InstanceId, reason: options.Reason = None) -> None:
    """Stop an instance for good."""
    await _ask(chosen, "terminate", instance_id, reason)


@on_target
async def suspend(chosen: TargetOptions, instance_id: options.InstanceId, reason: options.Reason = None) -> None:
    """Pause an instance."""
    await _ask(chosen, "suspend", instance_id, reason)


@on_target
async def resume(chosen: TargetOptions, instance_id: options.InstanceId, reason: options.Reason = None) -> None:
    """Let a paused instance go on."""
    await _ask(chosen, "resume", instance_id, reason)


@on_target
async def rewind(chosen: TargetOptions, instance_id: options.InstanceId, reason: options.Reason = None) -> None:
    """Run what failed in a failed instance again."""
    await _ask(chosen, "rewind", instance_id, reason)


@on_target
async def restart(
    chosen: TargetOptions,
    instance_id: options.InstanceId,
    same_id: Annotated[bool, typer.Option("--same-id", help="Replace the instance, which must have ended.")] = False,
) -> None:
    """Start the same orchestration with the same input again."""
    async with chosen.target() as target:
        started = await target.restart(instance_id, with_new_id=not same_id)
    chosen.say({"id": started}, started)


@on_target
async def purge(
    chosen: TargetOptions,
    instance_id: Annotated[
        str | None, typer.Argument(help="One instance; or select many with options.", show_default=False)
    ] = None,
    statuses: options.Statuses = None,
    created_from: options.CreatedFrom = None,
    created_to: options.CreatedTo = None,
    everything: Annotated[bool, typer.Option("--all", help="Every instance that has ended.")] = False,
) -> None:
    """Remove instances that have ended, with their history. Live ones are never touched."""
    selected = bool(statuses or created_from or created_to)
    if (instance_id is not None) + selected + everything != 1:
        raise typer.BadParameter(
            "name one instance, or select many with --status, --created-from, --created-to or --all"
        )
    query = InstanceQuery(
        statuses=options.status_values(statuses),
        created_from=created_from or datetime(2000, 1, 1, tzinfo=UTC),
        created_to=created_to,
    )
    async with chosen.target() as target:
        with printing.err().status("removing instances that have ended …"):
            removed = await (target.purge(instance_id) if instance_id is not None else target.purge_matching(query))
    chosen.say({"instancesDeleted": removed}, f"removed {removed}")


# --- what they share ---------------------------------------------------------------------------------


async def _ask(chosen: TargetOptions, request: Request, instance_id: str, reason: str | None) -> None:
    async with chosen.target() as target:
        await target.ask(request, instance_id, reason)
    chosen.say({"id": instance_id, "request": request}, f"asked {instance_id} to {request}")


def _show_status(chosen: TargetOptions, found: Status) -> None:
    if chosen.as_json:
        printing.print_json(found)
    else:
        printing.print_status(found)


async def _wait(target: Target, instance_id: str, timeout: float) -> Status:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    with printing.err().status(printing.one_line(f"{instance_id} …")) as progress:
        while True:
            found = await target.wait(instance_id, _LOOK_AGAIN)
            name = found["runtimeStatus"]
            if OrchestrationRuntimeStatus(name).is_terminal:
                return found
            if loop.time() > deadline:
                raise InstanceFailedError(f"instance '{instance_id}' is still {name} after {timeout:g} s")
            custom = "" if found["customStatus"] is None else f": {found['customStatus']}"
            progress.update(printing.one_line(f"{instance_id} {name}{custom} …"))
            await asyncio.sleep(_LOOK_AGAIN)


async def _first(instances: AsyncIterator[Status], limit: int, order: Order) -> tuple[list[Status], int]:
    """The first so many, and how many there are; or at least that there are more.

    A hub lists by id. For another order all are read, and so many are held.
    """
    kept: list[tuple[str, str, Status]] = []
    total = 0
    async with contextlib.aclosing(instances) as closing:  # type: ignore[type-var]  # it is a generator
        async for each in closing:
            total += 1
            if order is Order.id:
                if total > limit:
                    break
                kept.append(("", "", each))
                continue
            # ISO times in UTC sort as text, and no id comes twice.
            item = (each[_TIME[order]], each["instanceId"], each)
            if total <= limit:
                heapq.heappush(kept, item)
            else:
                heapq.heappushpop(kept, item)
    if order is not Order.id:
        kept.sort(key=lambda item: item[:2], reverse=True)
    return [each for _, _, each in kept], total
