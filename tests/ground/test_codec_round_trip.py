"""The codec loses nothing in silence: what annotation and value agree on comes back equal and of the same types, or is
refused where it is stored."""

from __future__ import annotations

import collections
import dataclasses
import enum
import typing
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Generic, NamedTuple, Optional, TypedDict, TypeVar

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_ext.codec import JsonCodec
from durable_ext.errors import CodecError

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mixed(enum.Enum):
    ONE = 1
    NONE = None
    PAIR = (1, 2)


class UserId(str):
    __slots__ = ()


class Percent(float):
    pass


class Settings(dict[str, Any]):
    pass


@dataclasses.dataclass
class Line:
    item: str
    count: int = 1
    due: datetime | None = None


class Lines(list[Line]):
    pass


@dataclasses.dataclass
class Sum:
    """A field its constructor does not take, and that changes later."""

    parts: list[int]
    total: int = dataclasses.field(init=False, default=0)
    seen: collections.Counter[str] = dataclasses.field(init=False, default_factory=collections.Counter)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    key: str | uuid.UUID
    cached: int = dataclasses.field(init=False, default=3)


@attrs.define
class Token:
    name: str
    _secret: str = "d"
    _lines: list[Line] = attrs.field(factory=list)


@attrs.frozen
class Bare:
    x: int
    words: collections.Counter[str] = attrs.field(factory=collections.Counter)


@attrs.define
class Renamed:
    wanted: int = attrs.field(alias="given")
    made: str = attrs.field(init=False, default="?")


class Point(msgspec.Struct):
    x: int
    y: int = 0


class Wire(msgspec.Struct, tag="wire", rename="camel", omit_defaults=True):
    owner_token: Token
    words: collections.Counter[str] = msgspec.field(default_factory=collections.Counter)
    by_day: dict[date, Line] = {}
    after: Optional[Wire] = None  # noqa: UP045 - a name that is not there yet


class Row(msgspec.Struct, array_like=True):
    name: str
    token: Token | None = None


class Place(NamedTuple):
    name: str
    token: Token
    counts: collections.Counter[str]


class Times(TypedDict):
    due: datetime
    words: collections.OrderedDict[str, int]


class Person(pydantic.BaseModel):
    full_name: str = pydantic.Field(alias="fullName")
    born: date | None = None
    words: collections.Counter[str] = collections.Counter()


class Box(msgspec.Struct, Generic[T]):
    content: T


class Legacy:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]  # equal by value

    def to_json(self) -> Any:
        return {"value": self.value}

    @staticmethod
    def from_json(data: Any) -> Legacy:
        return Legacy(data["value"])


@dataclasses.dataclass
class Everything:
    words: collections.Counter[str]
    order: collections.OrderedDict[int, Line]
    groups: collections.defaultdict[str, list[Token]]
    legacy: Legacy
    user: UserId
    point: Point | Line
    place: Place
    settings: Settings = dataclasses.field(default_factory=Settings)


def alike(one: Any, other: Any) -> bool:
    """Equal, and of the same types throughout."""
    if type(one) is not type(other) or one != other:
        return False
    if isinstance(one, dict):
        pairs = zip(one.items(), other.items(), strict=True)
        return all(alike(a, b) and alike(x, y) for (a, x), (b, y) in pairs)
    if isinstance(one, (list, tuple)):
        return all(map(alike, one, other))
    if isinstance(one, (set, frozenset)):
        return {(type(each), each) for each in one} == {(type(each), each) for each in other}
    if attrs.has(type(one)):
        names = [each.name for each in attrs.fields(type(one))]
    elif dataclasses.is_dataclass(one):
        names = [each.name for each in dataclasses.fields(one)]
    else:
        names = list(getattr(one, "__struct_fields__", ()))
    return all(alike(getattr(one, name), getattr(other, name)) for name in names)


def changed(value: Any, **fields: Any) -> Any:
    for name, each in fields.items():
        object.__setattr__(value, name, each)
    return value


