"""A store in which something goes wrong at one chosen call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from durable_ext.storage.contract import Store

BY_THE_WORKER = (
    "host",
    "receive",
    "begin",
    "commit",
    "give_back",
    "receive_work",
    "complete_work",
    "give_back_work",
)
BY_CLIENTS = ("create_instance", "send", "purge")
COUNTED = frozenset((*BY_THE_WORKER, *BY_CLIENTS))
"""The calls that change something. Reads by clients are left out: how many there are is chance."""


class Moment(NamedTuple):
    """Just before, or just after, the `number`-th call of one method, counted from 1."""

    method: str
    number: int
    when: str

    def __str__(self) -> str:
        return f"{self.when} {self.method} #{self.number}"


class FaultyStore:
    """Passes every call on to a real store, and calls `strike` at one moment.

    `strike` may end the process, raise in place of the call's answer, or change something behind the worker's back.
    `calls` counts what was called; `is_striking` while the strike goes on.
    """

    def __init__(self, store: Store, moment: Moment | None, strike: Callable[..., Awaitable[None]]) -> None:
        self._store, self._moment, self._strike = store, moment, strike
        self.calls: Counter[str] = Counter()
        self.struck = self.is_striking = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in COUNTED:
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls[name] += 1
            number = self.calls[name]
            await self._pass(Moment(name, number, "before"), args)
            answer = await method(*args, **kwargs)
            await self._pass(Moment(name, number, "after"), args)
            return answer

        return call

    async def _pass(self, moment: Moment, args: tuple[Any, ...]) -> None:
        if moment == self._moment:
            self.struck = self.is_striking = True
            try:
                await self._strike(moment, *args)
            finally:
                self.is_striking = False
