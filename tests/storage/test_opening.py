"""Addresses of stores."""

from __future__ import annotations

from pathlib import Path

import pytest
from storage_hubs import HandClock, nothing_lost
from storage_records import create

from durable_ext.errors import ConfigurationError, StoreError
from durable_ext.settings import Settings
from durable_ext.storage.memory import MemoryStore
from durable_ext.storage.opening import open_store, sqlite_file


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


@pytest.mark.parametrize(("options", "synchronous"), [("", 2), ("?synchronous=full", 2), ("?synchronous=normal", 1)])
async def test_an_absolute_address(tmp_path: Path, options: str, synchronous: int) -> None:
    store = open_store(f"sqlite:///{tmp_path}/hub.db{options}", Settings())
    await store.open()
    await create(store)
    writer = store._writer  # type: ignore[attr-defined]
    assert await writer.submit(lambda tx: tx.execute("PRAGMA synchronous").fetchone()) == (synchronous,)
    await store.close()
    assert (tmp_path / "hub.db").exists()


@pytest.mark.parametrize("url", ["memory://", "sqlite:///:memory:"])
async def test_each_address_in_memory_is_a_hub_of_its_own(url: str) -> None:
    stores = [open_store(url), open_store(url)]
    for each in stores:
        await each.open()
    await create(stores[0])
    assert [await each.get_instance("one") is not None for each in stores] == [True, False]
    for each in stores:
        await each.close()


@pytest.mark.parametrize("url", ["memory://", "sqlite:///:memory:", "sqlite:///{directory}/hub.db"])
async def test_a_store_goes_by_the_clock_it_is_given(tmp_path: Path, url: str) -> None:
    clock = HandClock()
    store = open_store(url.format(directory=tmp_path), clock=clock)
    await store.open()
    await store.host("the test", nothing_lost)
    await create(store)
    (delivery,) = await store.receive()
    await store.give_back([delivery], 3600)
    clock.advance(3601)
    assert (await store.receive())[0].receipt == delivery.receipt
    await store.close()


def test_memory_is_the_store_in_dictionaries() -> None:
    assert isinstance(open_store("memory://"), MemoryStore)


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:///hub.db", "hub.db"),
        ("sqlite:////var/hub.db?synchronous=normal", "/var/hub.db"),
        ("sqlite:///:memory:", None),
        ("memory://", None),
        ("UseDevelopmentStorage=true", None),
    ],
)
def test_the_file_behind_an_address(url: str, file: str | None) -> None:
    assert sqlite_file(url) == (None if file is None else Path(file))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://localhost/hub", "not supported"),
        ("hub.db", "sqlite:///relative/path.db"),
        ("sqlite://hub.db", "sqlite:///relative/path.db"),
        ("sqlite:///", "names no file"),
        ("sqlite:///hub.db?sync=off", "sync=off"),
        ("sqlite:///hub.db?synchronous=off", "synchronous=off"),
        ("memory://hub", "not supported"),
        ("memory:", "memory://"),
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
