"""A commit counts whole or not at all."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from storage_hub import (
    THEN,
    Status,
    child_start,
    completed,
    create,
    ended,
    finish,
    first_turn,
    message,
    names,
    next_for,
    nothing_else_waits,
    raise_event,
    raised,
    receive_until,
    running,
    scheduled,
    snapshot,
    soon,
    start,
    turn,
    version_of,
    work,
)

from durable_ext.errors import VersionConflictError
from durable_ext.history import LIVE
from durable_ext.storage.contract import Commit, DeadLetter, StatusChange, Store


async def test_committed_events_are_the_history(store: Store) -> None:
    started, version = await running(store)
    await store.commit(
        Commit(instance_id="one", execution_id=started.execution_id, version=version, events=turn(raised("go")))
    )

    expected = [*turn(started), *turn(raised("go"))]
    assert await store.read_history("one") == expected
    assert (await snapshot(store, "one")).history == expected


async def test_an_unknown_instance_has_no_history_and_a_version_to_begin_with(store: Store) -> None:
    unknown = await snapshot(store, "nobody")

    assert (unknown.status, unknown.history) == (None, [])
    assert await store.read_history("nobody") == []
    assert await store.get_instance("nobody") is None
    await store.commit(first_turn(start("nobody"), unknown.version))
    assert (await snapshot(store, "nobody")).status is Status.Running


async def test_the_snapshot_shows_status_and_history_of_the_last_commit(store: Store) -> None:
    started = await create(store)
    pending = await snapshot(store, "one")
    await store.commit(first_turn(started, pending.version))
    now_running = await snapshot(store, "one")

    assert (pending.status, pending.history) == (Status.Pending, [])
    assert (now_running.status, now_running.history) == (Status.Running, turn(started))


async def test_each_commit_returns_the_version_the_next_one_needs(store: Store) -> None:
    started, version = await running(store)
    for number in range(5):
        version = await store.commit(
            Commit(
                instance_id="one", execution_id=started.execution_id, version=version, events=turn(raised(str(number)))
            )
        )
    assert len(await store.read_history("one")) == 3 + 5 * 3


async def test_a_commit_on_an_old_version_stores_nothing(store: Store) -> None:
    started, version = await running(store)
    await raise_event(store, "one", "waiting")
    waiting = await next_for(store, "one")
    await store.commit(Commit(instance_id="one", execution_id=started.execution_id, version=version, events=turn()))
    before = await store.get_instance("one"), await store.read_history("one")

    with pytest.raises(VersionConflictError, match="one") as conflict:
        await store.commit(
            Commit(
                instance_id="one",
                execution_id=started.execution_id,
                version=version,
                events=turn(raised("waiting")),
                messages=[message("one", "lost")],
                queued=[work("one", 0)],
                status=StatusChange(runtime_status=Status.Completed, updated_at=THEN),
                consumed=[waiting.receipt],
                dead_letters=[letter()],
            )
        )

    assert conflict.value.instance_id == "one"
    assert (await store.get_instance("one"), await store.read_history("one")) == before
    assert await store.list_dead_letters() == []
    await store.give_back([waiting], 0)
    assert names(await soon(store.receive())) == ["waiting"], "not consumed"
    await nothing_else_waits(store)
    assert not await has_work(store)


async def test_of_two_commits_on_one_version_one_counts(store: Store) -> None:
    started, version = await running(store)
    commits = [
        Commit(instance_id="one", execution_id=started.execution_id, version=version, events=turn(raised(name)))
        for name in ("first", "second")
    ]

    results = await asyncio.gather(*(store.commit(each) for each in commits), return_exceptions=True)

    assert isinstance(results[1], VersionConflictError)
    assert not isinstance(results[0], BaseException)
    assert raised("second") not in await store.read_history("one")


async def test_a_refused_commit_does_not_touch_its_neighbours(store: Store) -> None:
    instances = [f"instance-{number}" for number in range(20)]
    for each in instances:
        await create(store, each)
    versions = [await version_of(store, each) for each in instances]
    stale = await store.commit(first_turn(start(instances[0]), versions[0]))

    turns = [
        Commit(instance_id=each, execution_id="e", version=version, events=turn(raised("mine")))
        for each, version in zip(instances, versions, strict=True)
    ]
    results = await asyncio.gather(*(store.commit(each) for each in turns), return_exceptions=True)

    assert [isinstance(each, VersionConflictError) for each in results] == [True] + [False] * 19
    assert stale is not None
    for each in instances[1:]:
        assert await store.read_history(each) == turn(raised("mine"))


async def test_the_first_commit_of_a_child_creates_it(store: Store) -> None:
    started = child_start("child", "parent")
    await store.commit(first_turn(started, await version_of(store, "child")))

    record = await store.get_instance("child")
    assert record is not None
    assert (record.runtime_status, record.parent_instance_id, record.name) == (Status.Running, "parent", "Greet")


async def test_a_child_is_created_once(store: Store) -> None:
    version = await version_of(store, "child")
    await store.commit(first_turn(child_start("child", "parent"), version))

    with pytest.raises(VersionConflictError):
        await store.commit(first_turn(child_start("child", "another parent"), version))
    record = await store.get_instance("child")
    assert record is not None
    assert record.parent_instance_id == "parent"


async def test_a_new_generation_replaces_the_history(store: Store) -> None:
    started, version = await running(store)
    version = await store.commit(
        Commit(instance_id="one", execution_id=started.execution_id, version=version, events=turn(raised("old")))
    )
    again = start("one", execution_id="second", start_id=started.start_id, input="2")
    version = await store.commit(first_turn(again, version, replaces_history=True))

    assert await store.read_history("one") == turn(again)
    record = await store.get_instance("one")
    assert record is not None
    assert (record.execution_id, record.input) == ("second", "2")
    await store.commit(Commit(instance_id="one", execution_id="second", version=version, events=turn(raised("new"))))
    assert await store.read_history("one") == [*turn(again), *turn(raised("new"))]


async def test_a_commit_without_events_only_consumes(store: Store) -> None:
    started, version = await running(store)
    await raise_event(store, "one", "unwanted")
    unwanted = await next_for(store, "one")
    version = await store.commit(
        Commit(instance_id="one", execution_id=started.execution_id, version=version, consumed=[unwanted.receipt])
    )

    assert await store.read_history("one") == turn(started)
    await nothing_else_waits(store)
    await store.commit(Commit(instance_id="one", execution_id=started.execution_id, version=version, events=turn()))


async def test_a_commit_without_events_is_refused_on_an_old_version(store: Store) -> None:
    started, version = await running(store)
    await raise_event(store, "one", "unwanted")
    unwanted = await next_for(store, "one")
    discard = Commit(instance_id="one", execution_id=started.execution_id, version=version, consumed=[unwanted.receipt])
    await store.commit(Commit(instance_id="one", execution_id=started.execution_id, version=version, events=turn()))

    with pytest.raises(VersionConflictError):
        await store.commit(discard)
    await store.give_back([unwanted], 0)
    assert names(await soon(store.receive())) == ["unwanted"]


async def test_messages_to_nobody_can_be_consumed(store: Store) -> None:
    started, version = await running(store)
    await store.commit(
        Commit(
            instance_id="one",
            execution_id=started.execution_id,
            version=version,
            events=turn(),
            messages=[message("nobody", "hello")],
        )
    )
    hello = await next_for(store, "nobody")
    unknown = await version_of(store, "nobody")
    await store.commit(
        Commit(
            instance_id="nobody",
            execution_id="none",
            version=unknown,
            consumed=[hello.receipt],
            dead_letters=[letter(instance_id="nobody")],
        )
    )

    assert await store.get_instance("nobody") is None
    assert [each.instance_id for each in await store.list_dead_letters()] == ["nobody"]
    await nothing_else_waits(store)


# --- the status row ----------------------------------------------------------------------------------


async def test_a_new_instance_is_pending_with_everything_its_start_says(store: Store) -> None:
    started = await create(store)

    record = await store.get_instance("one")
    assert record is not None
    assert msgspec.structs.asdict(record) == {
        "instance_id": "one",
        "execution_id": started.execution_id,
        "name": "Greet",
        "runtime_status": Status.Pending,
        "created_at": THEN,
        "updated_at": THEN,
        "input": '"Tokyo"',
        "output": None,
        "custom_status": None,
        "version": "1.0",
        "parent_instance_id": None,
        "tags": {"team": "blue"},
    }


async def test_the_status_row_follows_the_commits(store: Store) -> None:
    started, version = await running(store)
    later = THEN + timedelta(minutes=1)
    await store.commit(
        Commit(
            instance_id="one",
            execution_id=started.execution_id,
            version=version,
            events=turn(ended()),
            status=StatusChange(
                runtime_status=Status.Completed, updated_at=later, custom_status='"almost"', output='"done"'
            ),
        )
    )

    record = await store.get_instance("one")
    assert record is not None
    assert (record.runtime_status, record.updated_at, record.created_at) == (Status.Completed, later, THEN)
    assert (record.custom_status, record.output, record.input) == ('"almost"', '"done"', '"Tokyo"')


async def test_a_commit_without_a_status_leaves_the_row_alone(store: Store) -> None:
    started, version = await running(store)
    before = await store.get_instance("one")
    await store.commit(Commit(instance_id="one", execution_id=started.execution_id, version=version, events=turn()))
    assert await store.get_instance("one") == before


async def test_an_unset_custom_status_is_kept_and_none_removes_it(store: Store) -> None:
    started, version = await running(store)
    seen = []
    for custom_status in ('"halfway"', msgspec.UNSET, None):
        status = StatusChange(runtime_status=Status.Running, updated_at=THEN, custom_status=custom_status)
        version = await store.commit(
            Commit(instance_id="one", execution_id=started.execution_id, version=version, events=turn(), status=status)
        )
        record = await store.get_instance("one")
        assert record is not None
        seen.append(record.custom_status)
    assert seen == ['"halfway"', '"halfway"', None]


@pytest.mark.parametrize(
    ("is_same_line", "created_at", "custom_status"),
    [(True, THEN, '"halfway"'), (False, THEN + timedelta(days=1), None)],
)
async def test_creation_time_and_custom_status_belong_to_the_line_of_executions(
    store: Store, is_same_line: bool, created_at: datetime, custom_status: str | None
) -> None:
    started, version = await running(store)
    halfway = StatusChange(runtime_status=Status.Running, updated_at=THEN, custom_status='"halfway"')
    version = await store.commit(
        Commit(instance_id="one", execution_id=started.execution_id, version=version, events=turn(), status=halfway)
    )
    again = start(
        "one",
        execution_id="second",
        start_id=started.start_id if is_same_line else "second",
        timestamp=THEN + timedelta(days=1),
        input=None,
        tags={},
    )
    await store.commit(first_turn(again, version, replaces_history=True))

    record = await store.get_instance("one")
    assert record is not None
    assert (record.created_at, record.custom_status) == (created_at, custom_status)
    assert (record.execution_id, record.input, record.tags) == ("second", None, {})


async def test_the_status_without_payloads_still_says_what_came_out(store: Store) -> None:
    await finish(store)
    record = await store.get_instance("one", with_payloads=False)
    assert record is not None
    assert (record.runtime_status, record.output) == (Status.Completed, '"done"')


# --- messages and dead letters -----------------------------------------------------------------------


async def test_messages_of_a_commit_reach_their_instances(store: Store) -> None:
    started, version = await running(store)
    await store.commit(
        Commit(
            instance_id="one",
            execution_id=started.execution_id,
            version=version,
            events=turn(),
            messages=[message("one", "to itself"), message("two", "to another")],
        )
    )

    deliveries = await receive_until(store, "to another")
    assert [(each.instance_id, *names([each])) for each in deliveries] == [
        ("one", "to itself"),
        ("two", "to another"),
    ]


async def test_an_event_arrives_as_it_was_sent(store: Store) -> None:
    started, version = await running(store)
    outcome = completed(7)
    answer = message("one", "x")
    await store.commit(
        Commit(
            instance_id="one",
            execution_id=started.execution_id,
            version=version,
            events=turn(scheduled(7)),
            messages=[msgspec.structs.replace(answer, event=outcome, execution_id="exactly this")],
        )
    )
    delivery = await next_for(store, "one")
    assert (delivery.event, delivery.execution_id) == (outcome, "exactly this")


async def test_dead_letters_keep_payload_and_reason_newest_first(store: Store) -> None:
    started, version = await running(store)
    letters = [letter(name=name) for name in ("old", "middle", "new")]
    await store.commit(
        Commit(
            instance_id="one",
            execution_id=started.execution_id,
            version=version,
            events=turn(),
            dead_letters=letters,
        )
    )

    found = await store.list_dead_letters()
    assert [each.name for each in found] == ["new", "middle", "old"]
    assert len({each.letter_id for each in found}) == 3
    assert 0 not in {each.letter_id for each in found}
    assert msgspec.structs.replace(found[0], letter_id=0) == letters[2]
    assert [each.name for each in await store.list_dead_letters(limit=1)] == ["new"]


async def test_sending_needs_an_instance_in_an_accepted_status(store: Store) -> None:
    await create(store)
    assert await store.send(message("one", "hello"), accepted=LIVE) is Status.Pending
    assert names(await receive_until(store, "hello")) == ["Greet", "hello"]


def letter(instance_id: str = "one", name: str = "SayHello") -> DeadLetter:
    return DeadLetter(
        kind="activity",
        instance_id=instance_id,
        name=name,
        payload='"Tokyo"',
        reason="it killed its process five times",
        created_at=datetime(2024, 5, 1, tzinfo=UTC),
    )


async def has_work(store: Store) -> bool:
    """Whether work is waiting, told by what comes when one more item is added."""
    started, version = await running(store, "work-marker")
    await store.commit(
        Commit(
            instance_id="work-marker",
            execution_id=started.execution_id,
            version=version,
            events=turn(scheduled(0)),
            queued=[work("work-marker", 0)],
        )
    )
    items = await soon(store.receive_work(10))
    return [each.instance_id for each in items] != ["work-marker"]
