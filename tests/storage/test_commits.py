"""What a commit is: a turn that counts whole or not at all."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import msgspec
import pytest
from storage_mail import Mail, names
from storage_records import (
    ANY_STATE,
    THEN,
    Instance,
    Status,
    child_start,
    completed,
    create,
    ended,
    finish,
    first_turn,
    letter,
    message,
    raise_event,
    raised,
    running,
    scheduled,
    snapshot,
    soon,
    start,
    turn,
    version_of,
)

from durable_ext.errors import VersionConflictError
from durable_ext.storage.contract import InstanceRecord, StatusChange, Store


async def row(store: Store, instance_id: str = "one") -> InstanceRecord:
    await store.flush()
    found = await store.get_instance(instance_id)
    assert found is not None
    return found


# --- the version check -------------------------------------------------------------------------------


async def test_each_commit_returns_the_version_the_next_one_needs(store: Store, mail: Mail) -> None:
    one = await running(mail)
    for number in range(5):
        await one.commit(raised(str(number)))
    assert len(await store.read_history("one")) == 3 + 5 * 3


async def test_a_commit_on_an_old_version_does_nothing(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await raise_event(store, "one", "waiting")
    await raise_event(store, "one", "waiting too")
    waiting = await mail.until("waiting too")
    late = one.turn(
        raised("waiting"),
        messages=[message("one", "lost")],
        queued=[one.work(0)],
        inline=[one.work(1)],
        status=StatusChange(runtime_status=Status.Completed, updated_at=THEN),
        consumed=[waiting[0].receipt],
        kept=[waiting[1].receipt],
        dead_letters=[letter()],
    )
    await one.commit()
    before = await row(store), await store.read_history("one")

    with pytest.raises(VersionConflictError, match="one") as conflict:
        await store.commit(late)

    assert conflict.value.instance_id == "one"
    assert (await row(store), await store.read_history("one")) == before
    assert await store.list_dead_letters() == []
    loaded = await store.begin("one", None, waiting)
    assert [(*names([each]), each.is_kept) for each in loaded.deliveries] == [
        ("waiting", False),
        ("waiting too", False),
    ]
    assert await mail.rest() == []
    await one.commit(queued=[one.work(2)])
    assert [each.task_id for each in await soon(store.receive_work(10))] == [2]


async def test_of_two_commits_on_one_version_one_counts(store: Store, mail: Mail) -> None:
    one = await running(mail)
    turns = [one.turn(raised(name)) for name in ("first", "second")]

    results = await asyncio.gather(*(store.commit(each) for each in turns), return_exceptions=True)

    lost = [number for number, each in enumerate(results) if isinstance(each, VersionConflictError)]
    assert len(lost) == 1
    assert await store.read_history("one") == [*turn(one.started), *turns[1 - lost[0]].events]


async def test_a_commit_made_again_loses_its_version_check(store: Store, mail: Mail) -> None:
    one = await running(mail)
    again = one.turn(raised("once"))
    await store.commit(again)
    with pytest.raises(VersionConflictError):
        await store.commit(again)
    assert (await snapshot(store)).history == [*turn(one.started), *turn(raised("once"))]


async def test_a_refused_commit_does_not_touch_its_neighbours(store: Store) -> None:
    instances = [f"instance-{number}" for number in range(20)]
    for each in instances:
        await create(store, each)
    turns = [first_turn(start(each), await version_of(store, each)) for each in instances]
    await store.commit(turns[0])

    results = await asyncio.gather(*(store.commit(each) for each in turns), return_exceptions=True)

    assert [isinstance(each, VersionConflictError) for each in results] == [True] + [False] * 19
    for each in turns[1:]:
        assert await store.read_history(each.instance_id) == each.events


# --- the history -------------------------------------------------------------------------------------


async def test_committed_events_are_the_history(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await one.commit(raised("go"))

    expected = [*turn(one.started), *turn(raised("go"))]
    assert await store.read_history("one") == expected
    assert (await snapshot(store)).history == expected


async def test_an_unknown_instance_has_no_history_and_a_version_to_begin_with(store: Store) -> None:
    unknown = await snapshot(store, "nobody")

    assert (unknown.status, unknown.history, unknown.unreadable) == (None, [], None)
    assert await store.read_history("nobody") == []
    assert await store.get_instance("nobody") is None
    await store.commit(first_turn(start("nobody"), unknown.version))
    assert (await snapshot(store, "nobody")).status is Status.Running


async def test_the_snapshot_shows_status_and_history_of_the_last_commit(store: Store) -> None:
    started = await create(store)
    pending = await snapshot(store)
    await store.commit(first_turn(started, pending.version))
    now_running = await snapshot(store)

    assert (pending.status, pending.history) == (Status.Pending, [])
    assert (now_running.status, now_running.history) == (Status.Running, turn(started))


async def test_the_first_commit_of_a_child_creates_it(store: Store) -> None:
    started = child_start("child", "parent")
    await store.commit(first_turn(started, await version_of(store, "child")))

    assert (await row(store, "child")).parent_instance_id == "parent"
    assert await store.read_history("child") == turn(started)


async def test_only_one_of_two_can_create_an_instance(store: Store) -> None:
    unknown = await version_of(store, "child")
    await store.commit(first_turn(start("child"), unknown))
    with pytest.raises(VersionConflictError):
        await store.commit(first_turn(start("child"), unknown))


async def test_the_first_commit_needs_a_start(store: Store) -> None:
    nobody = Instance(store, start("nobody"), await version_of(store, "nobody"))
    with pytest.raises(ValueError, match="nobody"):
        await nobody.commit(raised("go"))
    assert await store.get_instance("nobody") is None


async def test_a_new_generation_replaces_the_history_in_the_same_step(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await one.commit(raised("old"))
    again = start("one", execution_id="second", start_id=one.started.start_id, input="2")
    version = await store.commit(first_turn(again, one.version, replaces_history=True))

    assert await store.read_history("one") == turn(again)
    found = await row(store)
    assert (found.execution_id, found.input) == ("second", "2")
    await Instance(store, again, version).commit(raised("new"))
    assert await store.read_history("one") == [*turn(again), *turn(raised("new"))]


async def test_what_is_done_to_a_history_that_was_read_changes_nothing(store: Store, mail: Mail) -> None:
    await running(mail)
    for read in ((await snapshot(store)).history, await store.read_history("one")):
        expected = list(read)
        read.clear()
        assert await store.read_history("one") == expected
        assert (await snapshot(store)).history == expected


# --- what a commit removes ---------------------------------------------------------------------------


async def test_a_commit_without_events_only_consumes(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await raise_event(store, "one", "unwanted")
    unwanted = await mail.next()
    await one.remove(unwanted.receipt)

    assert await store.read_history("one") == turn(one.started)
    assert not (await store.begin("one", None, [unwanted])).deliveries
    await one.commit(raised("and on"))


async def test_a_commit_without_events_is_refused_on_an_old_version(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await raise_event(store, "one", "unwanted")
    unwanted = await mail.next()
    discard = one.turn(events=(), consumed=[unwanted.receipt])
    await one.commit()

    with pytest.raises(VersionConflictError):
        await store.commit(discard)
    assert list((await store.begin("one", None, [unwanted])).deliveries) == [unwanted]


async def test_messages_to_nobody_can_be_consumed(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await one.commit(messages=[message("nobody", "hello")])
    hello = await mail.next("nobody")
    nobody = Instance(store, start("nobody"), await version_of(store, "nobody"))
    await nobody.remove(hello.receipt, dead_letters=[letter("nobody")])

    assert await store.get_instance("nobody") is None
    assert [each.instance_id for each in await store.list_dead_letters()] == ["nobody"]
    assert not (await store.begin("nobody", None, [hello])).deliveries


# --- the status row ----------------------------------------------------------------------------------


async def test_a_new_instance_is_pending_with_everything_its_start_says(store: Store) -> None:
    started = await create(store)

    assert msgspec.structs.asdict(await row(store)) == {
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


async def test_the_status_row_follows_the_commits(store: Store, mail: Mail) -> None:
    one = await running(mail)
    later = THEN + timedelta(minutes=1)
    change = StatusChange(runtime_status=Status.Completed, updated_at=later, custom_status='"almost"', output='"done"')
    await one.commit(ended(), status=change)

    found = await row(store)
    assert (found.runtime_status, found.updated_at, found.created_at) == (Status.Completed, later, THEN)
    assert (found.custom_status, found.output, found.input) == ('"almost"', '"done"', '"Tokyo"')


async def test_a_commit_without_a_status_leaves_the_row_alone(store: Store, mail: Mail) -> None:
    one = await running(mail)
    before = await row(store)
    await one.commit()
    assert await row(store) == before


async def test_an_unset_custom_status_is_left_as_it_is_and_none_removes_it(store: Store, mail: Mail) -> None:
    one = await running(mail)
    seen = []
    for custom_status in ('"halfway"', msgspec.UNSET, None):
        status = StatusChange(runtime_status=Status.Running, updated_at=THEN, custom_status=custom_status)
        await one.commit(status=status)
        seen.append((await row(store)).custom_status)
    assert seen == ['"halfway"', '"halfway"', None]


@pytest.mark.parametrize(
    ("is_same_line", "created_at", "custom_status"),
    [(True, THEN, '"halfway"'), (False, THEN + timedelta(days=1), None)],
)
async def test_creation_time_and_custom_status_belong_to_the_line_of_executions(
    store: Store, mail: Mail, is_same_line: bool, created_at: datetime, custom_status: str | None
) -> None:
    one = await running(mail)
    await one.commit(status=StatusChange(runtime_status=Status.Running, updated_at=THEN, custom_status='"halfway"'))
    again = start(
        "one",
        execution_id="second",
        start_id=one.started.start_id if is_same_line else "second",
        timestamp=THEN + timedelta(days=1),
        input=None,
        tags={},
    )
    await store.commit(first_turn(again, one.version, replaces_history=True))

    found = await row(store)
    assert (found.created_at, found.custom_status) == (created_at, custom_status)
    assert (found.execution_id, found.input, found.tags) == ("second", None, {})


async def test_the_status_without_payloads_still_says_what_came_out(store: Store, mail: Mail) -> None:
    await finish(mail)
    await store.flush()
    found = await store.get_instance("one", with_payloads=False)
    assert found is not None
    assert (found.runtime_status, found.output) == (Status.Completed, '"done"')


# --- what a commit sends -----------------------------------------------------------------------------


async def test_messages_of_a_commit_reach_their_instances(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await one.commit(messages=[message("one", "to itself"), message("two", "to another")])

    assert names([await mail.next("one"), await mail.next("two")]) == ["to itself", "to another"]


async def test_an_event_arrives_as_it_was_sent(store: Store, mail: Mail) -> None:
    one = await running(mail)
    outcome = completed(7)
    answer = msgspec.structs.replace(message("one", "x"), event=outcome, execution_id="exactly this")
    await one.commit(scheduled(7), messages=[answer])

    delivery = await mail.next()
    assert (delivery.event, delivery.execution_id) == (outcome, "exactly this")
    assert (delivery.is_kept, delivery.unreadable) == (False, None)


async def test_dead_letters_keep_payload_and_reason_newest_first(store: Store, mail: Mail) -> None:
    one = await running(mail)
    letters = [letter(name=name) for name in ("old", "middle", "new")]
    await one.commit(dead_letters=letters)
    await store.flush()

    found = await store.list_dead_letters()
    assert [each.name for each in found] == ["new", "middle", "old"]
    assert len({each.letter_id for each in found}) == 3
    assert 0 not in {each.letter_id for each in found}
    assert msgspec.structs.replace(found[0], letter_id=0) == letters[2]
    assert [each.name for each in await store.list_dead_letters(limit=1)] == ["new"]


async def test_dead_letters_outlive_their_instance(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await one.end(dead_letters=[letter()])
    await store.flush()
    await store.purge(["one"])
    assert [each.name for each in await store.list_dead_letters()] == ["SayHello"]


async def test_after_a_flush_everything_of_a_commit_is_there(store: Store, mail: Mail) -> None:
    one = await running(mail)
    await raise_event(store, "one", "consumed")
    consumed = await mail.next()
    await one.commit(
        raised("go"),
        messages=[message("two", "hello")],
        queued=[one.work(0)],
        status=StatusChange(runtime_status=Status.Running, updated_at=THEN, custom_status='"halfway"'),
        consumed=[consumed.receipt],
        dead_letters=[letter()],
    )
    await store.flush()

    found = await store.get_instance("one")
    assert found is not None
    assert found.custom_status == '"halfway"'
    assert len(await store.list_dead_letters()) == 1
    assert not (await store.begin("one", None, [consumed])).deliveries
    assert names([await mail.next("two")]) == ["hello"]
    assert [each.task_id for each in await soon(store.receive_work(10))] == [0]


# --- an end ------------------------------------------------------------------------------------------


async def test_an_ended_instance_can_still_be_sent_to(store: Store, mail: Mail) -> None:
    await finish(mail)
    await store.send(message("one", "too late"), accepted=ANY_STATE)
    assert names([await mail.next()]) == ["too late"]


async def test_the_first_commit_of_an_instance_may_be_its_end(store: Store) -> None:
    ending = StatusChange(runtime_status=Status.Failed, updated_at=THEN, output="no such function", started=start())
    await store.commit(first_turn(start(), await version_of(store), ended(), status=ending))
    assert (await row(store)).runtime_status is Status.Failed
    assert await store.purge(["one"]) == 1
