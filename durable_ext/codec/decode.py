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
dataclasses, attrs classes, enums,        as msgspec does; an enum of mixed values by the JSON of its
structs, datetimes, UUIDs, tuples, ...    members
Counter, OrderedDict, defaultdict         the same, of their items; a defaultdict makes what its annotation says
subclasses of dict, list, str, int, ...   made from the stored value
unions msgspec cannot tell apart          the first member that gives the stored value back when stored
                                          again, else the first that fits; plain JSON members last
anything else                             as stored
========================================  ==========================================================
"""

from __future__ import annotations

import collections
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
from durable_ext.codec.records import RecordField, fields_of, hints_of, is_attrs, is_named_tuple, is_record, logger

_JSON = frozenset({str, int, float, bool, list, dict, type(None)})
_RICH = frozenset(
    {bytes, bytearray, dt.datetime, dt.date, dt.time, dt.timedelta, uuid.UUID, decimal.Decimal, tuple, set, frozenset}
)
# What holds items of any class, unless it says more of them.
_UNSAID = frozenset({list, dict, tuple, set, frozenset})
_MAPPINGS = frozenset({collections.Counter, collections.OrderedDict, collections.defaultdict})
_BASES = (dict, list, tuple, set, frozenset, str, int, float)
_abc = collections.abc
_CONTAINERS: dict[Any, Any] = {
    **dict.fromkeys((list, _abc.Sequence, _abc.MutableSequence, _abc.Collection, _abc.Iterable), list),
    **dict.fromkeys((dict, _abc.Mapping, _abc.MutableMapping), dict),
    **dict.fromkeys((set, _abc.Set, _abc.MutableSet), set),
    frozenset: frozenset,
    tuple: tuple,
}


class Restorer:
    """Reads values of one annotation.

    `classes` are those with `from_json` that the annotation names, by module and name. It is `open_ended` if some
    part may be of any class, and `lenient` if all it asks for is made by user code: then what does not fit may be
    handed over as stored.
    """

    def __init__(self, target: Any, rewriting: _Rewriting) -> None:
        self._target = target
        self.classes = rewriting.classes
        self.open_ended = rewriting.open_ended
        self.lenient = rewriting.custom and not rewriting.strict
        self._decode = msgspec.json.Decoder(target, dec_hook=_read).decode

    def from_text(self, text: str) -> Any:
        """The value in this JSON text. Raises `msgspec.DecodeError`."""
        return self._decode(text)

    def from_tree(self, tree: Any) -> Any:
        """The value in already parsed JSON, which may hold restored objects. Raises `msgspec.ValidationError`."""
        return _convert(tree, self._target)


def restorer_for(annotation: Any) -> Restorer | None:
    """The reader of this annotation, or None if it asks for no more than JSON, or is not understood."""
    rewriting = _Rewriting()
    try:
        target, asks_for_more = rewriting.of(annotation)
        return Restorer(target, rewriting) if asks_for_more and target is not Any else None
    except (TypeError, NameError, AttributeError, RecursionError) as error:  # what unresolvable annotations raise
        logger.warning("values of %s are read as plain JSON values: %s", type_name(annotation), error)
        return None


# --- reader types ------------------------------------------------------------------------------------


class _ReaderType(type):
    """Makes classes that msgspec hands to `_read`, and whose instances may be anything."""

    read: Any  # a function of the stored value; typed as one, it would count as a method
    only_ours = False  # whether msgspec would read the annotation it stands for too, and otherwise

    def __instancecheck__(cls, value: object) -> bool:
        return True


def _reader_type(name: str, read: Callable[[Any], Any] | None = None, *, only_ours: bool = False) -> _ReaderType:
    made = _ReaderType(name, (), {})
    made.only_ours = only_ours
    if read is not None:
        made.read = read
    return made


def _read(kind: Any, stored: Any) -> Any:
    """The hook msgspec calls for types it does not know: our reader types, and what it finds in structs itself."""
    reader = kind if isinstance(kind, _ReaderType) else _reader_of(kind)
    return stored if reader is None else reader.read(stored)


@functools.lru_cache(maxsize=1024)
def _reader_of(kind: Any) -> Any:
    form, _ = _Rewriting().of(kind)
    return form if isinstance(form, _ReaderType) else None


def _convert(tree: Any, target: Any) -> Any:
    # str_keys: whatever the keys of a dict are, in JSON they were text
    return msgspec.convert(tree, target, dec_hook=_read, str_keys=True)


def from_json(kind: Any, stored: Any) -> Any:
    """Call the user's `from_json`. Whatever it raises becomes a ValueError, so that msgspec adds the place."""
    try:
        return kind.from_json(stored)
    except Exception as err:
        raise ValueError(f"{type_name(kind)}.from_json raised {err!r}") from err


