"""Every store there is. A test that asks for `store` or `hub_url` runs on each of them."""

from __future__ import annotations

import asyncio
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from storage_hub import kill, nothing_lost

from durable_ext.storage.contract import Store
from durable_ext.storage.opening import open_store

Opener = Callable[[], Awaitable[Store]]
Run = Callable[[str], Awaitable[asyncio.subprocess.Process]]


@pytest.fixture(params=["sqlite", "sqlite in memory"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty hub."""
    return "sqlite:///:memory:" if "memory" in request.param else f"sqlite:///{tmp_path / 'hub.db'}"


@pytest.fixture(params=["sqlite"])
def hub_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty hub that outlives its process and that several may open."""
    return f"sqlite:///{tmp_path / 'hub.db'}"


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    """A store that hosts an empty hub."""
    store = open_store(store_url)
    await store.open()
    await store.host("the test", nothing_lost)
    yield store
    await store.close()


@pytest.fixture
async def open_client(hub_url: str) -> AsyncIterator[Opener]:
    """Open the hub once more. Everything is closed in the end."""
    opened: list[Store] = []

    async def open_one() -> Store:
        store = open_store(hub_url)
        await store.open()
        opened.append(store)
        return store

    yield open_one
    for each in opened:
        await each.close()


@pytest.fixture
async def open_host(open_client: Opener) -> Opener:
    """Open the hub once more, as its host."""

    async def open_one() -> Store:
        store = await open_client()
        await store.host("the test", nothing_lost)
        return store

    return open_one


_PROLOGUE = """
import asyncio, sys
sys.path.insert(0, {here!r})
from storage_hub import *
from durable_ext.storage.opening import open_store

def say(text):
    print(text, flush=True)

async def main():
    store = open_store({url!r})
    await store.open()
"""


@pytest.fixture
async def run_process(hub_url: str) -> AsyncIterator[Run]:
    """Run a script on the hub in a process of its own, up to the first line it prints. Killed in the end."""
    processes: list[asyncio.subprocess.Process] = []

    async def run(script: str) -> asyncio.subprocess.Process:
        prologue = _PROLOGUE.format(here=str(Path(__file__).parent), url=hub_url)
        program = f"{prologue}\n{textwrap.indent(textwrap.dedent(script), '    ')}\nasyncio.run(main())\n"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        processes.append(process)
        return process

    yield run
    for each in processes:
        await kill(each)
