"""Which task hub a command means: a running host, a store it names, or what the app's directory says."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from durable_ext.cli.hub import Hub, HubInStore, HubOverHttp
from durable_ext.client import OrchestrationClient
from durable_ext.codec import JsonCodec
from durable_ext.errors import ConfigurationError, DurableError
from durable_ext.host.localsettings import DEFAULT_PORT, environment, read_local_settings
from durable_ext.host.server import WEBHOOK_PATH
from durable_ext.host.state import existing_store, storage_url
from durable_ext.settings import load_settings
from durable_ext.storage.opening import open_store


class HostUnreachableError(DurableError):
    """No host answers where one was expected."""


@asynccontextmanager
async def open_hub(app_dir: Path, url: str | None, storage: str | None) -> AsyncIterator[Hub]:
    """The hub the options name. Without any: the app's host if one is running, else the app's own store."""
    if url is not None and storage is not None:
        raise ConfigurationError("give --url (a running host) or --storage (a store), not both")
    if url is not None:
        async with _over_http(url) as hub:
            yield hub
        return
    local = read_local_settings(app_dir)
    usual = f"http://localhost:{local.port or DEFAULT_PORT}"
    if storage is None and await _answers(usual):
        async with _over_http(usual) as hub:
            yield hub
        return
    with environment(local.values):
        async with _in_store(app_dir, storage, usual) as hub:
            yield hub


@asynccontextmanager
async def _over_http(url: str) -> AsyncIterator[Hub]:
    base = url.rstrip("/")
    # A URL of the API itself, as status links have it, is as good as the host's.
    if not base.casefold().endswith("/durabletask"):
        base = f"{base}/{WEBHOOK_PATH}"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=100, connect=5)) as session:
        try:
            yield HubOverHttp(session, base, url)
        except (aiohttp.ClientError, TimeoutError) as err:
            raise HostUnreachableError(
                f"no host answers at {url} ({err or type(err).__name__}). Start one with `durable run`, name another "
                f"with --url, or work on the store itself with --storage."
            ) from err


@asynccontextmanager
async def _in_store(app_dir: Path, storage: str | None, usual: str) -> AsyncIterator[Hub]:
    settings = load_settings(app_dir, os.environ)
    named = storage_url(app_dir, settings, storage)
    if not existing_store(named):
        raise HostUnreachableError(
            f"no host answers at {usual}, and there is no store at {named}. Start the app with `durable run`, or name "
            f"a host with --url, a store with --storage, the app's directory with --app."
        )
    store = open_store(named)
    await store.open()
    try:
        client = OrchestrationClient(store, codec=JsonCodec(), hub_name=settings.hub_name)
        yield HubInStore(client, named)
    finally:
        await store.close()


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
