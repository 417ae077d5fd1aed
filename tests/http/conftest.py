from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from durable_ext.client import OrchestrationClient
from durable_ext.http.api import ManagementApi
from durable_ext.http.messages import Request, Response
from durable_ext.registry import Orchestrator, Registry
from durable_ext.settings import HttpSettings, Settings
from durable_ext.storage.contract import Store
from durable_ext.taskhub import TaskHub

BASE = "http://localhost:7071/runtime/webhooks/durabletask"


class Caller:
    """Sends requests to an API as an adapter would."""

    def __init__(self, api: ManagementApi) -> None:
        self.api = api

    async def __call__(
        self,
        method: str,
        target: str,
        *,
        content: Any = ...,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> Response:
        """Target: path and query, or a URL the API itself has handed out. Content: what is sent as JSON."""
        parts = urlsplit(target.removeprefix(BASE))
        if content is not ...:
            body, headers = json.dumps(content).encode(), {"Content-Type": "application/json", **(headers or {})}
        request = Request(
            method=method,
            path=parts.path,
            base_url=BASE,
            query=parse_qs(parts.query, keep_blank_values=True),
            headers=headers or {},
            body=body,
        )
        response = await self.api.handle(request)
        assert bool(response.body) == ("Content-Type" in response.headers)
        return response


@pytest.fixture
def hub_with(store: Store) -> Callable[..., TaskHub]:
    """Makes a hub with two orchestrators and the given options."""
    registry = Registry()
    for name in ("Hello", "RestartVMs"):
        registry.orchestrators.add(Orchestrator(name=name, function=lambda context: None))

    def make(*, use_forwarded_host: bool = False, default_version: str | None = None, **options: Any) -> TaskHub:
        http_settings = HttpSettings(use_forwarded_host=use_forwarded_host)
        settings = Settings(hub_name="TestHub", http_settings=http_settings, default_version=default_version)
        return TaskHub(store, registry, settings=settings, **options)

    return make


@pytest.fixture
def client(hub_with: Callable[..., TaskHub]) -> OrchestrationClient:
    return hub_with().client


@pytest.fixture
def calling(hub_with: Callable[..., TaskHub]) -> Callable[..., Caller]:
    """Makes a caller of the API of a hub with the given options."""
    return lambda **options: Caller(hub_with(**options).api)


@pytest.fixture
def call(calling: Callable[..., Caller]) -> Caller:
    return calling()
