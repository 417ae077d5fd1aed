"""The banner of the local host: what it found, what it leaves alone, where state lives."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from durable_ext.host.app import LocalHost
from durable_ext.host.state import is_lasting

READY = "Ready:"
"""Begins the last line of the banner; what comes after it is the host's URL."""


def print_banner(host: LocalHost, console: Console) -> None:
    """Say it, a line each. The last line tells that the host is ready, and where."""
    for label, text in _found(host):
        console.print(Text(f"{label:<15}", style="dim").append(text, style="not dim"), soft_wrap=True)
    for note in _notes(host):
        console.print(Text(note, style="yellow"), soft_wrap=True)
    console.print(Text(f"{READY} {host.base_url}", style="bold green"), soft_wrap=True)


def _found(host: LocalHost) -> Iterator[tuple[str, str]]:
    yield "app", str(host.app_dir)
    yield "task hub", host.settings.hub_name
    yield "state", host.storage if is_lasting(host.storage) else f"{host.storage} (gone when the host stops)"
    yield "orchestrators", ", ".join(host.registry.orchestrators.names()) or "none"
    yield "activities", ", ".join(host.registry.activities.names()) or "none"
    unserved = {each.name for each in host.unserved}
    for each in host.functions.http:
        if each.name not in unserved:
            yield "http", f"{each.name}: {','.join(each.methods) or 'any method'} {host.url_of(each.route)}"
    for timer in host.functions.timers:
        yield "timer", f"{timer.name}: {timer.schedule} (UTC){', and at start-up' if timer.run_on_startup else ''}"
    yield "clients", ", ".join(host.client_functions) or "none"


def _notes(host: LocalHost) -> Iterator[str]:
    for each in host.unserved:
        yield f"not served here: {each.name} ({each.trigger}): {each.reason}"
    if host.settings.ignored:
        yield f"without effect in this release (host.json): {', '.join(host.settings.ignored)}"
