"""How instances begin, are replaced, and are purged."""

from __future__ import annotations

import asyncio

import pytest
from storage_mail import Mail, names
from storage_records import ANY_STATE, create, finish, first_turn, message, running, start, version_of

from durable_ext.errors import InstanceAlreadyExistsError, VersionConflictError
from durable_ext.history import TERMINAL
from durable_ext.storage.contract import Store


async def test_of_two_starts_with_one_id_exactly_one_succeeds(store: Store, mail: Mail) -> None:
    starts = [start("one", input=str(number)) for number in range(10)]
    results = await asyncio.gather(
        *(store.create_instance(each, overridable=TERMINAL) for each in starts), return_exceptions=True
    )
    refused = [each for each in results if isinstance(each, InstanceAlreadyExistsError)]
    assert len(refused) == 9
    assert {(each.instance_id, each.status) for each in refused} == {("one", "Pending")}
    (accepted,) = [each for each, result in zip(starts, results, strict=True) if result is None]
    assert [each.event for each in await mail.rest()] == [accepted]


async def test_a_refused_start_changes_nothing(store: Store, mail: Mail) -> None:
    one = await running(mail)
    before = await store.get_instance("one")
    with pytest.raises(InstanceAlreadyExistsError, match="Running"):
        await create(store, "one", name="Another")

    assert await store.get_instance("one") == before
    assert await mail.rest() == []
    await one.commit()


async def test_a_finished_instance_can_be_started_again(store: Store, mail: Mail) -> None:
    await finish(mail)
    await store.flush()
    again = await create(store, "one", name="Again", input=None)

    record = await store.get_instance("one")
    assert record is not None
    assert (record.name, record.runtime_status.value, record.output) == ("Again", "Pending", None)
    assert record.execution_id == again.execution_id
    assert await store.read_history("one") == []
    assert names([await mail.next()]) == ["Again"]


async def test_a_turn_of_the_replaced_instance_does_not_count(store: Store, mail: Mail) -> None:
    old = await running(mail)
    await store.create_instance(start("one"), overridable=ANY_STATE)
    # Bring the new instance as far as the old one had come.
    await store.commit(first_turn(start("one"), await version_of(store)))

    with pytest.raises(VersionConflictError):
        await old.end()


async def test_a_version_from_before_a_purge_never_counts_again(store: Store, mail: Mail) -> None:
    old = await finish(mail)
    await store.flush()
    await store.purge(["one"])
    with pytest.raises(VersionConflictError):
        await old.commit()
    new = await finish(mail)
    with pytest.raises(VersionConflictError):
        await old.commit()
    await new.commit()


async def test_purge_removes_only_what_has_ended(store: Store, mail: Mail) -> None:
    await finish(mail, "ended")
    await running(mail, "running")
    await create(store, "pending")
    await store.flush()

    assert await store.purge(["ended", "running", "pending", "unknown", "ended"]) == 1
    assert await store.get_instance("ended") is None
    assert await store.read_history("ended") == []
    assert await store.get_instance("running") is not None
    assert await store.get_instance("pending") is not None
    assert await store.purge(["ended"]) == 0


async def test_purge_removes_messages_and_work(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await one.commit(queued=[one.work(0)], inline=[one.work(1)])
    await one.end()
    await store.send(message("one", "too late"), accepted=TERMINAL)
    await store.flush()
    assert await store.purge(["one"]) == 1
    await create(store, name="Again")
    assert names(await mail.rest()) == ["Again"]


async def test_purge_of_many_instances(store: Store, mail: Mail) -> None:
    ids = [f"instance-{number:03}" for number in range(450)]
    for each in ids:
        await finish(mail, each)
    await store.flush()
    assert await store.purge(ids) == 450
    assert await store.purge(ids) == 0
