"""The clients of an app's functions, made from the one task hub there is in this process."""

from __future__ import annotations

import asyncio

from durable_ext.errors import ConfigurationError
from durable_ext.functions.client import DurableOrchestrationClient, SyncDurableOrchestrationClient
from durable_ext.taskhub import TaskHub


class HubClients:
    """Gives functions the client of `hub`. To be made on the event loop that the hub was opened on."""

    def __init__(self, hub: TaskHub) -> None:
        self._client = hub.client_as(DurableOrchestrationClient)
        self._loop = asyncio.get_running_loop()

    def async_client(self, task_hub: str | None, connection_name: str | None) -> DurableOrchestrationClient:
        """The client, for coroutine functions."""
        own = self._client.task_hub_name
        if task_hub and task_hub.casefold() != own.casefold():
            raise ConfigurationError(
                f"a function asks for a client of task hub '{task_hub}', and this host runs one hub only, '{own}'. "
                f"Leave task_hub out, or run that hub's app and use its HTTP API."
            )
        return self._client

    def sync_client(self, task_hub: str | None, connection_name: str | None) -> SyncDurableOrchestrationClient:
        """The client, for functions on threads."""
        return SyncDurableOrchestrationClient(self.async_client(task_hub, connection_name), self._loop)
