"""Every store there is, by what it promises. A test says by the fixture it asks for which stores it runs on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from storage_hubs import HandClock, Hub, make_hub, nothing_lost
from storage_mail import Mail

from durable_ext.storage.contract import Store
from durable_ext.storage.sqlite.store import SqliteStore

# A hub in one store object; a hub that outlives it, and that several may open; one that has one host, or many.
ALL = ["sqlite", "sqlite in memory", "dictionaries"]
LASTING = ["sqlite", "dictionaries"]
SINGLE_HOST = ["sqlite"]
SHARED = ["dictionaries"]


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(params=ALL)
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: HandClock) -> AsyncIterator[Store]:
    """A store, of whatever kind, that hosts an empty hub."""
    hub = make_hub(request.param, tmp_path, clock)
    yield await hub.host()
    await hub.close()


@pytest.fixture
def mail(store: Store) -> Mail:
    return Mail(store)


@pytest.fixture(params=LASTING)
async def hub(request: pytest.FixtureRequest, tmp_path: Path, clock: HandClock) -> AsyncIterator[Hub]:
    hub = make_hub(request.param, tmp_path, clock)
    yield hub
    await hub.close()


@pytest.fixture(params=SINGLE_HOST)
async def single_host_hub(request: pytest.FixtureRequest, tmp_path: Path, clock: HandClock) -> AsyncIterator[Hub]:
    hub = make_hub(request.param, tmp_path, clock)
    yield hub
    await hub.close()


@pytest.fixture(params=SHARED)
async def shared_hub(request: pytest.FixtureRequest, tmp_path: Path, clock: HandClock) -> AsyncIterator[Hub]:
    hub = make_hub(request.param, tmp_path, clock)
    yield hub
    await hub.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is of those tests that look into it."""
    return tmp_path / "hub.db"


@pytest.fixture
async def sqlite(path: Path, clock: HandClock) -> AsyncIterator[SqliteStore]:
    """A SQLite store that hosts an empty hub in a file."""
    store = SqliteStore(str(path), clock=clock)
    await store.open()
    await store.host("the test", nothing_lost)
    yield store
    await store.close()


@pytest.fixture
def sqlite_mail(sqlite: SqliteStore) -> Mail:
    return Mail(sqlite)
