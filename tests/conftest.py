"""A real store in memory, and a stage that brings instances into any status without an engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import pytest

from durable_ext.history import (
    TERMINAL,
    ExecutionStarted,
    GenericEvent,
    HistoryEvent,
    OrchestrationRuntimeStatus,
    OrchestratorStarted,
)
from durable_ext.messages import Message
from durable_ext.storage.contract import Commit, Delivery, StatusChange, Store
from durable_ext.storage.opening import open_store

BEGINNING = datetime(2024, 5, 1, 12, 0, 0, 250000, tzinfo=UTC)
END = "@stage@end"  # listed nowhere, like every id with an @ in front


class Stage:
    """Plays the runtime: takes start messages and commits turns that end in the status a test wants."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._unread: list[Delivery] = []

    async def put(
        self,
        instance_id: str,
        status: OrchestrationRuntimeStatus = OrchestrationRuntimeStatus.Running,
        *,
        name: str = "Hello",
        input_json: str | None = None,
        output: str | None = None,
        custom_status: str | None = None,
        version: str | None = None,
        created: datetime = BEGINNING,
        events: Sequence[HistoryEvent] = (),
    ) -> None:
        """Create an instance and bring it into a status."""
        start = ExecutionStarted(
            timestamp=created,
            name=name,
            instance_id=instance_id,
            execution_id=f"run of {instance_id}",
            start_id=f"run of {instance_id}",
            input=input_json,
            version=version,
        )
        await self.store.create_instance(start, overridable=frozenset())
        if status is not OrchestrationRuntimeStatus.Pending:
            await self.progress(instance_id, status, output=output, custom_status=custom_status, events=events)

    async def progress(
        self,
        instance_id: str,
        status: OrchestrationRuntimeStatus,
        *,
        output: str | None = None,
        custom_status: str | None = None,
        events: Sequence[HistoryEvent] = (),
    ) -> None:
        """Commit a turn with everything that was sent to the instance."""
        deliveries = await self._read(instance_id)
        opening = await self.store.begin(instance_id, None, deliveries)
        assert opening.snapshot is not None
        arrived = [delivery.event for delivery in opening.deliveries]
        started = next((event for event in arrived if isinstance(event, ExecutionStarted)), None)
        now = datetime.now(UTC)
        await self.store.commit(
            Commit(
                instance_id=instance_id,
                execution_id=started.execution_id if started else f"run of {instance_id}",
                version=opening.snapshot.version,
                events=(OrchestratorStarted(timestamp=now), *arrived, *events),
                status=StatusChange(
                    runtime_status=status,
                    updated_at=now,
                    custom_status=custom_status,
                    output=output,
                    started=started,
                ),
                consumed=[delivery.receipt for delivery in deliveries],
            )
        )

    async def sent_to(self, instance_id: str) -> list[HistoryEvent]:
        """Everything sent to the instance that no turn has consumed yet, in order."""
        return [delivery.event for delivery in await self._read(instance_id)]

    async def _read(self, instance_id: str) -> list[Delivery]:
        # Messages come in the order they were stored, so once this one is here, so is everything before it.
        if await self.store.get_instance(END) is None:
            end = ExecutionStarted(timestamp=BEGINNING, name="End", instance_id=END, execution_id="e", start_id="e")
            await self.store.create_instance(end, overridable=frozenset())
        mark = GenericEvent(timestamp=datetime.now(UTC), data="everything before was read")
        anything = frozenset(OrchestrationRuntimeStatus)
        await self.store.send(Message(instance_id=END, event=mark), accepted=anything)
        while mark not in [delivery.event for delivery in self._unread]:
            self._unread += await self.store.receive()
        self._unread = [delivery for delivery in self._unread if delivery.event != mark]
        found = [delivery for delivery in self._unread if delivery.instance_id == instance_id]
        self._unread = [delivery for delivery in self._unread if delivery.instance_id != instance_id]
        return found


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    opened = open_store("sqlite:///:memory:")
    await opened.open()
    await opened.host("the tests", lambda: None)
    yield opened
    await opened.close()


@pytest.fixture
async def stage(store: Store) -> Stage:
    return Stage(store)


@pytest.fixture(params=sorted(OrchestrationRuntimeStatus, key=lambda status: status.name), ids=lambda each: each.name)
def status(request: pytest.FixtureRequest) -> OrchestrationRuntimeStatus:
    """Each of the eight statuses in turn."""
    found: OrchestrationRuntimeStatus = request.param
    return found


@pytest.fixture
def ended(status: OrchestrationRuntimeStatus) -> bool:
    """Whether that status is a terminal one."""
    return status in TERMINAL
