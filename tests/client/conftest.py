from __future__ import annotations

import pytest

from durable_ext.client import OrchestrationClient
from durable_ext.codec import JsonCodec
from durable_ext.storage.contract import Store


@pytest.fixture
def client(store: Store) -> OrchestrationClient:
    return OrchestrationClient(store, codec=JsonCodec(), hub_name="TestHub")
