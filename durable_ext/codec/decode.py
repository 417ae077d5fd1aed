"""The decoding by annotations: which of them ask for more than JSON, and how their values come back.

msgspec restores most types by itself. What it cannot is replaced by *reader types* before it sees the annotation:
empty classes that msgspec takes for custom ones, and whose `read` we call from its hook.

========================================  ==========================================================
annotation                                value
========================================  ==========================================================
str, int, float, bool, list, dict, None,  as stored, never checked; also lists and dicts of these
Any, object, TypedDict of these
classes with `from_json`                  `from_json(stored)`
pydantic models                           `model_validate_json(stored)`
dataclasses, enums, structs, datetimes,   as msgspec does; an enum of mixed values by the JSON of its
UUIDs, tuples, sets, ...                  members
unions msgspec cannot tell apart          the first member that gives the stored value back when stored
                                          again, else the first that fits; plain JSON members last
anything else                             as stored
========================================  ==========================================================
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import operator
import types
import typing
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from durable_ext.codec.encode import encode_unchecked, to_text, type_name

_JSON = frozenset({str, int, float, bool, list, dict, type(None)})
_RICH = frozenset(
    {bytes, bytearray, dt.datetime, dt.date, dt.time, dt.timedelta, uuid.UUID, decimal.Decimal, tuple, set, frozenset}
)
_abc = collections.abc
_CONTAINERS: dict[Any, Any] = {
    **dict.fromkeys((list, _abc.Sequence, _abc.MutableSequence, _abc.Collection, _abc.Iterable), list),
    **dict.fromkeys((dict, _abc.Mapping, _abc.MutableMapping), dict),
    **dict.fromkeys((set, _abc.Set, _abc.MutableSet), set),
    frozenset: frozenset,
    tuple: tuple,
}


class Restorer:
    """Reads values of one annotation."""

    def __init__(self, target: Any) -> None:
        self._target = target
        self._decode = msgspec.json.Decoder(target, dec_hook=_read).decode

    def from_text(self, text: str) -> Any:
        """The value in this JSON text. Raises `msgspec.DecodeError`."""
        return self._decode(text)

    def from_tree(self, tree: Any) -> Any:
        """The value in already parsed JSON, which may hold restored objects. Raises `msgspec.ValidationError`."""
        return msgspec.convert(tree, self._target, dec_hook=_read)


def restorer_for(annotation: Any) -> Restorer | None:
    """The reader of this annotation, or None if it asks for no more than JSON, or is not understood."""
    try:
        target, asks_for_more = _Rewriting().of(annotation)
        return Restorer(target) if asks_for_more and target is not Any else None
    except (TypeError, NameError, AttributeError, RecursionError):  # what unresolvable annotations raise
        return None


# --- reader types ------------------------------------------------------------------------------------


class _ReaderType(type):
    """Makes classes that msgspec hands to `_read`, and whose instances may be anything."""

    read: Any  # a function of the stored value; typed as one, it would count as a method

    def __instancecheck__(cls, value: object) -> bool:
        return True


def _reader_type(name: str, read: Callable[[Any], Any] | None = None) -> _ReaderType:
    made = _ReaderType(name, (), {})
    if read is not None:
        made.read = read
    return made


def _read(kind: Any, stored: Any) -> Any:
    """The hook msgspec calls for types it does not know."""
    if isinstance(kind, _ReaderType):
        return kind.read(stored)
    if isinstance(kind, type) and not isinstance(stored, kind):
        if callable(getattr(kind, "from_json", None)):
            return from_json(kind, stored)
        if callable(getattr(kind, "model_validate_json", None)):
            return _validated(kind, stored)
    return stored


def from_json(kind: Any, stored: Any) -> Any:
    """Call the user's `from_json`. Whatever it raises becomes a ValueError, so that msgspec adds the place."""
    try:
        return kind.from_json(stored)
    except Exception as err:
        raise ValueError(f"{type_name(kind)}.from_json raised {err!r}") from err


def _validated(kind: Any, stored: Any) -> Any:
    # as JSON, not as Python objects: strict models accept a date written as text only there
    return kind.model_validate_json(encode_unchecked(stored))


