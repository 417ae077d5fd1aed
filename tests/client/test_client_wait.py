from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from durable_ext.client import OrchestrationClient, SyncOrchestrationClient
from durable_ext.errors import InstanceNotFoundError
from durable_ext.history import OrchestrationRuntimeStatus
from durable_ext.storage.contract import Store
from durable_ext.taskhub import TaskHub

Status = OrchestrationRuntimeStatus


async def test_an_ended_instance_is_returned_at_once(
    client: OrchestrationClient, stage: Any, status: Status, ended: bool
) -> None:
    await stage.put("one", status, output='"out"')
    if ended:
        found = await client.wait_for_completion("one", timeout=0)
        assert (found.runtime_status, found.output) == (status, "out")
        return
    with pytest.raises(TimeoutError, match=rf"instance 'one' \(Hello\) is still {status.name} after 0 s"):
        await client.wait_for_completion("one", timeout=0)


@pytest.mark.parametrize("timeout", [None, 30])
async def test_a_waiter_hears_of_the_end(client: OrchestrationClient, stage: Any, timeout: float | None) -> None:
    await stage.put("one")
    waiters = [asyncio.ensure_future(client.wait_for_completion("one", timeout)) for _ in range(3)]
    await stage.progress("one", Status.Running, custom_status='"nearly"')
    await stage.progress("one", Status.Completed, output="7")
    assert [status.output for status in await asyncio.gather(*waiters)] == [7, 7, 7]


async def test_waiting_for_what_does_not_exist_fails_at_once(client: OrchestrationClient) -> None:
    with pytest.raises(InstanceNotFoundError):
        await client.wait_for_completion("gone")


async def test_a_waiter_can_be_cancelled(client: OrchestrationClient, stage: Any) -> None:
    await stage.put("one")
    waiter = asyncio.ensure_future(client.wait_for_completion("one"))
    await stage.put("two")  # lets the waiter get to its waiting
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter


class TestBlockingClient:
    async def test_a_thread_gets_results_and_errors_as_if_it_had_awaited(self, store: Store, stage: Any) -> None:
        client = TaskHub(store).client
        blocking = SyncOrchestrationClient(client, asyncio.get_running_loop())

        def use() -> tuple[str, Any, str]:
            instance_id = blocking.start_new("Hello", "one", client_input=[1])
            status = blocking.get_status("one", show_input=True)
            with pytest.raises(InstanceNotFoundError):
                blocking.raise_event("gone", "MyEvent")
            with pytest.raises(TimeoutError, match="instance 'one'"):
                blocking.wait_for_completion("one", timeout=0)
            return instance_id, status.input_, blocking.task_hub_name

        # a thread of the test's own: the blocking client must not need the loop's default executor
        done: asyncio.Future[tuple[str, Any, str]] = asyncio.get_running_loop().create_future()

        def run() -> None:
            try:
                result = use()
            except BaseException as err:
                done.get_loop().call_soon_threadsafe(done.set_exception, err)
            else:
                done.get_loop().call_soon_threadsafe(done.set_result, result)

        thread = threading.Thread(target=run)
        thread.start()
        assert await done == ("one", [1], "TestHubName")
        thread.join()

    async def test_on_the_loop_itself_it_refuses_instead_of_hanging(self, client: OrchestrationClient) -> None:
        blocking = SyncOrchestrationClient(client, asyncio.get_running_loop())
        with pytest.raises(RuntimeError, match="async def"):
            blocking.get_status("one")

    async def test_every_method_of_the_client_is_there(self, client: OrchestrationClient) -> None:
        public = {name for name in dir(OrchestrationClient) if not name.startswith("_")} - {"operations"}
        assert public <= set(dir(SyncOrchestrationClient))

    async def test_it_hands_out_the_same_links(self, store: Store) -> None:
        client = TaskHub(store, base_url="http://localhost/runtime/webhooks/durabletask").client
        blocking = SyncOrchestrationClient(client, asyncio.get_running_loop())
        assert blocking.create_http_management_payload("one") == client.create_http_management_payload("one")
        assert blocking.create_http_management_payload(None, "one") == client.create_http_management_payload("one")
        assert blocking.get_client_response_links(None, "one") == client.get_client_response_links(None, "one")


class TestBlockingClientWithoutHost:
    @pytest.fixture
    def loop(self) -> Iterator[asyncio.AbstractEventLoop]:
        loop = asyncio.new_event_loop()
        yield loop
        loop.close()

    def test_a_closed_loop_is_an_error(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.close()
        with pytest.raises(RuntimeError, match="closed"):
            SyncOrchestrationClient(_NoStore.client(), loop).get_status_all()

    def test_a_loop_that_does_not_run_is_an_error_and_not_a_hang(self, loop: asyncio.AbstractEventLoop) -> None:
        blocking = SyncOrchestrationClient(_NoStore.client(), loop)
        with pytest.raises(RuntimeError, match="the host has stopped"):
            blocking.get_status_all()
        # the loop still holds the call; let it find out that nobody waits any more
        loop.run_until_complete(asyncio.sleep(0))


class _NoStore:
    """For clients that are never let near their store."""

    @staticmethod
    def client() -> OrchestrationClient:
        store: Any = _NoStore()
        return TaskHub(store).client
