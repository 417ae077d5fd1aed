"""The adapter to azure-functions: what it records of a function, and all that we touch of what it keeps private.

Releases 1.26 (up to Python 3.12) and 2.x (from 3.13) have the same classes here, private attributes included, so
nothing below asks which one is installed. What 2.x adds for durable functions, replaceable converters, is not used.

Everybody else reads functions by their public methods: `get_trigger`, `get_bindings`, `get_function_name`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import azure.functions as func
from azure.functions.decorators.core import Binding
from azure.functions.decorators.function_app import DecoratorApi, Function, FunctionBuilder

Decorated: TypeAlias = Callable[..., Any] | FunctionBuilder
Decorator: TypeAlias = Callable[[Decorated], FunctionBuilder]

_REACHABLE_AS = ("orchestrator_function", "client_function")


class Out(func.Out[Any]):
    """The box a function puts its output in. What was set last counts."""

    def __init__(self) -> None:
        self._value: Any = None

    def set(self, val: Any) -> None:
        """Replace what the box holds."""
        self._value = val

    def get(self) -> Any:
        """What the box holds, None at first."""
        return self._value


def decorator(container: DecoratorApi, record: Callable[[FunctionBuilder], FunctionBuilder]) -> Decorator:
    """A decorator of the container that records something, in any order with the container's other decorators."""
    made: Decorator = container._configure_function_builder(record)
    return made


def builders_of(container: DecoratorApi) -> Sequence[FunctionBuilder]:
    """The functions recorded in an app or blueprint, and those of the blueprints registered in it."""
    builders: Sequence[FunctionBuilder] = container._function_builders
    return builders


@contextmanager
def only(container: DecoratorApi, builders: Iterable[FunctionBuilder]) -> Iterator[None]:
    """Inside, the container consists of these functions and no others."""
    recorded = container._function_builders
    container._function_builders = list(builders)
    try:
        yield
    finally:
        container._function_builders = recorded


def function_of(builder: FunctionBuilder) -> Function:
    """What a builder has recorded so far. `builder.build()` would insist on its being complete."""
    return builder._function


def user_function(function: Function) -> Callable[..., Any]:
    """The function as the user wrote it, below what our decorators put around it."""
    outer = function.get_user_function()
    for attribute in _REACHABLE_AS:
        inner = getattr(outer, attribute, None)
        if callable(inner):
            return inner  # type: ignore[no-any-return]  # attributes of functions are untyped
    return outer


def make_reachable(function: Function, attribute: str) -> None:
    """Let tests reach the plain function as an attribute of the recorded one, without touching the user's object."""
    written = user_function(function)
    if function.get_user_function() is not written:
        return

    async def coroutine_function(*args: Any, **kwargs: Any) -> Any:
        return await written(*args, **kwargs)

    def plain_function(*args: Any, **kwargs: Any) -> Any:
        return written(*args, **kwargs)

    outer = coroutine_function if inspect.iscoroutinefunction(written) else plain_function
    functools.update_wrapper(outer, written)
    setattr(outer, attribute, written)
    function._func = outer


def copy_with(function: Function, callable_: Callable[..., Any], bindings: Iterable[Binding]) -> FunctionBuilder:
    """The function once more, with another callable and only these of its bindings. The original stays as it is."""
    copy = FunctionBuilder(callable_, function.function_script_file)  # type: ignore[no-untyped-call]  # not annotated
    copy.configure_http_type(function.http_type)
    trigger = function.get_trigger()
    for binding in bindings:
        if trigger is not None and binding is trigger:
            copy.add_trigger(trigger)
        else:
            copy.add_binding(binding)
    for setting in function._settings:
        copy.add_setting(setting)
    return copy