TOKEN = Token("a", "b", [Line("tea")])
GROUPS: collections.defaultdict[str, list[Any]] = collections.defaultdict(list, {"a": [1]})
NOW = datetime(2024, 1, 2, 3, 4, 5, 678901, UTC)

PAIRS: list[tuple[Any, Any]] = [
    (collections.Counter("abca"), collections.Counter[str]),
    (collections.Counter("abca"), collections.Counter),
    (collections.Counter("abca"), typing.Counter[str]),
    (collections.Counter([1, 1, 2]), collections.Counter[int]),
    (collections.Counter({"a": -1, "b": 0}), collections.Counter[str]),
    (collections.OrderedDict(b=1, a=2), collections.OrderedDict[str, int]),
    (collections.OrderedDict(b=1, a=2), collections.OrderedDict),
    (collections.OrderedDict({2: Line("b"), 1: Line("a")}), typing.OrderedDict[int, Line]),
    (GROUPS, collections.defaultdict[str, list[int]]),
    (GROUPS, collections.defaultdict),
    (GROUPS, typing.DefaultDict[str, list[int]]),  # noqa: UP006 - the older spelling must work
    ({NOW.date(): collections.Counter("a")}, Mapping[date, collections.Counter[str]]),
    (None, collections.Counter[str] | None),
    (collections.Counter("a"), Optional[collections.Counter[str]]),  # noqa: UP045 - both spellings must work
    (TOKEN, Token),
    (TOKEN, Token | None),
    (Bare(1, collections.Counter("aa")), Bare),
    (changed(Renamed(given=3), made="!"), Renamed),
    (changed(Sum([1]), total=9, seen=collections.Counter("a")), Sum),
    (changed(Frozen(uuid.UUID(int=1)), cached=9), Frozen),
    (Wire(TOKEN, collections.Counter("a"), {NOW.date(): Line("b")}, Wire(TOKEN)), Wire),
    (Row("a", TOKEN), Row),
    (Place("a", TOKEN, collections.Counter("a")), Place),
    (Times(due=NOW, words=collections.OrderedDict(a=1)), Times),
    (Person(fullName="Ada", words=collections.Counter("a")), Person),
    (Box(Line("a")), Box[Line]),
    (UserId("u"), UserId),
    (Percent(0.5), Percent),
    (Settings(a=[1]), Settings),
    (Lines([Line("a", due=NOW)]), Lines),
    (Legacy([Legacy(1)]), Legacy),
    (Box(Legacy(1)), Box[Legacy]),
    ((Legacy(1), TOKEN), tuple[Legacy, Token]),
    (
        Everything(
            collections.Counter("a"),
            collections.OrderedDict({1: Line("b")}),
            collections.defaultdict(list, a=[TOKEN]),
            Legacy(None),
            UserId("u"),
            Point(1, 2),
            Place("p", TOKEN, collections.Counter()),
            Settings(x=1),
        ),
        Everything,
    ),
]


@pytest.fixture
def codec() -> JsonCodec:
    return JsonCodec()


@pytest.mark.parametrize(("value", "annotation"), PAIRS, ids=lambda each: str(each)[:60])
def test_values_come_back_equal_and_of_the_same_types(codec: JsonCodec, value: Any, annotation: Any) -> None:
    assert alike(codec.decode(codec.encode(value), annotation), value)


def test_a_defaultdict_makes_what_its_annotation_says(codec: JsonCodec) -> None:
    deep = collections.defaultdict[str, collections.defaultdict[str, int]]
    found = codec.decode('{"a":{"b":1}}', deep)
    found["x"]["y"] += 1
    assert found == {"a": {"b": 1}, "x": {"y": 1}}
    with pytest.raises(KeyError):
        codec.decode("{}", collections.defaultdict)["a"]
    with pytest.raises(KeyError):
        codec.decode("{}", collections.defaultdict[str, Line])["a"]


