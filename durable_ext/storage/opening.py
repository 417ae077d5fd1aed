"""Which store an address means."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl

from durable_ext.clock import Clock, SystemClock
from durable_ext.errors import ConfigurationError
from durable_ext.settings import Settings
from durable_ext.storage.contract import Store

_SQLITE = "sqlite:///"
_SQLITE_IN_MEMORY = ":memory:"
_MEMORY = "memory://"
_SUPPORTED = (
    "Supported are sqlite:///relative/path.db, sqlite:////absolute/path.db and sqlite:///:memory:, "
    "with ?synchronous=normal for commits that survive a crash of the process but not of the machine; "
    "and memory:// for a hub that goes with its process"
)


def open_store(url: str, settings: Settings | None = None, clock: Clock | None = None) -> Store:
    """The store at an address, not yet opened. Raises `ConfigurationError` on an address it does not know.

    A relative path is relative to the working directory of this moment. `settings` are for stores that keep several
    hubs in one place; a file and a memory have one.
    """
    clock = clock or SystemClock()
    # Imported where they are needed: a store's dependencies are loaded only when that store is asked for.
    if url == _MEMORY:
        from durable_ext.storage.memory import MemoryStore

        return MemoryStore(clock=clock)
    if url.startswith(_SQLITE):
        from durable_ext.storage.sqlite.store import SqliteStore

        path, options = _split(url)
        return SqliteStore(path, synchronous=_synchronous(url, options), clock=clock)
    raise ConfigurationError(
        f"storage {_shown(url)!r} is not supported. {_SUPPORTED}. Azure Storage is not in this release."
    )


def sqlite_file(url: str) -> Path | None:
    """The file behind an address, as given; None if the address means something else than a SQLite file."""
    if not url.startswith(_SQLITE):
        return None
    path, _ = _split(url)
    return None if path == _SQLITE_IN_MEMORY else Path(path)


def _split(url: str) -> tuple[str, str]:
    path, _, options = url.removeprefix(_SQLITE).partition("?")
    if not path:
        raise ConfigurationError(f"storage {url!r} names no file. {_SUPPORTED}.")
    return path, options


def _synchronous(url: str, options: str) -> Literal["full", "normal"]:
    found: Literal["full", "normal"] = "full"
    for option in parse_qsl(options, keep_blank_values=True):
        match option:
            case ("synchronous", "full"):
                found = "full"
            case ("synchronous", "normal"):
                found = "normal"
            case (key, value):
                raise ConfigurationError(f"storage {url!r} has an unknown option {key}={value}. {_SUPPORTED}.")
    return found


def _shown(url: str) -> str:
    # A connection string carries its key: never show what follows the first separator.
    for separator in (";", "@", "?"):
        url = url.partition(separator)[0]
    return url if len(url) <= 60 else url[:57] + "..."
