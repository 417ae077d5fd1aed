"""One host with every sample in it, as a real process, for all tests of this folder."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from e2e_hub import REPOSITORY, Hub
from hosting import running_host


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    storage = f"sqlite:///{tmp_path_factory.mktemp('samples')}/hub.db"
    with running_host(REPOSITORY, "--storage", storage) as (_, url):
        yield Hub(url)


@pytest.fixture
def unique() -> str:
    """An instance id nobody else uses."""
    return f"test-{uuid.uuid4().hex}"
