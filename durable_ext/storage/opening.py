"""Which store an address means."""

from __future__ import annotations

from urllib.parse import parse_qsl

from durable_ext.errors import ConfigurationError
from durable_ext.storage.contract import Store

_SCHEME = "sqlite:///"
_SUPPORTED = (
    "Supported are sqlite:///relative/path.db, sqlite:////absolute/path.db and sqlite:///:memory:, "
    "with ?synchronous=normal for commits that survive a crash of the process but not of the machine"
)


def open_store(url: str) -> Store:
    """The store at an address, not yet opened. Raises `ConfigurationError` on an address it does not know.

    A relative path is relative to the working directory of this moment.
    """
    if not url.startswith(_SCHEME):
        raise ConfigurationError(
            f"storage {_shown(url)!r} is not supported. {_SUPPORTED}. Azure Storage is not in this release."
        )
    path, _, options = url.removeprefix(_SCHEME).partition("?")
    if not path:
        raise ConfigurationError(f"storage {url!r} names no file. {_SUPPORTED}.")
    synchronous = "full"
    for key, value in parse_qsl(options, keep_blank_values=True):
        if key != "synchronous" or value not in ("full", "normal"):
            raise ConfigurationError(f"storage {url!r} has an unknown option {key}={value}. {_SUPPORTED}.")
        synchronous = value
    # Imported here: a store's dependencies are loaded only when that store is asked for.
    from durable_ext.storage.sqlite.store import SqliteStore

    return SqliteStore(path, synchronous="normal" if synchronous == "normal" else "full")


def _shown(url: str) -> str:
    # A connection string carries its key: never show what follows the first separator.
    for separator in (";", "@", "?"):
        url = url.partition(separator)[0]
    return url if len(url) <= 60 else url[:57] + "..."
