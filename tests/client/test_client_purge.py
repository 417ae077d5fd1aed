from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable_ext.client import OrchestrationClient
from durable_ext.errors import InstanceStateError
from durable_ext.history import LIVE, TERMINAL, OrchestrationRuntimeStatus

Status = OrchestrationRuntimeStatus
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


async def test_purge_removes_ended_instances_and_refuses_live_ones(
    client: OrchestrationClient, stage: Any, status: Status, ended: bool
) -> None:
    await stage.put("one", status)
    if ended:
        assert (await client.purge_instance_history("one")).instances_deleted == 1
        assert not await client.get_status("one")
        return
    with pytest.raises(InstanceStateError, match=f"it is in the {status.name} state. Terminate it first"):
        await client.purge_instance_history("one")
    assert await client.get_status("one")


async def test_purging_what_does_not_exist_removes_nothing(client: OrchestrationClient) -> None:
    assert (await client.purge_instance_history("gone")).instances_deleted == 0


async def test_purging_by_ids_passes_over_live_and_missing_ones(client: OrchestrationClient, stage: Any) -> None:
    await stage.put("done", Status.Completed)
    await stage.put("failed", Status.Failed)
    await stage.put("live", Status.Running)
    assert (await client.purge_instances(["done", "failed", "live", "gone"])).instances_deleted == 2
    assert [status.instance_id for status in await client.get_status_all()] == ["live"]
    assert (await client.purge_instances([])).instances_deleted == 0


async def one_of_each(stage: Any) -> None:
    for status in Status:
        await stage.put(status.name, status, created=NOON)


async def left(client: OrchestrationClient) -> set[str | None]:
    return {status.instance_id for status in await client.get_status_all()}


async def test_purging_by_time_alone_never_touches_live_instances(client: OrchestrationClient, stage: Any) -> None:
    await one_of_each(stage)
    assert (await client.purge_instance_history_by(NOON)).instances_deleted == len(TERMINAL)
    assert await left(client) == {status.name for status in LIVE}


@pytest.mark.parametrize("status", sorted(LIVE, key=lambda each: each.name))
async def test_purging_by_a_live_status_removes_nothing(
    client: OrchestrationClient, stage: Any, status: Status
) -> None:
    await one_of_each(stage)
    assert (await client.purge_instance_history_by(NOON, None, [status])).instances_deleted == 0
    assert len(await left(client)) == len(Status)


async def test_purging_by_mixed_statuses_honours_the_ended_ones(client: OrchestrationClient, stage: Any) -> None:
    await one_of_each(stage)
    result = await client.purge_instance_history_by(NOON, runtime_status=[Status.Failed, Status.Running])
    assert result.instances_deleted == 1
    assert await left(client) == {status.name for status in Status} - {"Failed"}


async def test_purging_keeps_to_the_time_given(client: OrchestrationClient, stage: Any) -> None:
    for name, hours in (("early", 0), ("inside", 1), ("late", 2)):
        await stage.put(name, Status.Completed, created=NOON + timedelta(hours=hours))
    start, end = NOON + timedelta(minutes=30), NOON + timedelta(minutes=90)
    assert (await client.purge_instance_history_by(start, end)).instances_deleted == 1
    assert await left(client) == {"early", "late"}


async def test_purging_by_time_needs_a_time(client: OrchestrationClient) -> None:
    with pytest.raises(ValueError, match="created_time_from is required when purging instance history"):
        await client.purge_instance_history_by(None)
    with pytest.raises(ValueError, match="created_time_from is required when purging instance history"):
        await client.purge_instance_history_by(runtime_status=[Status.Completed])


async def test_purging_takes_dates_and_one_status_as_well(client: OrchestrationClient, stage: Any) -> None:
    await one_of_each(stage)
    day = NOON.date()
    assert (await client.purge_instance_history_by(day, day)).instances_deleted == 0  # from midnight to midnight
    assert (await client.purge_instance_history_by(day, runtime_status="Failed")).instances_deleted == 1
    assert await left(client) == {status.name for status in Status} - {"Failed"}
