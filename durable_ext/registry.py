"""The functions an app has, by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from durable_ext.errors import ConfigurationError, FunctionNotFoundError


@dataclass(frozen=True, slots=True, kw_only=True)
class Orchestrator:
    """An orchestrator function: generator, coroutine or plain function of one argument, the context.

    `input_type` is what `context.get_input()` restores to when it is not told.
    """

    name: str
    function: Callable[[Any], Any]
    input_type: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """An activity function, sync or async, of one input.

    `input_type` and `result_type` are the annotations, or None. `input_name` is the parameter that takes the
    input; the function is called with it by keyword.
    """

    name: str
    function: Callable[..., Any]
    input_name: str
    input_type: Any = None
    result_type: Any = None


F = TypeVar("F", Orchestrator, Activity)


@dataclass(slots=True)
class FunctionTable(Generic[F]):
    """Functions of one kind. Names compare case-insensitively, as Durable Functions has it."""

    kind: str
    _by_name: dict[str, F] = field(default_factory=dict)

    def add(self, function: F, *aliases: str) -> None:
        """Register under its name and `aliases`. Raises `ConfigurationError` if a name is taken."""
        for name in dict.fromkeys((function.name, *aliases)):
            taken = self._by_name.setdefault(name.casefold(), function)
            if taken is not function:
                raise ConfigurationError(
                    f"two {self.kind} functions are called '{name}': {where(taken.function)} and "
                    f"{where(function.function)}. Rename one, or give it another name with @app.function_name."
                )

    def get(self, name: str) -> F:
        """The function of this name. Raises `FunctionNotFoundError`, which lists the known ones."""
        try:
            return self._by_name[name.casefold()]
        except KeyError:
            raise FunctionNotFoundError(name, self.kind, self.names()) from None

    def remove_named(self, is_meant: Callable[[str], bool]) -> list[F]:
        """Remove the functions of which one name is meant, under all their names, and return them."""
        gone = {id(each): each for name, each in self._by_name.items() if is_meant(name)}
        self._by_name = {name: each for name, each in self._by_name.items() if id(each) not in gone}
        return list(gone.values())

    def names(self) -> list[str]:
        """Their own names (not the aliases), sorted."""
        return sorted({each.name for each in self._by_name.values()}, key=str.lower)

    def __contains__(self, name: str) -> bool:
        return name.casefold() in self._by_name

    def __iter__(self) -> Iterator[F]:
        return iter({id(each): each for each in self._by_name.values()}.values())

    def __len__(self) -> int:
        return len({id(each) for each in self._by_name.values()})


@dataclass(slots=True)
class Registry:
    """Every durable function of an app."""

    orchestrators: FunctionTable[Orchestrator] = field(default_factory=lambda: FunctionTable("orchestrator"))
    activities: FunctionTable[Activity] = field(default_factory=lambda: FunctionTable("activity"))


def where(function: Callable[..., Any]) -> str:
    """The function's name and place, for error messages."""
    written = inspect.unwrap(function)
    name = getattr(written, "__qualname__", repr(written))
    code = getattr(written, "__code__", None)
    return f"'{name}' ({code.co_filename}:{code.co_firstlineno})" if code is not None else f"'{name}'"
