"""The parameters and annotations of user functions: what they must be, and what they say.

The checks are made when a decorator runs, so that the traceback points at it, and again when the app is lowered,
because the generic decorators know nothing of us. An annotation that cannot be evaluated never fails a function, nor
costs it the others.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import logging
import sys
import typing
from collections.abc import Callable
from typing import Any

from durable_ext.errors import ConfigurationError
from durable_ext.functions.bindings import RETURN
from durable_ext.registry import where

logger = logging.getLogger("durable_ext.functions")

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

# --- reading -----------------------------------------------------------------------------------------

if sys.version_info >= (3, 14):
    import annotationlib

    # Annotations are computed when asked for; names imported only for type checkers must not fail that.
    def _signature(function: Callable[..., Any]) -> inspect.Signature:
        return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)

    def annotations_of(function: Callable[..., Any]) -> dict[str, Any]:
        """The annotations as written, or as far as they can be evaluated."""
        return dict(annotationlib.get_annotations(function, format=annotationlib.Format.FORWARDREF))

else:
    _signature = inspect.signature

    def annotations_of(function: Callable[..., Any]) -> dict[str, Any]:
        """The annotations as written, or as far as they can be evaluated."""
        return dict(inspect.get_annotations(function))


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """The function's signature. Raises `ConfigurationError` for what has none, such as some builtins."""
    try:
        return _signature(function)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"the parameters of {where(function)} cannot be read ({error}). Decorate a function written with `def`."
        ) from error


def input_type(function: Callable[..., Any], parameter: str) -> Any:
    """The annotation of a parameter, or None if there is none that says something."""
    return _telling(_hint(function, parameter))


def result_type(function: Callable[..., Any]) -> Any:
    """What calling the function results in, or None if that is not said.

    A generator's result is what it returns, the third argument of `Generator[...]`.
    """
    hint = _hint(function, "return")
    origin = typing.get_origin(hint) or hint
    if origin is collections.abc.Generator:
        arguments = typing.get_args(hint)
        return _telling(arguments[2]) if len(arguments) == 3 else None
    if origin in (collections.abc.Iterator, collections.abc.Iterable):
        # Usual (and legal) annotations of a generator function, which say nothing about its result.
        return None
    return _telling(hint)


def _telling(hint: Any) -> Any:
    # `-> None` would only forbid what an orchestrator may still want to read; untyped it is.
    return None if hint is type(None) or hint is Any else hint


@functools.lru_cache(maxsize=4096)
def _hint(function: Callable[..., Any], name: str) -> Any:
    """One annotation, evaluated by itself: what the others name may be there for type checkers only."""
    try:
        written = annotations_of(function)
        return _evaluated(function, name, written[name]) if name in written else None
    except Exception as error:
        # Evaluating an annotation runs user code. Typically the name is imported only for type checkers.
        logger.warning(
            "the annotation of %s of %s cannot be evaluated (%s: %s); its values are passed as plain JSON values",
            "the result" if name == "return" else f"parameter '{name}'",
            where(function),
            type(error).__name__,
            error,
        )
        return None


def _evaluated(function: Callable[..., Any], name: str, written: Any) -> Any:
    def alone() -> None: ...

    carrier: Any = alone
    carrier.__annotations__ = {name: written}
    if parameters := getattr(function, "__type_params__", None):  # `def act[T](x: T)`
        carrier.__type_params__ = parameters
    names = getattr(inspect.unwrap(function), "__globals__", {})
    return typing.get_type_hints(carrier, globalns=names, include_extras=True)[name]


# --- checking ----------------------------------------------------------------------------------------


def check_orchestrator(function: Callable[..., Any], context_name: str) -> None:
    """An orchestrator takes the context, and nothing else."""
    if inspect.isasyncgenfunction(function):
        raise ConfigurationError(
            f"orchestrator {where(function)} is an async generator: it has both `async def` and `yield`. "
            f"Use `async def` with `await`, or a plain generator (`def` with `yield`)."
        )
    parameters = list(signature_of(function).parameters.values())
    if len(parameters) != 1 or parameters[0].kind not in _POSITIONAL:
        listed = ", ".join(map(str, parameters)) or "none"
        raise ConfigurationError(
            f"orchestrator {where(function)} must take exactly one positional parameter, the context; it takes: "
            f"{listed}. Pass input with `start_new(..., client_input=...)` and read it with `context.get_input()`."
        )
    _check_named(function, "orchestrator", context_name, "context_name", [parameters[0].name])


def check_called(decorator: str, parameter: str, given: object) -> None:
    """A decorator is called with a name. Without its parentheses it is given the function instead."""
    if isinstance(given, str):
        return
    example = f'@app.{decorator}({parameter}="...")'
    if callable(given):
        raise ConfigurationError(
            f"{where(given)}: @app.{decorator} is written without its parentheses. Write {example}."
        )
    raise ConfigurationError(f"@app.{decorator}: {parameter} is {given!r}, but must be text. Write {example}.")


def check_activity(function: Callable[..., Any], input_name: str) -> None:
    """An activity has the parameter that takes its input."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(
            f"activity {where(function)} is a generator. Only orchestrators yield; return the result, e.g. as a list."
        )
    _check_named(function, "activity", input_name, "input_name", _named_parameters(function))


def check_no_strangers(function: Callable[..., Any], input_name: str, injected: set[str]) -> None:
    """Nothing but the input and what we inject can be given to an activity."""
    for parameter in signature_of(function).parameters.values():
        filled = parameter.name == input_name or parameter.name in injected
        if not filled and parameter.default is parameter.empty and parameter.kind not in _VARIADIC:
            raise ConfigurationError(
                f"activity {where(function)} has a parameter '{parameter.name}' that nothing fills: an activity gets "
                f"its input ('{input_name}') and durable clients. Remove it, give it a default, or pass several "
                f"values as one object."
            )


def check_client(function: Callable[..., Any], client_name: str) -> None:
    """The function has the parameter that takes the client."""
    _check_named(function, "client function", client_name, "client_name", _named_parameters(function))


def check_output(function: Callable[..., Any], arg_name: str) -> None:
    """The function has the parameter that takes the output box, unless it puts out what it returns."""
    if arg_name != RETURN:
        _check_named(function, "client function", arg_name, "arg_name", _named_parameters(function))


def _named_parameters(function: Callable[..., Any]) -> list[str]:
    return [each.name for each in signature_of(function).parameters.values() if each.kind not in _VARIADIC]


def _check_named(function: Callable[..., Any], what: str, name: str, argument: str, known: list[str]) -> None:
    if name not in known:
        listed = ", ".join(f"'{each}'" for each in known) or "none"
        raise ConfigurationError(
            f"{what} {where(function)} has no parameter '{name}', which {argument} of its decorator names; it has: "
            f"{listed}. Make the two agree."
        )
