"""The codec: plain JSON in storage, types back from annotations, nothing lost in silence."""

from __future__ import annotations

import collections
import dataclasses
import enum
import json
import math
import sys
import typing
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar, Union

import msgspec
import pydantic
import pytest

from durable_ext.codec import Codec, JsonCodec
from durable_ext.errors import CodecError

U = uuid.UUID("12345678-1234-5678-1234-567812345678")
NOW = datetime(2024, 1, 2, 3, 4, 5, 678901, UTC)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Mixed(enum.Enum):
    ONE = 1
    PAIR = (1, 2)


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Order:
    item: str
    count: int = 1
    due: datetime | None = None


@dataclasses.dataclass(frozen=True)
class Tree:
    """Refers to itself, and has fields msgspec alone would refuse."""

    name: str | uuid.UUID
    children: list[Tree] = dataclasses.field(default_factory=list)
    anything: Iterable[Order] = dataclasses.field(default_factory=list)


class Point(msgspec.Struct):
    x: int
    y: int = 0


class Place(NamedTuple):
    name: str
    at: date


class Options(TypedDict, total=False):
    name: str


class Times(TypedDict):
    due: datetime


class Person(pydantic.BaseModel):
    full_name: str = pydantic.Field(alias="fullName")
    born: date | None = None


