"""Coroutines that an unloaded orchestrator had made and not begun.

Python warns of each that was "never awaited" when it collects it. Of these that is not so: a replay makes them anew.
"""

from __future__ import annotations

import gc
import inspect
from collections import deque
from collections.abc import Coroutine, Iterable
from types import AsyncGeneratorType, CellType, CoroutineType, GeneratorType
from typing import Any

_MAX_LOOKED_AT = 10_000  # a variable may well hold something huge that is not the instance's own

# Where code keeps what it has made: variables, the loops it is in, containers.
_CONTAINERS: tuple[Any, ...] = ([], (), {}, set(), {}.values(), {}.items(), deque())
_KEEPERS: tuple[type, ...] = (
    *(CoroutineType, GeneratorType, AsyncGeneratorType, CellType),
    *(list, tuple, dict, set, frozenset, deque, enumerate, zip, map, reversed),
    *(type(iter(each)) for each in _CONTAINERS),
)


def unbegun(running: Iterable[Any]) -> list[Coroutine[Any, Any, Any]]:
    """The coroutines within reach of those that are `running` which have not begun."""
    found: list[Coroutine[Any, Any, Any]] = []
    to_look_at, budget = list(running), _MAX_LOOKED_AT
    seen = {id(each) for each in to_look_at}
    while to_look_at:
        referents = gc.get_referents(to_look_at.pop())
        budget -= len(referents)
        if budget < 0:
            break
        for each in referents:
            if isinstance(each, _KEEPERS) and id(each) not in seen:
                seen.add(id(each))
                to_look_at.append(each)
                if inspect.iscoroutine(each) and inspect.getcoroutinestate(each) == inspect.CORO_CREATED:
                    found.append(each)
    return found
