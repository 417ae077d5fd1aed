"""The fields of record classes: dataclasses, attrs classes, msgspec structs and named tuples, told in one way."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import sys
import types
import typing
from collections.abc import Iterator
from typing import Any

import msgspec

logger = logging.getLogger("durable_ext.codec")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RecordField:
    """A field. `key` is its name in storage, `argument` its name in the constructor, None if it is not taken there."""

    name: str
    key: str
    argument: str | None
    is_required: bool


def is_attrs(kind: Any) -> bool:
    """Whether attrs made this class."""
    return hasattr(kind, "__attrs_attrs__")


def attrs_names(kind: Any) -> list[str]:
    """The names of the fields of a class that attrs made."""
    return [each.name for each in kind.__attrs_attrs__]


def is_named_tuple(kind: Any) -> bool:
    """Whether this class is a named tuple."""
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


def is_record(kind: Any) -> bool:
    """Whether instances are made of named fields."""
    return dataclasses.is_dataclass(kind) or issubclass(kind, msgspec.Struct) or is_attrs(kind) or is_named_tuple(kind)


def init_only(kind: Any) -> list[dataclasses.Field[Any]]:
    """The `InitVar`s of a dataclass: its constructor takes them, and no instance keeps them."""
    mark = getattr(dataclasses, "_FIELD_INITVAR", None)
    fields: dict[str, Any] = getattr(kind, "__dataclass_fields__", {})
    return [each for each in fields.values() if getattr(each, "_field_type", None) is mark]


def fields_of(kind: Any) -> list[RecordField]:
    """What an instance is made from, in order."""
    return list(_fields_of(kind))


def _fields_of(kind: Any) -> Iterator[RecordField]:
    if dataclasses.is_dataclass(kind):
        for each in (*dataclasses.fields(kind), *init_only(kind)):
            no_default = each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
            argument = each.name if each.init else None
            yield RecordField(name=each.name, key=each.name, argument=argument, is_required=each.init and no_default)
    elif is_attrs(kind):
        nothing = sys.modules["attr"].NOTHING  # imported by whoever made the class
        for item in kind.__attrs_attrs__:
            argument = (getattr(item, "alias", None) or item.name.lstrip("_")) if item.init else None
            yield RecordField(
                name=item.name, key=item.name, argument=argument, is_required=item.init and item.default is nothing
            )
    elif is_named_tuple(kind):
        for name in kind._fields:
            yield RecordField(name=name, key=name, argument=name, is_required=name not in kind._field_defaults)
    else:
        for info in msgspec.structs.fields(kind):
            yield RecordField(name=info.name, key=info.encode_name, argument=info.name, is_required=info.required)


def hints_of(kind: Any) -> tuple[dict[str, Any], bool]:
    """The annotations of a class, evaluated, and whether all could be: one that cannot costs the others nothing."""
    try:
        return typing.get_type_hints(kind, include_extras=True), True
    except Exception:  # evaluating annotations runs user code
        return _hints_one_by_one(kind), False


def _hints_one_by_one(kind: Any) -> dict[str, Any]:
    found = {}
    for base in reversed(kind.__mro__):
        names = vars(sys.modules.get(base.__module__, types))
        for name, written in _annotations_of(base).items():
            alone: Any = types.new_class(base.__name__)
            alone.__annotations__ = {name: written}
            try:
                found[name] = typing.get_type_hints(alone, names, dict(vars(base)), include_extras=True)[name]
            except Exception as error:
                found[name] = Any
                logger.warning(
                    "the annotation of field '%s' of %s.%s cannot be evaluated (%s: %s); its values are read as plain "
                    "JSON values",
                    name,
                    base.__module__,
                    base.__qualname__,
                    type(error).__name__,
                    error,
                )
    return found


if sys.version_info >= (3, 14):
    import annotationlib

    def _annotations_of(kind: type) -> dict[str, Any]:
        return dict(annotationlib.get_annotations(kind, format=annotationlib.Format.FORWARDREF))

else:

    def _annotations_of(kind: type) -> dict[str, Any]:
        return dict(inspect.get_annotations(kind))