class StrictPerson(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    born: date


@pydantic.dataclasses.dataclass
class Checked:
    count: int
    day: date


class Legacy:
    """As azure-functions-durable asks of classes: static methods."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Legacy) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]  # equal by value

    @staticmethod
    def to_json(obj: Legacy) -> Any:
        return {"v": obj.value}

    @staticmethod
    def from_json(data: Any) -> Legacy:
        return Legacy(data["v"])


@dataclasses.dataclass
class LegacyRecord:
    """A dataclass that says itself how it is stored."""

    secret: str

    def to_json(self) -> str:
        return self.secret[::-1]

    @staticmethod
    def from_json(data: str) -> LegacyRecord:
        return LegacyRecord(data[::-1])


@dataclasses.dataclass
class Holder:
    record: LegacyRecord
    others: list[Legacy]


class OnlyOut:
    def to_json(self) -> int:
        return 1


class BreaksOut:
    def to_json(self) -> int:
        raise RuntimeError("no way")


class Undumpable(pydantic.BaseModel):
    anything: Any = len


@dataclasses.dataclass
class Picky:
    x: int

    def __post_init__(self) -> None:
        raise KeyError(self.x)


class Unknown:
    pass


T = TypeVar("T")
Name = NewType("Name", str)


@pytest.fixture
def codec() -> JsonCodec:
    return JsonCodec()


def test_the_default_is_a_codec() -> None:
    given: Codec = JsonCodec()
    assert given.decode(given.encode("x")) == "x"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        ("Hello", '"Hello"'),
        ("漢", '"漢"'),
        (1.5, "1.5"),
        (2**70, str(2**70)),
        ({"a": [1, None, {"b": "null"}]}, '{"a":[1,null,{"b":"null"}]}'),
        ((1, 2), "[1,2]"),
        ({1: "a"}, '{"1":"a"}'),
        (Order("tea"), '{"item":"tea","count":1,"due":null}'),
        (Colour.RED, '"red"'),
        (U, f'"{U}"'),
        (Person(fullName="Ada"), '{"fullName":"Ada","born":null}'),
        (collections.OrderedDict(a=1), '{"a":1}'),
        (type("Text", (str,), {})("x"), '"x"'),
        (type("Number", (float,), {})(1.5), "1.5"),
    ],
)
def test_storage_holds_plain_json(codec: JsonCodec, value: Any, text: str) -> None:
    assert codec.encode(value) == text


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (Order("tea", 2, NOW), Order),
        ([Order("tea")], list[Order]),
        ({"a": Order("tea")}, dict[str, Order]),
        (Order("tea"), Optional[Order]),  # noqa: UP045 - both spellings must work
        (None, Order | None),
        (Tree("a", [Tree(U)], [Order("tea")]), Tree),
        ([Tree("a")], Sequence[Tree]),
        (Colour.BLUE, Colour),
        (Mixed.PAIR, Mixed),
        ([Mixed.ONE, Mixed.PAIR], list[Mixed]),
        (Rights.READ | Rights.WRITE, Rights),
        (NOW, datetime),
        (NOW.date(), date),
        (time(1, 2, 3), time),
        (timedelta(days=1, seconds=2), timedelta),
        (U, uuid.UUID),
        (Decimal("1.20"), Decimal),
        (b"\x00\xff", bytes),
        ((1, "a"), tuple[int, str]),
        ((1, 2, 3), tuple),
        ((1, 2, 3), typing.Tuple),  # noqa: UP006 - the older spelling must work
        ((1, 2, 3), tuple[int, ...]),
        ({1, 2}, set[int]),
        (frozenset({"a"}), frozenset),
        ({1: "a"}, dict[int, str]),
        ({U: Order("tea")}, dict[uuid.UUID, Order]),
        (Point(1, 2), Point),
        ({"p": Point(1)}, Mapping[str, Point]),
        (Place("x", NOW.date()), Place),
        ({"due": NOW}, Times),
        (Person(fullName="Ada", born=NOW.date()), Person),
        ([StrictPerson(born=NOW.date())], list[StrictPerson]),
        (Checked(1, NOW.date()), Checked),
        ([Order("tea")], Iterable[Order]),
        (U, str | uuid.UUID),
        ("no uuid", Union[uuid.UUID, str]),  # noqa: UP007 - both spellings must work
        (Point(1), Order | Point),
        (Order("tea", 2), Point | Order),
        ([NOW, 3], list[datetime | int]),
        (Order("tea"), Annotated[Order, "a note"]),
    ],
    ids=str,
)
def test_values_come_back_as_annotated(codec: JsonCodec, value: Any, annotation: Any) -> None:
    assert codec.decode(codec.encode(value), annotation) == value
    assert type(codec.decode(codec.encode(value), annotation)) is type(value)


def test_of_two_records_the_one_that_holds_all_data_is_chosen(codec: JsonCodec) -> None:
    @dataclasses.dataclass
    class Small:
        x: int

    assert codec.decode('{"x":1,"y":2}', Small | Point) == Point(1, 2)
    assert codec.decode('{"x":1}', Small | Point) == Small(1)
    assert codec.decode('{"x":1,"y":2,"z":3}', Small | Point) == Small(1), "none holds all: the first that fits"


@pytest.mark.parametrize(
    "annotation",
    [
        *(None, Any, object, str, int, bool, float, list, dict, type(None), list[str], dict[str, int], int | None),
        *(Literal["a"], Options, Name, Sequence[int], Mapping, Iterable, str | int, list[dict[str, Any]]),
        *(typing.List, typing.Dict),  # noqa: UP006 - the older spelling must work
        *(Unknown, T, list[T], "Order", list["Order"], list[Unknown], Order | Unknown, typing.Callable, type[Order]),  # type: ignore[valid-type]  # nonsense on purpose
        *(Annotated[str, []], 5, [], len, collections.deque[int], typing.Generator[int, int, int]),
    ],
    ids=str,
)
@pytest.mark.parametrize("value", [7, "x", {"q": [1]}, None])
def test_annotations_that_ask_for_no_more_than_json_are_not_checked(
    codec: JsonCodec, annotation: Any, value: Any
) -> None:
    assert codec.decode(codec.encode(value), annotation) == value


def test_a_field_whose_annotation_cannot_be_evaluated_costs_only_its_own_type(
    codec: JsonCodec, caplog: pytest.LogCaptureFixture
) -> None:
    @dataclasses.dataclass
    class Partly:
        x: NoSuchName  # type: ignore[name-defined]  # noqa: F821 - what the test is about
        due: datetime

    for _ in range(2):
        assert codec.decode(codec.encode(Partly(1, NOW)), Partly) == Partly(1, NOW)
    (warning,) = caplog.messages
    assert "field 'x' of" in warning
    assert "NoSuchName" in warning


def test_a_record_that_cannot_be_read_comes_as_stored_with_one_warning(
    codec: JsonCodec, caplog: pytest.LogCaptureFixture
) -> None:
    class Undecided(msgspec.Struct, typing.Generic[T]):
        x: T | Point | Order  # msgspec cannot tell these apart, and generic classes are left to it

    for _ in range(2):
        assert codec.decode('{"x":[1]}', Undecided[int]) == {"x": [1]}
    (warning,) = caplog.messages
    assert "Undecided" in warning


@pytest.mark.parametrize(
    ("text", "annotation", "message"),
    [
        (
            '{"item":"tea","count":"two"}',
            Order,
            r"does not fit .*Order: Expected `int`, got `str` - at `\$.count`; .*two",
        ),
        ('[{"item":"tea"},{}]', list[Order], r"list\[.*Order\].*required field `item` - at `\$\[1\]`"),
        ('"x"', uuid.UUID, "does not fit uuid.UUID: Invalid UUID"),
        ('"green"', Colour, "green"),
        ("[3,4]", Mixed, "Mixed"),
        ("7", str | uuid.UUID, "got 7"),
        ('{"fullName":3}', Person, "fullName"),
        ('{"name":"a","children":[{"name":1}]}', Tree, "children"),
        ("not json", Order, "not json"),
        ('{"x":1}', Picky, "KeyError|1"),
        ("0", Annotated[int, msgspec.Meta(ge=1)], "Expected `int` >= 1"),
        (json.dumps(["x" * 500]), Point, r"x\.\.\.$"),
    ],
)
def test_a_value_that_does_not_fit_names_type_place_and_value(
    codec: JsonCodec, text: str, annotation: Any, message: str
) -> None:
    with pytest.raises(CodecError, match=message):
        codec.decode(text, annotation)


@pytest.mark.parametrize("text", ["hello", "", "'", "{", "2024-01-01"])
def test_text_that_is_no_json_reads_as_itself(codec: JsonCodec, text: str) -> None:
    assert codec.decode(text) == text
    assert codec.decode(text, str) == text


def test_no_text_is_none(codec: JsonCodec) -> None:
    assert codec.decode(None) is None
    assert codec.decode(None, Order) is None


def test_json_inside_a_json_string_stays_a_string(codec: JsonCodec) -> None:
    assert codec.decode(codec.encode('{"a": 1}')) == '{"a": 1}'


def test_what_other_writers_of_json_write_is_read(codec: JsonCodec) -> None:
    found = codec.decode('{"a": NaN, "b": -Infinity, "c": "\\ud800"}')
    assert math.isnan(found["a"])
    assert (found["b"], found["c"]) == (-math.inf, "\ud800")


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (math.nan, "nan:"),
        (math.inf, "inf:"),
        ({"a": [1.0, {"b": -math.inf}]}, r"-inf at \['a'\]\[1\]\['b'\]"),
        ([None, math.nan], r"nan at \[1\]"),
        (Point(math.nan), r"nan at \['x'\]"),  # type: ignore[arg-type]  # no type checks at run time
        ((Order("tea", math.nan),), r"nan at \[0\]\['count'\]"),  # type: ignore[arg-type]  # no type checks at run time
    ],
)
def test_numbers_json_does_not_have_are_refused_not_turned_into_null(codec: JsonCodec, value: Any, place: str) -> None:
    with pytest.raises(CodecError, match=f"cannot store {place}"):
        codec.encode(value)


def itself() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Unknown(), r"type .*Unknown\. Pass JSON values, dataclasses.*to_json"),
        ({"a": [Unknown()]}, "Unknown"),
        (Order(Unknown()), "Unknown"),  # type: ignore[arg-type]  # no type checks at run time
        (sys, "type module"),
        (len, "builtin_function_or_method"),
        (Path("x"), "Path"),
        (range(3), "type range"),
        ({(1, 2): 3}, r"\(1, 2\) as the key of a dict"),
        ({None: 3}, "None as the key of a dict"),
        ({True: 3}, "True as the key of a dict"),
        ("\ud800", "lone surrogate"),
        ([{"a": "\ud800"}], "lone surrogate"),
        (BreaksOut(), r"to_json raised RuntimeError\('no way'\)"),
        (Undumpable(), "Undumpable: its model_dump raised PydanticSerializationError"),
        (itself(), "holds itself"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_value_that_cannot_be_stored_is_refused_with_a_remedy(codec: JsonCodec, value: Any, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        codec.encode(value)


def test_json_nested_without_end_is_refused_not_fatal(codec: JsonCodec) -> None:
    with pytest.raises(CodecError, match="recursion"):
        codec.decode("[" * 200_000)
    with pytest.raises(CodecError, match="recursion"):
        codec.decode('[{"name":"a","children":' * 100_000, list[Tree])


# --- classes with to_json ----------------------------------------------------------------------------


def test_classes_with_to_json_use_the_envelope_of_azure_functions_durable(codec: JsonCodec) -> None:
    text = codec.encode(Legacy([Legacy(1)]))
    inner = {"__class__": "Legacy", "__module__": __name__, "__data__": {"v": 1}}
    assert json.loads(text) == {"__class__": "Legacy", "__module__": __name__, "__data__": {"v": [inner]}}
    assert codec.decode(text) == Legacy([Legacy(1)])


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (LegacyRecord("abc"), None),
        (LegacyRecord("abc"), LegacyRecord),
        ([LegacyRecord("abc"), 1], None),
        ([LegacyRecord("abc")], list[LegacyRecord]),
        ({"a": {"b": LegacyRecord("abc")}}, dict),
        (Holder(LegacyRecord("abc"), [Legacy(1)]), Holder),
        ([Holder(LegacyRecord("abc"), [])], list[Holder]),
        (LegacyRecord("abc"), LegacyRecord | None),
        (Legacy("x"), int),
    ],
    ids=str,
)
def test_enveloped_values_come_back_where_the_annotation_has_a_place_for_them(
    codec: JsonCodec, value: Any, annotation: Any
) -> None:
    assert codec.decode(codec.encode(value), annotation) == value


def test_a_dataclass_with_to_json_is_stored_by_it_wherever_it_is(codec: JsonCodec) -> None:
    for value in (
        LegacyRecord("abc"),
        [LegacyRecord("abc")],
        {"k": (LegacyRecord("abc"),)},
        Holder(LegacyRecord("abc"), []),
    ):
        assert '"cba"' in codec.encode(value)


def test_plain_json_is_restored_by_from_json_where_annotated(codec: JsonCodec) -> None:
    assert codec.decode('{"v":1}', Legacy) == Legacy(1)
    assert codec.decode('["cba"]', list[LegacyRecord]) == [LegacyRecord("abc")]
    assert codec.decode('{"record":"cba","others":[{"v":1}]}', Holder) == Holder(LegacyRecord("abc"), [Legacy(1)])


def test_a_class_only_its_annotation_can_find_is_found(codec: JsonCodec) -> None:
    class Local(Legacy):
        @staticmethod
        def from_json(data: Any) -> Local:
            return Local(data["v"])

    assert type(codec.decode(codec.encode(Local(1)), Local)) is Local
    assert [type(each) for each in codec.decode(codec.encode([Local(1)]), list[Local])] == [Local]
    assert codec.decode(codec.encode(Local(1)))["__class__"] == "Local"


@pytest.mark.parametrize(
    ("module", "name", "message"),
    [
        ("this_module_is_not_imported", "X", "the module is not imported"),
        ("antigravity", "X", "the module is not imported"),
        (None, "X", "the module is not imported"),
        ("json", "X", "no such class"),
        ("json", "loads", "no such class"),
        ("json", "JSONDecoder", "has no from_json"),
        (__name__, "OnlyOut", "has no from_json"),
        (__name__, 3, "no such class"),
    ],
)
def test_an_envelope_that_cannot_be_opened_stays_a_dict_with_one_warning_and_nothing_is_imported(
    codec: JsonCodec, module: Any, name: Any, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    stored = [{"__class__": name, "__module__": module, "__data__": 1}]
    for _ in range(2):
        assert codec.decode(json.dumps(stored)) == stored
    (warning,) = caplog.messages
    assert message in warning
    assert "antigravity" not in sys.modules


def test_from_json_that_raises_is_named(codec: JsonCodec) -> None:
    text = json.dumps({"__class__": "Legacy", "__module__": __name__, "__data__": 1})
    with pytest.raises(CodecError, match=r"Legacy\.from_json raised TypeError"):
        codec.decode(text)


@pytest.mark.parametrize("data", [{"__class__": "x"}, {"a": '"__class__"'}, {"__class__": 1, "__module__": 2}])
def test_data_that_merely_looks_like_an_envelope_is_data(codec: JsonCodec, data: Any) -> None:
    assert codec.decode(codec.encode(data)) == data
    assert codec.decode(codec.encode(data), dict) == data


def test_a_reader_is_built_once_per_annotation(codec: JsonCodec) -> None:
    codec.decode('{"item":"tea"}', Order)
    built = codec._restorer(Order)
    codec.decode('{"item":"tea"}', Order)
    assert built is not None
    assert codec._restorer(Order) is built


def test_a_codec_can_be_wrapped_to_encrypt() -> None:
    class Rot:
        def __init__(self) -> None:
            self._json = JsonCodec()

        def encode(self, value: Any) -> str:
            return json.dumps(self._json.encode(value)[::-1])

        def decode(self, text: str | None, expected_type: Any = None) -> Any:
            return self._json.decode(None if text is None else json.loads(text)[::-1], expected_type)

    codec: Codec = Rot()
    assert "tea" not in codec.encode(Order("tea"))
    assert codec.decode(codec.encode(Order("tea")), Order) == Order("tea")
