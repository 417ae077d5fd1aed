r"""Fan-out/fan-in: many activities at the same time, and one result of them all.

`CountWords` counts the words of every text in its own activity, in parallel, and adds them up::

    curl "http://localhost:7071/api/durabletask/orchestrators/CountWords?timeout=10&pollingInterval=1" \
         -H "Content-Type: application/json" -d '["one two", "three", "four five six"]'

Calls are scheduled when they are made, so the list holds activities that run already; `task_all` waits for all
of them, and their results come in the order of the calls, whatever finished first. In an `async def` orchestrator the
same is `await asyncio.gather(*counts)`.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import durable_ext as df

bp = df.Blueprint()


@bp.activity_trigger(input_name="text", activity="CountWordsOfText")
def count_words_of_text(text: str) -> int:
    if not isinstance(text, str):
        raise TypeError(f"only texts have words, and this is {text!r}")
    return len(text.split())


@bp.orchestration_trigger(context_name="context", orchestration="CountWords")
def count_words(context: df.DurableOrchestrationContext) -> Generator[Any, Any, dict[str, Any]]:
    texts: list[str] = context.get_input() or []
    counts = [context.call_activity(count_words_of_text, text) for text in texts]
    words: list[int] = yield context.task_all(counts)
    return {"each": words, "total": sum(words)}
