"""`durable deadletters`: what was given up on can be seen, with or without a running host."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hosting import DEADLINE, DURABLE, running_host, write_app

from durable_ext.storage.contract import Commit, DeadLetter
from durable_ext.storage.opening import open_store

LETTER = DeadLetter(
    kind="activity",
    instance_id="order-1",
    name="charge",
    payload='{"amount":1}',
    reason="it killed its process 5 times",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)


@pytest.fixture
async def app(tmp_path: Path) -> Path:
    """An app whose hub has one dead letter."""
    directory = write_app(tmp_path / "app", "")
    (directory / ".durable").mkdir()
    store = open_store(f"sqlite:///{directory / '.durable' / 'TestHubName.db'}")
    await store.open()
    await store.host("the test", lambda: None)
    opening = await store.begin("order-1", None, [])
    assert opening.snapshot is not None
    await store.commit(
        Commit(instance_id="order-1", execution_id="", version=opening.snapshot.version, dead_letters=[LETTER])
    )
    await store.close()
    return directory


def deadletters(*arguments: str, cwd: Path) -> str:
    """What the command prints."""
    command = [*DURABLE, "deadletters", *arguments]
    found = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=DEADLINE, check=True)
    return found.stdout


def test_dead_letters_show_what_was_given_up_and_why(app: Path) -> None:
    (found,) = json.loads(deadletters("--json", cwd=app))
    assert (found["kind"], found["instance_id"], found["payload"]) == ("activity", "order-1", '{"amount":1}')
    table = deadletters(cwd=app)
    assert "charge" in table
    assert "it killed its process 5 times" in table


def test_dead_letters_come_from_a_running_host_too(app: Path) -> None:
    alone = deadletters("--json", cwd=app)
    with running_host(app) as (_, url):
        assert deadletters("--json", "--url", url, cwd=app) == alone


def test_a_hub_without_dead_letters_says_so(tmp_path: Path) -> None:
    with running_host(write_app(tmp_path / "app", "")) as (_, url):
        assert deadletters("--url", url, cwd=tmp_path).strip() == "no dead letters"
