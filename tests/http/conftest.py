from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from durable_ext.client import OrchestrationClient
from durable_ext.codec import JsonCodec
from durable_ext.http.api import ManagementApi
from durable_ext.http.messages import Request, Response
from durable_ext.registry import FunctionTable, Orchestrator
from durable_ext.storage.contract import Store

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
def orchestrators() -> FunctionTable[Orchestrator]:
    table: FunctionTable[Orchestrator] = FunctionTable("orchestrator")
    for name in ("Hello", "RestartVMs"):
        table.add(Orchestrator(name=name, function=lambda context: None))
    return table


@pytest.fixture
def client(store: Store, orchestrators: FunctionTable[Orchestrator]) -> OrchestrationClient:
    return OrchestrationClient(store, codec=JsonCodec(), hub_name="TestHub", known_orchestrators=lambda: orchestrators)


@pytest.fixture
def calling(client: OrchestrationClient) -> Callable[..., Caller]:
    """Makes a caller of an API with the given options."""

    def make(**options: Any) -> Caller:
        return Caller(ManagementApi(client, **options))

    return make


@pytest.fixture
def call(calling: Callable[..., Caller]) -> Caller:
    return calling()
