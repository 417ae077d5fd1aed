"""What the annotations of user functions say about their inputs and results."""

from __future__ import annotations

import collections.abc
import functools
import logging
import typing
from collections.abc import Callable, Mapping
from typing import Any

from durable_ext.functions.reflection import where

_logger = logging.getLogger("durable_ext.functions")


def input_type(function: Callable[..., Any], parameter: str) -> Any:
    """The annotation of a parameter, or None if there is none that says something."""
    return _telling(_hints(function).get(parameter))


def result_type(function: Callable[..., Any]) -> Any:
    """What calling the function results in, or None if that is not said.

    A generator's result is what it returns, the third argument of `Generator[...]`.
    """
    hint = _hints(function).get("return")
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


@functools.lru_cache(maxsize=1024)
def _hints(function: Callable[..., Any]) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception as error:
        # Evaluating an annotation runs user code. Typically the name is imported only for type checkers.
        _logger.warning(
            "the annotations of %s cannot be evaluated (%s: %s); its values are passed as plain JSON values",
            where(function),
            type(error).__name__,
            error,
        )
        return {}
