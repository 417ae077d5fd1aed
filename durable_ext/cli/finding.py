"""The choice of a command's task hub: a running host, a store it names, or what the app's directory says."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from durable_ext.cli.in_store import TargetInStore
from durable_ext.cli.over_http import TargetOverHttp
from durable_ext.cli.target import Target
from durable_ext.errors import ConfigurationError, DurableError
from durable_ext.host.localsettings import DEFAULT_PORT, environment, read_local_settings
from durable_ext.host.server import WEBHOOK_PATH
from durable_ext.host.state import exists, is_lasting, storage_url
from durable_ext.settings import load_settings
from durable_ext.storage.opening import open_store
from durable_ext.taskhub import TaskHub


class HostUnreachableError(DurableError):
    """No host answers where one was expected."""


@asynccontextmanager
async def find_target(app_dir: Path, url: str | None, storage: str | None) -> AsyncIterator[Target]:
    """The target the options name. Without any: the app's host if one is running, else the app's own store."""
    if url is not None and storage is not None:
        raise ConfigurationError("give --url (a running host) or --storage (a store), not both")
    if url is not None:
        async with _over_http(url) as target:
            yield target
        return
    local = read_local_settings(app_dir)
    usual = f"http://localhost:{local.port or DEFAULT_PORT}"
    if storage is None and await _answers(usual):
        async with _over_http(usual) as target:
            yield target
        return
    with environment(local.values):
        async with _in_store(app_dir, storage, usual) as target:
            yield target


@asynccontextmanager
async def _over_http(url: str) -> AsyncIterator[Target]:
    base = url.rstrip("/")
    # A URL of the API itself, as status links have it, is as good as the host's.
    if not base.casefold().endswith("/durabletask"):
        base = f"{base}/{WEBHOOK_PATH}"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=100, connect=5)) as session:
        try:
            yield TargetOverHttp(session, base, url)
        except (aiohttp.ClientError, TimeoutError) as err:
            raise HostUnreachableError(
                f"no host answers at {url} ({err or type(err).__name__}). Start one with `durable run`, name another "
                f"with --url, or work on the store itself with --storage."
            ) from err


@asynccontextmanager
async def _in_store(app_dir: Path, storage: str | None, usual: str) -> AsyncIterator[Target]:
    settings = load_settings(app_dir, os.environ)
    named = storage_url(app_dir, settings, storage)
    if not is_lasting(named):
        raise ConfigurationError(
            f"the store at {named} lives in the process of its host and nowhere else; name the host with --url"
        )
    if not exists(named):
        raise HostUnreachableError(
            f"no host answers at {usual}, and there is no store at {named}. Start the app with `durable run`, or name "
            f"a host with --url, a store with --storage, the app's directory with --app."
        )
    hub = TaskHub(open_store(named, settings), settings=settings)
    try:
        await hub.open()
        yield TargetInStore(hub, named)
    finally:
        await hub.stop()


async def _answers(url: str) -> bool:
    timeout = aiohttp.ClientTimeout(total=5, connect=1)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{url}/{WEBHOOK_PATH}/instances", params={"top": "1"}) as answer,
        ):
            return answer.status == 200
    except (TimeoutError, aiohttp.ClientError):
        return False
