"""Reading a function's parameters without evaluating annotations that cannot be evaluated."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

from durable_ext.errors import ConfigurationError

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


def where(function: Callable[..., Any]) -> str:
    """The function's name and place, for error messages."""
    plain = inspect.unwrap(function)
    name = getattr(plain, "__qualname__", repr(plain))
    code = getattr(plain, "__code__", None)
    return f"'{name}' ({code.co_filename}:{code.co_firstlineno})" if code is not None else f"'{name}'"
