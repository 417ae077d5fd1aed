"""The demo: start the local host on this repository's Function App, run E1_HelloSequence over HTTP, look at it.

`make demo` runs it. Nothing is left behind: state lives in a temporary directory.
"""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

import aiohttp
from rich.console import Console

from durable_ext.cli.printing import history_table
from durable_ext.host.app import LocalHost

REPOSITORY = Path(__file__).parents[2]


async def run_to_the_end(session: aiohttp.ClientSession, url: str, console: Console) -> dict[str, Any]:
    """Start an orchestration with a POST, then follow the status URL of the answer until there is an outcome."""
    async with session.post(url) as answer:
        answer.raise_for_status()
        instance = await answer.json()
    console.print(f"POST {url}\n  -> {answer.status}, instance {instance['id']}")
    while True:
        async with session.get(instance["statusQueryGetUri"]) as answer:
            status: dict[str, Any] = await answer.json()
        console.print(f"GET {instance['statusQueryGetUri'].partition('?')[0]}\n  -> {status['runtimeStatus']}")
        if answer.status != 202:  # 202 means: not yet, ask again
            return status
        await asyncio.sleep(0.1)


async def demo(console: Console) -> None:
    """The host, one orchestration, its output and its history."""
    with tempfile.TemporaryDirectory() as state:
        storage = f"sqlite:///{state}/demo.db"
        async with LocalHost(REPOSITORY, port=0, storage=storage) as host, aiohttp.ClientSession() as session:
            console.print(f"The local host is up at {host.base_url}, with its state in {storage}\n")
            status = await run_to_the_end(session, f"{host.base_url}/api/orchestrators/E1_HelloSequence", console)
            console.print("\nThe output:\n")
            console.print(json.dumps(status["output"], separators=(",", ":")), style="bold green", soft_wrap=True)
            history = await host.client.get_history(status["instanceId"])
            console.print(history_table(status["instanceId"], history))
            console.print("Next: `make run`, and `.venv/bin/durable --help`. The code is in samples/hello_sequence.")
            if status["runtimeStatus"] != "Completed":
                raise SystemExit(1)


if __name__ == "__main__":
    asyncio.run(
        asyncio.wait_for(demo(Console(highlight=False, width=None if Console().is_terminal else 160)), timeout=60)
    )