@pytest.mark.parametrize("annotation", [collections.Counter[str], collections.OrderedDict, Token, Bare, Sum], ids=str)
def test_a_value_that_is_no_such_thing_is_an_error(codec: JsonCodec, annotation: Any) -> None:
    with pytest.raises(CodecError, match="does not fit"):
        codec.decode("[1]", annotation)


def test_a_subclass_of_a_builtin_class_gets_what_was_stored_if_it_does_not_fit(
    codec: JsonCodec, caplog: pytest.LogCaptureFixture
) -> None:
    assert codec.decode("7", UserId) == 7
    assert "UserId" in caplog.text


# --- refused where it is stored ----------------------------------------------------------------------


@dataclasses.dataclass
class Seeded:
    x: int
    seed: dataclasses.InitVar[int]
    scale: dataclasses.InitVar[int] = 1

    def __post_init__(self, seed: int, scale: int) -> None:
        self.x += seed * scale


class Secretive(pydantic.BaseModel):
    password: pydantic.SecretStr
    stars: str = ""


class Nested(pydantic.BaseModel):
    all: list[Secretive]
    key: pydantic.SecretBytes = pydantic.SecretBytes(b"")


class Revealing(pydantic.BaseModel):
    password: pydantic.SecretStr

    @pydantic.field_serializer("password", when_used="json")
    def reveal(self, value: pydantic.SecretStr) -> str:
        return value.get_secret_value()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Seeded(1, 2), r"constructor takes 'seed', 'scale', an InitVar.*to_json"),
        ([{"a": Seeded(1, 2)}], "InitVar"),
        (Box(Seeded(1, 2)), "InitVar"),
        (Secretive(password="x"), r"Secretive: \['password'\] is a SecretStr"),  # type: ignore[arg-type]  # is converted
        (Nested(all=[Secretive(password="x")]), r"\['all'\]\[0\]\['password'\] is a SecretStr"),  # type: ignore[arg-type]
        (Nested(all=[], key=b"x"), r"\['key'\] is a SecretBytes"),  # type: ignore[arg-type]  # is converted
        (pydantic.SecretStr("x"), "SecretStr"),
        ({1: "a", "1": "b"}, "the keys 1 and '1'.*both as '1'"),
        ({"1": "a", 1: "b"}, "the keys '1' and 1"),
        ([{"x": {2: "a", "2": TOKEN}}], "the keys 2 and '2'"),
        ({Colour.RED: 1, "red": 2}, "RED.*'red'"),
        ({uuid.UUID(int=1): 1, str(uuid.UUID(int=1)): 2}, "UUID"),
        (Box({1: "a", "1": "b"}), "the keys 1 and '1'"),
        (Token("a", {1: 2, "1": 3}), "the keys 1 and '1'"),  # type: ignore[arg-type]  # no type checks at run time
        (Line({1: 2, "1": 3}), "the keys 1 and '1'"),  # type: ignore[arg-type]  # no type checks at run time
    ],
    ids=lambda each: str(each)[:60],
)
def test_what_would_be_lost_is_refused(codec: JsonCodec, value: Any, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        codec.encode(value)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        ({1: "a", 2: "b"}, dict[int, str]),
        ({Level.LOW: 1, Level.HIGH: 2}, dict[Level, int]),
        ({Colour.RED: 1}, dict[Colour, int]),
        (Revealing(password="x"), Revealing),  # type: ignore[arg-type]  # is converted
    ],
    ids=str,
)
def test_what_only_looks_as_if_it_were_lost_is_stored(codec: JsonCodec, value: Any, annotation: Any) -> None:
    assert alike(codec.decode(codec.encode(value), annotation), value)


def test_asterisks_are_a_text_like_any_other(codec: JsonCodec) -> None:
    class Starred(pydantic.BaseModel):
        text: str

    assert codec.decode(codec.encode(Starred(text="*" * 12)), Starred) == Starred(text="*" * 12)


