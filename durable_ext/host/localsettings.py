"""local.settings.json: the app settings of a development machine, put into the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from durable_ext.errors import ConfigurationError
from durable_ext.host_json import read_document

DEFAULT_PORT = 7071


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSettings:
    """What local.settings.json says: `Values`, and of its `Host` section the port and the names to answer to."""

    values: Mapping[str, str] = field(default_factory=dict)
    port: int | None = None
    allowed_hosts: tuple[str, ...] = ()


def read_local_settings(app_dir: Path) -> LocalSettings:
    """Read the file, which need not exist. Raises `ConfigurationError` naming what is wrong and where."""
    path = app_dir / "local.settings.json"
    content = read_document(path)
    if content.get("IsEncrypted"):
        raise ConfigurationError(f"{path} is encrypted; decrypt it with `func settings decrypt`")
    host = content.get("Host")
    return LocalSettings(
        values=_values(path, content.get("Values")), port=_port(path, host), allowed_hosts=_allowed_hosts(path, host)
    )


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Have `values` in the environment for a while. What is set already stays as it is."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _values(path: Path, found: Any) -> dict[str, str]:
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigurationError(f"{path}: Values must be an object of names and texts")
    values = {}
    for name, value in found.items():
        if isinstance(value, bool | int | float):
            value = json.dumps(value)
        if not isinstance(value, str):
            raise ConfigurationError(f"{path}: Values.{name} must be a text, not {json.dumps(value)}")
        values[name] = value
    return values


def _port(path: Path, found: Any) -> int | None:
    port = found.get("LocalHttpPort") if isinstance(found, dict) else None
    if port is None:
        return None
    if not isinstance(port, int) or not 0 <= port < 65536:
        raise ConfigurationError(f"{path}: Host.LocalHttpPort must be a port number, not {json.dumps(port)}")
    return port


def _allowed_hosts(path: Path, found: Any) -> tuple[str, ...]:
    # A text with commas, as the CORS key beside it.
    names = found.get("AllowedHosts", "") if isinstance(found, dict) else ""
    if not isinstance(names, str) or "/" in names:
        raise ConfigurationError(
            f'{path}: Host.AllowedHosts must be a text of names with commas between them, such as "devbox, '
            f'my.example.com", or "*", not {json.dumps(names)}'
        )
    return tuple(name for each in names.split(",") if (name := each.strip()))