class _Rewriting:
    """One annotation on its way to a form msgspec accepts. `of` answers the form, and whether it asks for more
    than JSON."""

    def __init__(self) -> None:
        self._classes: dict[type, Any] = {}

    def of(self, annotation: Any) -> tuple[Any, bool]:
        if annotation is None or annotation in _JSON:
            return (type(None) if annotation is None else annotation), False
        if annotation in _RICH:
            return annotation, True
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            inner, more = self.of(annotation.__origin__)
            limits = tuple(each for each in annotation.__metadata__ if isinstance(each, msgspec.Meta))
            return (typing.Annotated[(inner, *limits)], True) if limits else (inner, more)
        if origin is typing.Literal:
            return annotation, False
        if origin is typing.Union or origin is types.UnionType:
            return self._union(typing.get_args(annotation))
        if origin in _CONTAINERS:
            return self._container(_CONTAINERS[origin], typing.get_args(annotation))
        if origin is not None:  # a generic dataclass or struct; of other generics msgspec says TypeError
            return annotation, self._is_record(origin)
        if isinstance(annotation, typing.NewType):
            return self.of(annotation.__supertype__)
        if hasattr(annotation, "__value__"):  # `type Name = ...`
            return self.of(annotation.__value__)
        return self._class(annotation) if isinstance(annotation, type) else (Any, False)

    def _container(self, container: Any, args: tuple[Any, ...]) -> tuple[Any, bool]:
        if not args:
            return container, container in _RICH
        parts = [(each, False) if each is ... else self.of(each) for each in args]
        has_other_keys = len(parts) == 2 and container is dict and parts[0][0] not in (str, Any)
        more = has_other_keys or container in _RICH or any(more for _, more in parts)
        return types.GenericAlias(container, tuple(each for each, _ in parts)), more

    def _union(self, members: tuple[Any, ...]) -> tuple[Any, bool]:
        parts = [self.of(each) for each in members]
        if any(each is Any for each, _ in parts):
            return Any, False
        union = functools.reduce(operator.or_, (each for each, _ in parts))
        more = any(more for _, more in parts)
        try:
            msgspec.json.Decoder(union)
        except TypeError:
            if not more:
                return Any, False
            ordered = [each for each, more in parts if more] + [each for each, more in parts if not more]
            return _choice(ordered, " | ".join(map(type_name, members))), True
        return union, more

    def _class(self, kind: type) -> tuple[Any, bool]:
        if callable(getattr(kind, "from_json", None)):
            return _reader_type(kind.__name__, lambda v: v if isinstance(v, kind) else from_json(kind, v)), True
        if callable(getattr(kind, "model_validate_json", None)):
            return _reader_type(kind.__name__, lambda v: v if isinstance(v, kind) else _validated(kind, v)), True
        if issubclass(kind, enum.Enum):
            return _enum(kind), True
        if typing.is_typeddict(kind):
            hints = typing.get_type_hints(kind, include_extras=True).values()
            return (kind, True) if any(self.of(each)[1] for each in hints) else (dict, False)
        if dataclasses.is_dataclass(kind):
            return self._dataclass(kind), True
        return (kind, True) if self._is_record(kind) else (Any, False)

    @staticmethod
    def _is_record(kind: Any) -> bool:
        return (
            dataclasses.is_dataclass(kind)
            or issubclass(kind, msgspec.Struct)
            or hasattr(kind, "__attrs_attrs__")
            or (issubclass(kind, tuple) and hasattr(kind, "_fields"))
        )

    def _dataclass(self, kind: type) -> Any:
        """The class itself if msgspec understands every field, else a reader that goes through a struct of ours."""
        if kind in self._classes:
            return self._classes[kind]
        reader = self._classes[kind] = _reader_type(kind.__name__)
        hints = typing.get_type_hints(kind, include_extras=True)
        fields = [each for each in dataclasses.fields(kind) if each.init]
        rewritten = {each.name: self.of(hints[each.name])[0] for each in fields}
        if all(rewritten[each.name] == hints[each.name] for each in fields):
            self._classes[kind] = kind
            return kind
        optional = {each.name for each in fields if not _is_required(each)}
        struct = msgspec.defstruct(
            kind.__name__,
            [(name, form, msgspec.UNSET) if name in optional else (name, form) for name, form in rewritten.items()],
            kw_only=True,
        )

        def read(stored: Any) -> Any:
            if isinstance(stored, kind):
                return stored
            found = msgspec.structs.asdict(msgspec.convert(stored, struct, dec_hook=_read))
            return kind(**{name: value for name, value in found.items() if value is not msgspec.UNSET})

        reader.read = read
        return reader


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _enum(kind: type[enum.Enum]) -> Any:
    values = {type(each.value) for each in kind}
    if not issubclass(kind, enum.Flag) and values in ({str}, {int}):
        return kind
    by_json = {to_text(each.value): each for each in kind}

    def read(stored: Any) -> Any:
        member = by_json.get(encode_unchecked(stored))
        return kind(stored) if member is None else member

    return _reader_type(kind.__name__, read)


def _choice(members: list[Any], name: str) -> Any:
    def read(stored: Any) -> Any:
        fitting = []
        for each in members:
            try:
                value = msgspec.convert(stored, each, dec_hook=_read)
            except msgspec.ValidationError:
                continue
            if value is stored or to_text(value) == encode_unchecked(stored):
                return value
            fitting.append(value)
        if not fitting:
            raise ValueError(f"Expected `{name}`, got {encode_unchecked(stored)[:80]}")
        return fitting[0]

    return _reader_type(name, read)