def _from_plain_json(kind: Any, stored: Any) -> Any:
    # We store such objects in envelopes. So null is the absence of one, and an object of another class is no data.
    if stored is None or not isinstance(stored, (dict, list, str, int, float)):
        raise ValueError(f"Expected `{type_name(kind)}`, got `{'null' if stored is None else type_name(type(stored))}`")
    return from_json(kind, stored)


def _validated(kind: Any, stored: Any) -> Any:
    # as JSON, not as Python objects: strict models accept a date written as text only there
    return kind.model_validate_json(encode_unchecked(stored))


class _Rewriting:
    """One annotation on its way to a form msgspec accepts. `of` answers the form, and whether it asks for more
    than JSON."""

    def __init__(self) -> None:
        self._records: dict[type, Any] = {}
        self.classes: dict[tuple[str, str], type] = {}
        self.open_ended = self.custom = self.strict = False

    def of(self, annotation: Any) -> tuple[Any, bool]:
        form, more = self._of(annotation)
        if form is Any or form in _UNSAID:
            self.open_ended = True
        return form, more

    def _of(self, annotation: Any) -> tuple[Any, bool]:
        if annotation is None or annotation in _JSON:
            return (type(None) if annotation is None else annotation), False
        if annotation in _RICH:
            self.strict = True
            return annotation, True
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            inner, more = self.of(annotation.__origin__)
            limits = tuple(each for each in annotation.__metadata__ if isinstance(each, msgspec.Meta))
            self.strict |= bool(limits)
            return (typing.Annotated[(inner, *limits)], True) if limits else (inner, more)
        if origin is typing.Literal:
            return annotation, False
        if origin is typing.Union or origin is types.UnionType:
            return self._union(typing.get_args(annotation))
        if origin in _CONTAINERS:
            return self._container(_CONTAINERS[origin], typing.get_args(annotation))
        if annotation in _MAPPINGS or origin in _MAPPINGS:
            return self._mapping(origin or annotation, typing.get_args(annotation)), True
        if origin is not None:  # a generic dataclass or struct; of other generics msgspec says TypeError
            self.strict = self.open_ended = True
            return annotation, is_record(origin)
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

    def _mapping(self, kind: Any, args: tuple[Any, ...]) -> Any:
        """Counter, OrderedDict and defaultdict: a dict that is made one of them."""
        self.strict = True
        if kind is collections.Counter and args:
            args = (*args, int | float)
        target = self._container(dict, args)[0]
        make = functools.partial(kind, _default_factory(args[1] if args else None)) if _is_defaultdict(kind) else kind
        return _reader_type(kind.__name__, lambda v: v if type(v) is kind else make(_convert(v, target)))

    def _class(self, kind: type) -> tuple[Any, bool]:
        if callable(getattr(kind, "from_json", None)):
            self.custom = True
            self.classes[kind.__module__, kind.__name__] = kind
            return _reader_type(kind.__name__, lambda v: v if isinstance(v, kind) else _from_plain_json(kind, v)), True
        if callable(getattr(kind, "model_validate_json", None)):
            self.strict = self.open_ended = True
            return _reader_type(kind.__name__, lambda v: v if isinstance(v, kind) else _validated(kind, v)), True
        if issubclass(kind, enum.Enum):
            self.strict = True
            return _enum(kind), True
        if typing.is_typeddict(kind):
            hints = typing.get_type_hints(kind, include_extras=True).values()
            parts = [self.of(each)[1] for each in hints]  # each of them, for what is noticed on the way
            more = any(parts)
            self.strict |= more
            return (kind, True) if more else (dict, False)
        if is_record(kind):
            self.strict = True
            return self._record(kind), True
        for base in _BASES:
            if issubclass(kind, base):
                self.custom = True
                return self._subclass(kind, base), True
        return Any, False

    def _subclass(self, kind: Any, base: Any) -> Any:
        """A class of the user's that extends a builtin one, made from the builtin value if that keeps it."""
        said = [each for each in getattr(kind, "__orig_bases__", ()) if typing.get_origin(each) is base]
        target = self.of(said[0])[0] if said else base

        def read(stored: Any) -> Any:
            value = _convert(stored, target)
            made = kind(value)
            if made != value:
                raise ValueError(f"{type_name(kind)}({value!r}) is another value")
            return made

        return _reader_type(kind.__name__, read)

    def _record(self, kind: Any) -> Any:
        """The class itself if msgspec reads every field as we would, else a reader that goes through a struct of
        ours."""
        if kind in self._records:
            return self._records[kind]
        hints, all_known = hints_of(kind)
        fields = fields_of(kind)
        is_ours = not all_known or any(_is_hidden_from_msgspec(kind, each) for each in fields)
        if not is_ours:
            by_msgspec = hasattr(kind, "__dataclass_fields__") or is_attrs(kind)
            # what msgspec reads by itself goes through its hook, fields of structs too
            self._records[kind] = _reader_type(kind.__name__, only_ours=True) if by_msgspec else kind
            forms = [self.of(_hint_of(hints, each))[0] for each in fields]
            if by_msgspec:
                is_ours = any(form != hints.get(each.name) for form, each in zip(forms, fields, strict=True))
            else:
                is_ours = any(map(_is_only_ours, forms))
            if not is_ours:
                self._records[kind] = kind
                return kind
        placed = self._records.get(kind)
        reader = placed if isinstance(placed, _ReaderType) else _reader_type(kind.__name__, only_ours=True)
        self._records[kind] = reader
        reader.read = _record_reader(kind, fields, [self.of(_hint_of(hints, each))[0] for each in fields])
        return reader


