"""The encoding of values as JSON text, and the refusal of those that reading back would not give again."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from durable_ext.codec.records import attrs_names, init_only, is_attrs
from durable_ext.errors import CodecError

_REMEDY = (
    "Pass JSON values, dataclasses, enums, datetimes, UUIDs, msgspec or pydantic models, "
    "or give the class a `to_json` method and a static `from_json`"
)

# Types whose values go to msgspec as they are; `_how` adds to it what it finds out.
_LEAVES: set[type] = {type(None), bool, int, float, str, bytes, bytearray, msgspec.UnsetType}


def to_text(value: Any) -> str:
    """The value as JSON text. Raises `CodecError` if it cannot be stored without loss."""
    kind = type(value)
    if kind is str:
        return encode_unchecked(value)
    if value is None:
        return "null"
    try:
        if kind in _LEAVES:
            lowered = value
        else:
            how = _KNOWN.get(kind)
            lowered = _lower(value) if how is None else how(value)
        try:
            text = _encode(lowered).decode()
        except (UnicodeEncodeError, TypeError):
            text = encode_unchecked(lowered)  # raises again, saying why
        if "null" in text:  # msgspec writes NaN as null, so only then is there something to look for
            _refuse_lost_numbers(msgspec.to_builtins(lowered, enc_hook=_plain))
    except RecursionError as err:
        raise CodecError(
            f"cannot store a value of type {_name(kind)}: it is nested too deeply, or holds itself"
        ) from err
    return text


def encode_unchecked(value: Any) -> str:
    """JSON text of a value that holds no `to_json` object outside our sight and no NaN."""
    try:
        return _encode(value).decode()
    except UnicodeEncodeError as err:
        raise CodecError(f"cannot store text that is no valid Unicode (a lone surrogate): {err}") from err
    except TypeError as err:
        if isinstance(err, CodecError):
            raise
        raise CodecError(f"cannot store a value of type {_name(type(value))}: {err}. {_REMEDY}.") from err


def type_name(kind: Any) -> str:
    """How messages call a type or annotation."""
    return _name(kind) if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


# --- objects with `to_json` --------------------------------------------------------------------------
# msgspec calls its hook only for types it does not know, but dataclasses, enums and structs may have `to_json` too.
# So they are looked for before; a value without any passes through untouched and uncopied.


def _lower(value: Any) -> Any:
    kind = type(value)
    if kind in _LEAVES:
        return value
    how = _KNOWN.get(kind) or _how(kind)
    return value if how is None else how(value)


def _how(kind: type) -> Callable[[Any], Any] | None:
    """What is to be done with values of a class that is met for the first time, or None if nothing is."""
    how: Callable[[Any], Any]
    if callable(getattr(kind, "to_json", None)):
        how = _envelope
    elif issubclass(kind, dict):
        how = _lower_dict
    elif issubclass(kind, (list, tuple, set, frozenset)):
        how = _lower_items
    elif dataclasses.is_dataclass(kind):
        how = (
            _refuse_init_only if init_only(kind) else _fields_lowerer([each.name for each in dataclasses.fields(kind)])
        )
    elif is_attrs(kind):
        names = attrs_names(kind)
        # msgspec leaves out names that begin with an underscore
        how = _fields_lowerer(names, always=any(each.startswith("_") for each in names))
    elif issubclass(kind, msgspec.Struct):
        how = _struct_lowerer(kind.__struct_fields__)
    else:
        _LEAVES.add(kind)
        return None
    _KNOWN[kind] = how
    return how


_are_leaves = _LEAVES.issuperset

# Up to how many items a loop over them is faster than going through keys and values in C.
_SMALL = 10


def _lower_dict(value: dict[Any, Any]) -> Any:
    # Most dicts are small, hold plain values under text, and this is all that is done to them.
    if len(value) <= _SMALL:
        for key, each in value.items():
            if type(key) is not str or type(each) not in _LEAVES:
                break
        else:
            return value
    try:
        "".join(value)  # the fastest way to learn that all keys are text
    except TypeError:
        _refuse_merged_keys(value)
    if _are_leaves(map(type, value.values())):
        return value
    return {key: _lower(each) for key, each in value.items()}


def _lower_items(value: Any) -> Any:
    return value if _are_leaves(map(type, value)) else [_lower(each) for each in value]


def _refuse_merged_keys(value: dict[Any, Any]) -> None:
    """Keys are stored as text, so of `1` and `"1"` only one would be read again."""
    if {int}.issuperset(map(type, value)):
        return
    seen: dict[str, Any] = {}
    for key in value:
        (text,) = msgspec.json.decode(encode_unchecked({key: None}))
        if text in seen:
            raise CodecError(
                f"cannot store a dict with the keys {seen[text]!r} and {key!r}: keys are stored as text, and both as "
                f"{text!r}. Keep one of them, or store a list of pairs."
            )
        seen[text] = key


def _refuse_init_only(value: Any) -> Any:
    kind = type(value)
    listed = ", ".join(f"'{each.name}'" for each in init_only(kind))
    raise CodecError(
        f"cannot store a value of type {_name(kind)}: its constructor takes {listed}, an InitVar, which the object "
        f"does not keep. Make it a field, or give the class a `to_json` method and a static `from_json`."
    )


def _struct_lowerer(names: tuple[str, ...]) -> Callable[[Any], Any]:
    def lower_struct(value: Any) -> Any:
        before = [getattr(value, name, msgspec.UNSET) for name in names]
        if _are_leaves(map(type, before)):
            return value
        lowered = None
        for name, old in zip(names, before, strict=True):
            new = _lower(old)
            if new is not old:
                # a copy, which msgspec writes as the class says: names, tags, defaults left out
                lowered = copy.copy(value) if lowered is None else lowered
                msgspec.structs.force_setattr(lowered, name, new)
        return value if lowered is None else lowered

    return lower_struct


def _fields_lowerer(names: list[str], *, always: bool = False) -> Callable[[Any], Any]:
    def lower_fields(value: Any) -> Any:
        before = [getattr(value, name, msgspec.UNSET) for name in names]  # a field without default may be unset
        if not always and _are_leaves(map(type, before)):
            return value
        after = [_lower(each) for each in before]
        if not always and all(new is old for new, old in zip(after, before, strict=True)):
            return value
        return {name: each for name, each in zip(names, after, strict=True) if each is not msgspec.UNSET}

    return lower_fields


def _envelope(value: Any) -> dict[str, Any]:
    kind: Any = type(value)
    try:
        data = kind.to_json(value)  # called on the class: `to_json` may be a method or static
    except Exception as err:
        raise CodecError(f"cannot store a value of type {_name(kind)}: its to_json raised {err!r}") from err
    return {"__class__": kind.__name__, "__module__": kind.__module__, "__data__": _lower(data)}


_KNOWN: dict[type, Callable[[Any], Any]] = {
    dict: _lower_dict,
    list: _lower_items,
    tuple: _lower_items,
    set: _lower_items,
    frozenset: _lower_items,
}


# --- everything msgspec does not know ----------------------------------------------------------------


def _plain(value: Any) -> Any:
    kind = type(value)
    if callable(getattr(kind, "to_json", None)):
        return _envelope(value)
    if callable(getattr(kind, "model_dump", None)):
        return _lower(_dumped(value))
    if issubclass(kind, (tuple, frozenset, bool, type(None))):  # fine as values, so msgspec asks about a key
        raise CodecError(f"cannot store {value!r} as the key of a dict: keys are text, numbers, enums, dates or UUIDs")
    if isinstance(value, str):
        return str.__str__(value)  # a subclass may print itself otherwise
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    raise CodecError(f"cannot store a value of type {_name(kind)}. {_REMEDY}.")


# How pydantic writes a secret in JSON.
_MASK = "*" * 10


def _dumped(model: Any) -> Any:
    try:
        # by alias and for the round trip: otherwise models with aliases or computed fields do not read their own dump
        dump = model.model_dump(mode="json", by_alias=True, round_trip=True)
        if _MASK in str(dump):
            _refuse_secrets(type(model), model.model_dump(round_trip=True))
    except CodecError:
        raise
    except Exception as err:
        raise CodecError(f"cannot store a value of type {_name(type(model))}: its model_dump raised {err!r}") from err
    return dump


def _refuse_secrets(kind: type, dump: Any) -> None:
    for place, value in _walk(dump):
        if callable(getattr(value, "get_secret_value", None)) and value.get_secret_value():
            raise CodecError(
                f"cannot store a value of type {_name(kind)}: {place} is a {type(value).__name__}, which is written as "
                f"asterisks. Pass a reference to the secret, or give the field a serializer that reveals it."
            )


_encode = msgspec.json.Encoder(enc_hook=_plain).encode


def _refuse_lost_numbers(tree: Any) -> None:
    if not _holds_lost_number(tree):
        return
    for place, value in _walk(tree):
        if isinstance(value, float) and not math.isfinite(value):
            raise CodecError(
                f"cannot store {value}{f' at {place}' if place else ''}: JSON has no such number. "
                f"Use None, or text, and say so in the annotation."
            )


def _holds_lost_number(tree: Any) -> bool:
    pending = [tree]
    while pending:
        value = pending.pop()
        kind = type(value)
        if kind is dict:
            pending.extend(value.values())
        elif kind is list or kind is tuple:
            pending.extend(value)
        elif kind is float and not math.isfinite(value):
            return True
    return False


def _walk(tree: Any) -> Iterator[tuple[str, Any]]:
    """Every value inside dicts and lists, and its place."""
    pending = [("", tree)]
    while pending:
        place, value = pending.pop()
        yield place, value
        if isinstance(value, dict):
            pending.extend((f"{place}[{key!r}]", each) for key, each in value.items())
        elif isinstance(value, (list, tuple)):
            pending.extend((f"{place}[{index}]", each) for index, each in enumerate(value))
