from __future__ import annotations

import pytest

from durable_ext.client import OrchestrationClient
from durable_ext.settings import Settings
from durable_ext.storage.contract import Store
from durable_ext.taskhub import TaskHub


@pytest.fixture
def hub(store: Store) -> TaskHub:
    return TaskHub(store, settings=Settings(hub_name="TestHub"))


@pytest.fixture
def client(hub: TaskHub) -> OrchestrationClient:
    return hub.client