def _is_hidden_from_msgspec(kind: Any, field: RecordField) -> bool:
    if is_attrs(kind):
        return field.name.startswith("_") or field.argument != field.name
    return False


def _hint_of(hints: dict[str, Any], field: RecordField) -> Any:
    hint = hints.get(field.name, Any)
    return hint.type if isinstance(hint, dataclasses.InitVar) else hint


def _is_only_ours(form: Any) -> bool:
    if isinstance(form, _ReaderType):
        return form.only_ours
    return any(map(_is_only_ours, typing.get_args(form)))


def _record_reader(kind: Any, fields: list[RecordField], forms: list[Any]) -> Callable[[Any], Any]:
    options: dict[str, Any] = {"array_like": is_named_tuple(kind)}
    if issubclass(kind, msgspec.Struct):
        config = kind.__struct_config__
        options = {
            "array_like": config.array_like,
            "tag": config.tag,
            "tag_field": config.tag_field,
            "forbid_unknown_fields": config.forbid_unknown_fields,
        }
    struct = msgspec.defstruct(
        kind.__name__,
        [
            (each.name, form) if each.is_required else (each.name, form, msgspec.UNSET)
            for each, form in zip(fields, forms, strict=True)
        ],
        kw_only=True,
        rename={each.name: each.key for each in fields},
        **options,
    )

    def read(stored: Any) -> Any:
        if isinstance(stored, kind):
            return stored
        found = msgspec.structs.asdict(_convert(stored, struct))
        known = [each for each in fields if found[each.name] is not msgspec.UNSET]
        made = kind(**{each.argument: found[each.name] for each in known if each.argument})
        for each in known:
            if each.argument is None:
                object.__setattr__(made, each.name, found[each.name])  # the class may be frozen
        return made

    return read


def _is_defaultdict(kind: Any) -> bool:
    return kind is collections.defaultdict


def _default_factory(annotation: Any) -> Any:
    """What a defaultdict of these values makes for a missing key, as far as the annotation says it."""
    kind, args = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if _is_defaultdict(kind):
        return functools.partial(kind, _default_factory(args[1] if args else None))
    return kind if kind in _UNSAID or kind in _MAPPINGS or kind in (int, float, str, bool) else None


def _enum(kind: type[enum.Enum]) -> Any:
    values = {type(each.value) for each in kind}
    if not issubclass(kind, enum.Flag) and values in ({str}, {int}):
        return kind
    by_json = {to_text(each.value): each for each in kind}

    def read(stored: Any) -> Any:
        member = by_json.get(encode_unchecked(stored))
        return kind(stored) if member is None else member

    return _reader_type(kind.__name__, read, only_ours=True)


def _choice(members: list[Any], name: str) -> Any:
    def read(stored: Any) -> Any:
        fitting = []
        for each in members:
            try:
                value = _convert(stored, each)
            except msgspec.ValidationError:
                continue
            if value is stored or to_text(value) == encode_unchecked(stored):
                return value
            fitting.append(value)
        if not fitting:
            raise ValueError(f"Expected `{name}`, got {encode_unchecked(stored)[:80]}")
        return fitting[0]

    return _reader_type(name, read, only_ours=True)