def test_an_empty_secret_has_nothing_to_lose(codec: JsonCodec) -> None:
    assert codec.decode(codec.encode(Secretive(password="")), Secretive) == Secretive(password="")  # type: ignore[arg-type]


def test_a_dataclass_with_an_init_var_is_made_from_json_that_has_it(codec: JsonCodec) -> None:
    found = codec.decode('{"x":1,"seed":2}', Seeded)
    assert (type(found), found.x) == (Seeded, 3)
    with pytest.raises(CodecError, match="seed"):
        codec.decode('{"x":1}', Seeded)


# --- all kinds, nested in one another ----------------------------------------------------------------

_text = st.text(st.characters(codec="utf-8"), max_size=5)
_numbers = st.integers(-(2**53), 2**53)
_LEAVES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, _text),
    (int, _numbers),
    (bool, st.booleans()),
    (datetime, st.datetimes(timezones=st.just(UTC))),
    (date, st.dates()),
    (time, st.times()),
    (timedelta, st.timedeltas(timedelta(days=-999), timedelta(days=999))),
    (uuid.UUID, st.uuids()),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False, places=3)),
    (bytes, st.binary(max_size=4)),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Mixed, st.sampled_from(Mixed)),
    (UserId, st.builds(UserId, _text)),
    (Line, st.builds(Line, _text, _numbers, st.none() | st.datetimes(timezones=st.just(UTC)))),
    (Token, st.builds(Token, _text, _text)),
    (Point, st.builds(Point, _numbers, _numbers)),
    (Place, st.builds(Place, _text, st.builds(Token, _text, _text), st.just(collections.Counter("ab")))),
    (Person, st.builds(lambda name: Person(fullName=name), _text)),
    (Legacy, st.builds(Legacy, _text)),
]
_KEYS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, _text),
    (int, _numbers),
    (date, st.dates()),
    (uuid.UUID, st.uuids()),
    (Colour, st.sampled_from(Colour)),
]


@st.composite
def pairs(draw: st.DrawFn, depth: int = 3) -> tuple[Any, Any]:
    """An annotation, and a value of it."""
    annotation, values = draw(shapes(depth))
    return annotation, draw(values)


@st.composite
def shapes(draw: st.DrawFn, depth: int) -> tuple[Any, st.SearchStrategy[Any]]:
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from(_LEAVES))
    inner, values = draw(shapes(depth - 1))
    key, keys = draw(st.sampled_from(_KEYS))
    dicts = st.dictionaries(keys, values, max_size=3)
    made: list[tuple[Any, st.SearchStrategy[Any]]] = [
        (list[inner], st.lists(values, max_size=3)),
        (tuple[inner, ...], st.lists(values, max_size=3).map(tuple)),
        (tuple[inner, int], st.tuples(values, _numbers)),
        (dict[key, inner], dicts),
        (Mapping[key, inner], dicts),
        (collections.OrderedDict[key, inner], dicts.map(collections.OrderedDict)),
        (collections.defaultdict[key, inner], dicts.map(lambda each: collections.defaultdict(None, each))),
        (collections.Counter[key], st.dictionaries(keys, _numbers, max_size=3).map(collections.Counter)),
        (inner | None, st.none() | values if inner is not Mixed else values),
        *((record, values.map(record)) for record in records_of(inner)),
    ]
    return draw(st.sampled_from(made))


def records_of(inner: Any) -> list[Any]:
    """One class of each kind of record, with one field of this annotation."""
    return [
        dataclasses.make_dataclass("Data", [("content", inner)]),
        msgspec.defstruct("Struct", [("content", inner)]),
        attrs.make_class("Attrs", {"_content": attrs.field(type=inner)}),
    ]


@given(pairs())
def test_whatever_is_nested_comes_back_equal_and_of_the_same_types(pair: tuple[Any, Any]) -> None:
    annotation, value = pair
    codec = JsonCodec()
    try:
        text = codec.encode(value)
    except CodecError:
        return  # refused where it is stored
    assert alike(codec.decode(text, annotation), value)
