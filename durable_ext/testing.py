"""For unit tests of orchestrators: no hub, no replay, only the function and what its tasks are said to give."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any


def orchestrator_generator_wrapper(generator: Generator[Any, Any, Any]) -> Generator[Any, Any, None]:
    """Run an orchestrator that was called with a fake context.

    Yields each task that the orchestrator yields, and then its return value. The orchestrator is sent the task's
    `result`; what reading that raises is raised in the orchestrator. Named as in azure-functions-durable.
    """
    step: Callable[[], Any] = partial(generator.send, None)
    while True:
        try:
            task = step()
        except StopIteration as end:
            yield end.value
            return
        yield task
        try:
            step = partial(generator.send, task.result)
        except Exception as error:
            step = partial(generator.throw, error)
