"""Addresses of stores."""

from __future__ import annotations

from pathlib import Path

import pytest
from storage_hub import create

from durable_ext.errors import ConfigurationError, StoreError
from durable_ext.storage.opening import open_store


async def test_a_relative_address_is_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("sqlite:///hub.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    await store.open()
    await store.close()
    assert (tmp_path / "hub.db").exists()


@pytest.mark.parametrize("options", ["", "?synchronous=full", "?synchronous=normal"])
async def test_an_absolute_address(tmp_path: Path, options: str) -> None:
    store = open_store(f"sqlite:///{tmp_path}/hub.db{options}")
    await store.open()
    await create(store)
    await store.close()
    assert (tmp_path / "hub.db").exists()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://localhost/hub", "not supported"),
        ("hub.db", "sqlite:///relative/path.db"),
        ("sqlite://hub.db", "sqlite:///relative/path.db"),
        ("sqlite:///", "names no file"),
        ("sqlite:///hub.db?sync=off", "sync=off"),
        ("sqlite:///hub.db?synchronous=off", "synchronous=off"),
        ("UseDevelopmentStorage=true", "Azure Storage is not in this release"),
    ],
)
def test_an_address_that_means_nothing_says_what_would(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        open_store(url)


def test_the_message_does_not_show_keys() -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_store("DefaultEndpointsProtocol=https;AccountName=a;AccountKey=c2VjcmV0")
    assert "c2VjcmV0" not in str(refused.value)


async def test_a_directory_that_does_not_exist_is_named(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/missing/hub.db")
    with pytest.raises(StoreError, match=r"missing/hub\.db.*directory"):
        await store.open()
