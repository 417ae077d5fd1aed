"""The app that the tests of the runtime run, on each store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from runtime_app import App

from durable_ext.storage.opening import open_store


@pytest.fixture(params=["memory://", "sqlite:///:memory:"])
async def app(request: pytest.FixtureRequest) -> AsyncIterator[App]:
    store = open_store(request.param)
    await store.open()
    app = App(store)
    yield app
    await app.leave()
    await store.close()


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Give other tasks turns of the loop until something holds."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.001)

    return wait
