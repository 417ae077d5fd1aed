"""Finding instances: pages, filters, purging what is found."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone

import pytest
from storage_mail import Mail
from storage_records import THEN, Status, create, finish, first_turn, running, start, version_of

from durable_ext.storage.contract import InstanceQuery, StatusChange, Store


async def all_ids(store: Store, query: InstanceQuery) -> list[str]:
    return [each.instance_id for each in (await store.list_instances(query)).instances]


async def test_pages_are_in_order_of_ids_and_leave_nothing_out(store: Store, mail: Mail) -> None:
    ids = [f"instance-{number}" for number in range(25)]
    for each in reversed(ids):
        await create(store, each)

    found, token, sizes = [], None, []
    while True:
        page = await store.list_instances(InstanceQuery(page_size=10, continuation_token=token))
        found += [each.instance_id for each in page.instances]
        sizes.append(len(page.instances))
        token = page.continuation_token
        if token is None:
            break
    assert found == sorted(ids)
    assert sum(sizes) == 25


async def test_ids_are_in_the_order_of_their_code_points(store: Store) -> None:
    ids = ["Z", "a", "a-b", "aa", "z", "ä", "漢", "\uffee", "😀"]
    for each in reversed(ids):
        await create(store, each)
    found, token = [], None
    while True:
        page = await store.list_instances(InstanceQuery(page_size=1, continuation_token=token))
        found += [each.instance_id for each in page.instances]
        token = page.continuation_token
        if token is None:
            break
        assert token.isascii()
        assert token.isprintable()
    assert found == ids


async def test_paging_survives_changes_between_pages(store: Store, mail: Mail) -> None:
    for each in ("b", "d", "f"):
        await finish(mail, each)
    first = await store.list_instances(InstanceQuery(page_size=2))
    await store.purge(["d"])
    await create(store, "e")
    second = await store.list_instances(InstanceQuery(page_size=2, continuation_token=first.continuation_token))
    assert [each.instance_id for each in second.instances] == ["e", "f"]


@pytest.mark.parametrize("token", ["%%%", "abcd", "ä", "YWJj"])
async def test_a_token_that_is_none_of_ours_is_refused(store: Store, mail: Mail, token: str) -> None:
    with pytest.raises(ValueError, match="continuation token"):
        await store.list_instances(InstanceQuery(continuation_token=token))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (InstanceQuery(), ["Order-3", "order-1", "order-2", "order_4", "zebra"]),
        (InstanceQuery(instance_id_prefix="order-"), ["order-1", "order-2"]),
        (InstanceQuery(instance_id_prefix="order_"), ["order_4"]),
        (InstanceQuery(instance_id_prefix="%"), []),
        (InstanceQuery(instance_id_prefix="@"), ["@counter@one"]),
        (InstanceQuery(statuses=frozenset({Status.Completed})), ["order-1"]),
        (InstanceQuery(statuses=frozenset({Status.Completed, Status.Running})), ["order-1", "order-2"]),
        (InstanceQuery(statuses=frozenset({Status.Terminated})), []),
        (InstanceQuery(name="stripes"), ["zebra"]),
        (InstanceQuery(name="STRIPES"), ["zebra"]),
        (InstanceQuery(name="stripe"), []),
        (InstanceQuery(instance_id_prefix="ord", name="greet"), ["order-1", "order-2", "order_4"]),
        (InstanceQuery(created_from=THEN + timedelta(days=1)), ["order_4"]),
        (InstanceQuery(created_to=THEN + timedelta(days=1)), ["Order-3", "order-1", "order-2", "order_4", "zebra"]),
        (InstanceQuery(created_to=THEN), ["Order-3", "order-1", "order-2", "zebra"]),
        (InstanceQuery(created_from=THEN + timedelta(microseconds=1), created_to=THEN + timedelta(hours=1)), []),
        (InstanceQuery(instance_id_prefix="order", statuses=frozenset({Status.Pending})), ["order_4"]),
    ],
)
async def test_filters(store: Store, mail: Mail, query: InstanceQuery, expected: list[str]) -> None:
    await finish(mail, "order-1")
    await running(mail, "order-2")
    await create(store, "Order-3")
    await create(store, "order_4", timestamp=THEN + timedelta(days=1))
    await create(store, "zebra", name="Stripes")
    await create(store, "@counter@one")
    assert await all_ids(store, query) == expected


async def test_names_differ_in_the_case_of_other_letters_than_ascii(store: Store) -> None:
    await create(store, "one", name="Écoute")
    assert await all_ids(store, InstanceQuery(name="ÉCOUTE")) == ["one"]
    assert await all_ids(store, InstanceQuery(name="écoute")) == []


async def test_times_in_another_zone_mean_the_same_moment(store: Store, mail: Mail) -> None:
    await create(store)
    moment = THEN.astimezone(timezone(timedelta(hours=5)))
    assert await all_ids(store, InstanceQuery(created_from=moment, created_to=moment)) == ["one"]
    record = await store.get_instance("one")
    assert record is not None
    assert record.created_at.tzinfo is UTC


async def test_listing_without_payloads_leaves_inputs_out(store: Store, mail: Mail) -> None:
    await create(store)
    (lean,) = (await store.list_instances(InstanceQuery(with_payloads=False))).instances
    (full,) = (await store.list_instances(InstanceQuery())).instances
    assert (lean.input, full.input) == (None, '"Tokyo"')


# --- purging what is found -----------------------------------------------------------------------------


async def test_purge_matching_touches_only_what_matches_and_has_ended(store: Store, mail: Mail) -> None:
    await finish(mail, "a-ended")
    await running(mail, "a-running")
    await finish(mail, "b-ended")
    await store.flush()

    assert await store.purge_matching(InstanceQuery(instance_id_prefix="a-")) == 1
    assert await store.purge_matching(InstanceQuery(statuses=frozenset({Status.Running}))) == 0
    assert await store.purge_matching(InstanceQuery(created_from=THEN + timedelta(seconds=1))) == 0
    assert await all_ids(store, InstanceQuery()) == ["a-running", "b-ended"]


async def test_purge_matching_does_not_care_for_pages(store: Store) -> None:
    for number in range(450):
        started = start(f"instance-{number:03}")
        ended = StatusChange(runtime_status=Status.Completed, updated_at=THEN, started=started)
        await store.commit(first_turn(started, await version_of(store, started.instance_id), status=ended))
    await store.flush()
    assert await store.purge_matching(InstanceQuery(instance_id_prefix="instance-", page_size=1)) == 450
    assert (await store.list_instances(InstanceQuery())).instances == []
