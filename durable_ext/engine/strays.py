"""What asyncio makes past the loop or in no order: found by the frame that makes it.

Futures are hashed by address unless they are told otherwise, and so are coroutines: a set of them iterates in another
order in every replay. What can be given an order is given one here; the rest raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Set
from types import CodeType, FrameType
from typing import Any, cast

from durable_ext.errors import OrchestratorCodeError

_tasks = cast(Any, asyncio.tasks)  # private parts of it, which the stubs do not have


class _Ordered:
    """Mixed into asyncio's own future of `gather`: hashed by its number."""

    __slots__ = ()

    _stable_hash: int

    def __hash__(self) -> int:
        return self._stable_hash


_Gathering: type = type("_GatheringFuture", (_Ordered, _tasks._GatheringFuture), {"__slots__": ()})
_MAKES_GATHERING: CodeType = _tasks._GatheringFuture.__init__.__code__

_ENSURES: CodeType = asyncio.ensure_future.__code__
_ENSURES_INSIDE: CodeType = getattr(_tasks, "_ensure_future", asyncio.ensure_future).__code__  # apart until 3.11
# Since 3.13 an iterator's constructor makes the tasks, before that the generator itself.
_AS_COMPLETED: CodeType
_GIVEN: str
if hasattr(_tasks, "_AsCompletedIterator"):
    _AS_COMPLETED, _GIVEN = _tasks._AsCompletedIterator.__init__.__code__, "aws"
else:
    _AS_COMPLETED, _GIVEN = _tasks.as_completed.__code__, "fs"


def take_in(maker: FrameType, next_hash: Callable[[], int]) -> None:
    """`maker` is making a future that the loop was not asked for, or asks for the loop's debug mode.

    The future of a `gather` becomes one with a stable hash. Any other raises.
    """
    code = maker.f_code
    if code is _MAKES_GATHERING:
        gathering = maker.f_locals["self"]
        gathering._stable_hash = next_hash()
        gathering.__class__ = _Gathering
    elif "get_debug" not in code.co_names:
        raise OrchestratorCodeError(
            "an orchestrator cannot make an asyncio.Future() or asyncio.Task() itself, as the order of those in a set "
            "does not replay: use asyncio.get_running_loop().create_future() or asyncio.create_task(...)"
        )


def given_to_as_completed(maker: FrameType) -> Collection[Any] | None:
    """What `asyncio.as_completed` was given, if it asks for a task by way of `ensure_future`, the `maker`; else None.

    It has put the coroutines into a set. Raises if their order is not known from what it was given.
    """
    if not _ensures(maker):
        return None
    frame: FrameType | None = maker.f_back
    while frame is not None and (_ensures(frame) or frame.f_code.co_name == "<setcomp>"):
        frame = frame.f_back
    if frame is None or frame.f_code is not _AS_COMPLETED:
        return None
    given = frame.f_locals[_GIVEN]
    if isinstance(given, Collection) and not isinstance(given, Set) and all(map(asyncio.iscoroutine, given)):
        return given
    raise OrchestratorCodeError(
        "asyncio.as_completed can only be replayed over a list of coroutines, or over tasks and durable calls: "
        "make tasks first, [asyncio.create_task(step(n)) for n in ...]"
    )


def _ensures(maker: FrameType) -> bool:
    return maker.f_code is _ENSURES or maker.f_code is _ENSURES_INSIDE
