"""The place of the local host's state: by default a SQLite file in the app's directory, out of sight of git."""

from __future__ import annotations

from pathlib import Path

from durable_ext.errors import ConfigurationError
from durable_ext.settings import Settings
from durable_ext.storage.opening import sqlite_file

STATE_DIR = ".durable"


def absolute(url: str) -> str:
    """The URL of the same store from wherever the process goes."""
    path = sqlite_file(url)
    return url if path is None else _url(path.absolute(), url.partition("?")[2])


def storage_url(app_dir: Path, settings: Settings, given: str | None) -> str:
    """The store to use: the one given, else the one host.json names, else the default file.

    Paths in `given` are relative to the working directory, those in host.json to the app's.
    """
    if given is not None:
        return absolute(given)
    provider = settings.storage_provider
    if provider.type not in (None, "sqlite"):
        raise ConfigurationError(
            f"host.json asks for {provider.type}, which this release does not have. Name another store with --storage, "
            'or write "type": "sqlite" under extensions.durableTask.storageProvider.'
        )
    path = app_dir / (provider.path if provider.path is not None else f"{STATE_DIR}/{settings.hub_name}.db")
    return _url(path, "" if provider.synchronous == "full" else f"synchronous={provider.synchronous}")


def is_lasting(url: str) -> bool:
    """Whether a store at this URL outlives the process that has it open, so that others can open it too."""
    return sqlite_file(url) is not None


def exists(url: str) -> bool:
    """Whether there is a store at this URL already."""
    path = sqlite_file(url)
    return path is not None and path.exists()


def make_room(url: str) -> None:
    """Create the directory of a store's file; our own is hidden from git and from other users of the machine."""
    path = sqlite_file(url)
    if path is None:
        return
    is_ours = path.parent.name == STATE_DIR
    # Payloads are nobody else's business. A directory that is there already has the permissions somebody wanted.
    path.parent.mkdir(0o700 if is_ours else 0o777, parents=True, exist_ok=True)
    ignored = path.parent / ".gitignore"
    if is_ours and not ignored.exists():
        ignored.write_text("*\n", encoding="utf-8")


def timers_file(url: str) -> Path | None:
    """Where timer triggers are remembered: beside the store's file. None for stores that are no file."""
    path = sqlite_file(url)
    return None if path is None else path.with_name(f"{path.name}.timers.json")


def _url(path: Path, options: str = "") -> str:
    return f"sqlite:///{path}" + (f"?{options}" if options else "")
