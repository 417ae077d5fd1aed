"""The codec: what becomes of values that do not fit their annotation, and of envelopes from outside."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import sys
import types
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec
import pydantic
import pytest

from durable_ext.codec import JsonCodec
from durable_ext.errors import CodecError


@dataclasses.dataclass
class Order:
    item: str
    note: Any = None


class Point(msgspec.Struct):
    x: int


class Person(pydantic.BaseModel):
    name: str


class Text:
    """Its `from_json` takes text, as the documentation of azure-functions-durable has it."""

    made = 0

    def __init__(self, text: str) -> None:
        self.text = text

    @staticmethod
    def to_json(obj: Text) -> str:
        return json.dumps(obj.text)

    @staticmethod
    def from_json(data: str) -> Text:
        Text.made += 1
        return Text(json.loads(data))


class Loud(Text):
    @staticmethod
    def from_json(data: str) -> Loud:
        return Loud(json.loads(data))


class Thing:
    made = 0

    def to_json(self) -> int:
        return 1

    @staticmethod
    def from_json(data: Any) -> Thing:
        Thing.made += 1
        return Thing()


@dataclasses.dataclass
class Holder:
    text: Text


def envelope(name: str, data: Any, module: Any = __name__) -> dict[str, Any]:
    return {"__class__": name, "__module__": module, "__data__": data}


@pytest.fixture
def codec() -> JsonCodec:
    return JsonCodec()


@pytest.fixture(autouse=True)
def nothing_made() -> None:
    Text.made = Thing.made = 0


@pytest.mark.parametrize("annotation", [Order, Point, Person, Text, datetime, list[Order], dict[str, Text]], ids=str)
def test_null_where_the_annotation_does_not_allow_it_is_none_with_one_warning(
    codec: JsonCodec, annotation: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for text in ("null", codec.encode(None), " null\n"):
        assert codec.decode(text, annotation) is None
    (warning,) = caplog.messages
    assert "does not fit" in warning
    assert "null" in warning
    assert Text.made == 0


@pytest.mark.parametrize("annotation", [Order | None, Text | None, Any, int, dict[str, int], None], ids=str)
def test_null_where_it_is_allowed_is_none_without_a_warning(
    codec: JsonCodec, annotation: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert codec.decode("null", annotation) is None
    assert caplog.messages == []


def test_null_inside_a_typed_structure_stays_an_error(codec: JsonCodec) -> None:
    for text, annotation in (("[null]", list[Order]), ('{"item":null}', Order), ('{"text":null}', Holder)):
        with pytest.raises(CodecError, match="does not fit"):
            codec.decode(text, annotation)


@pytest.mark.parametrize(
    ("stored", "annotation"),
    [
        ({"a": 1}, Text),
        (5, Text),
        ({"a": 1}, Text | None),
        ([{"a": 1}], list[Text]),
        ({"a": 1}, list[Text]),
        ([None], list[Text]),
    ],
    ids=str,
)
def test_what_from_json_does_not_take_is_handed_over_as_stored_with_one_warning(
    codec: JsonCodec, stored: Any, annotation: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        assert codec.decode(json.dumps(stored), annotation) == stored
    (warning,) = caplog.messages
    assert "handed over as it is" in warning


def test_text_that_is_no_json_reaches_a_custom_class_as_text(codec: JsonCodec) -> None:
    assert codec.decode("hello", Text) == "hello"


@pytest.mark.parametrize("annotation", [Order, Point, Person, Holder, list[Order], Order | Text], ids=str)
def test_a_wrong_value_for_a_typed_structure_stays_an_error(codec: JsonCodec, annotation: Any) -> None:
    with pytest.raises(CodecError, match="does not fit"):
        codec.decode('{"text":{"a":1}}', annotation)


def test_json_nested_without_end_is_refused_for_custom_classes_too(codec: JsonCodec) -> None:
    with pytest.raises(CodecError, match="recursion"):
        codec.decode("[" * 200_000, list[Text])


# --- envelopes ---------------------------------------------------------------------------------------


def test_an_envelope_of_an_annotated_class_or_a_subclass_is_opened(codec: JsonCodec) -> None:
    assert type(codec.decode(json.dumps(envelope("Text", '"a"')), Text)) is Text
    assert type(codec.decode(json.dumps(envelope("Loud", '"a"')), Text)) is Loud
    assert type(codec.decode(json.dumps(envelope("Loud", '"a"')), Text | None)) is Loud
    assert type(codec.decode(json.dumps({"text": envelope("Loud", '"a"')}), Holder).text) is Loud


def test_an_envelope_of_another_class_is_not_opened_for_a_custom_class(
    codec: JsonCodec, caplog: pytest.LogCaptureFixture
) -> None:
    stored = envelope("Thing", 1)
    assert codec.decode(json.dumps(stored), Text) == stored
    assert codec.decode(json.dumps([stored]), list[Text]) == [stored]
    assert Thing.made == 0
    assert all("not of an annotated class" in each for each in caplog.messages)


@pytest.mark.parametrize(
    ("stored", "annotation"),
    [
        (envelope("Thing", 1), Order),
        (envelope("Thing", 1), Point),
        (envelope("Thing", 1), Person),
        ({"text": envelope("Thing", 1)}, Holder),
        ({"item": envelope("Thing", 1)}, Order),
        ([envelope("Nowhere", 1)], list[Order]),
        ({"item": "a", "note": envelope("Nowhere", 1)}, Order),
    ],
    ids=str,
)
def test_an_envelope_of_another_class_is_an_error_in_a_typed_structure(
    codec: JsonCodec, stored: Any, annotation: Any
) -> None:
    with pytest.raises(CodecError, match=r"does not fit|not of an annotated class|no such class"):
        codec.decode(json.dumps(stored), annotation)


def test_a_field_of_any_class_holds_any_class(codec: JsonCodec) -> None:
    assert type(codec.decode(json.dumps({"item": "a", "note": envelope("Thing", 1)}), Order).note) is Thing


def test_objects_within_an_object_are_opened_whatever_the_annotation(codec: JsonCodec) -> None:
    class Pair(Thing):
        @staticmethod
        def from_json(data: Any) -> Any:
            assert type(data["inner"]) is Thing
            return Pair()

    stored = {"__class__": "Pair", "__module__": Pair.__module__, "__data__": {"inner": envelope("Thing", 1)}}
    assert type(codec.decode(json.dumps(stored), Pair)) is Pair


def test_a_broken_object_of_an_annotated_class_is_an_error(codec: JsonCodec) -> None:
    with pytest.raises(CodecError, match=r"Text\.from_json raised"):
        codec.decode(json.dumps(envelope("Text", 5)), Text)


def test_one_envelope_that_cannot_be_opened_leaves_the_others(codec: JsonCodec) -> None:
    unknown = envelope("X", 1, "this_module_is_not_imported")
    found = codec.decode(json.dumps([unknown, envelope("Text", '"a"')]))
    assert found[0] == unknown
    assert type(found[1]) is Text


@pytest.fixture
def lazy_module(tmp_path: Any) -> Iterator[str]:
    """A module of the lazy kind in the standard library: it runs when an attribute of it is looked up."""
    name = "durable_ext_lazy_module"
    (tmp_path / f"{name}.py").write_text("raise RuntimeError('it was imported')")
    spec = importlib.util.spec_from_file_location(name, tmp_path / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield name
    del sys.modules[name]


def test_an_envelope_does_not_make_a_lazy_module_load(codec: JsonCodec, lazy_module: str) -> None:
    stored = envelope("X", 1, lazy_module)
    assert codec.decode(json.dumps(stored)) == stored


def test_an_envelope_does_not_call_the_getattr_of_a_module(codec: JsonCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    module = types.ModuleType("durable_ext_asked")
    module.__getattr__ = asked.append  # type: ignore[method-assign, assignment]  # as PEP 562 has it
    monkeypatch.setitem(sys.modules, "durable_ext_asked", module)
    monkeypatch.setitem(sys.modules, "durable_ext_blocked", None)  # type: ignore[arg-type]  # how imports are blocked
    for name in ("durable_ext_asked", "durable_ext_blocked"):
        stored = envelope("X", 1, name)
        assert codec.decode(json.dumps(stored)) == stored
    assert asked == []


def test_names_from_outside_are_warned_of_shortened_and_escaped(
    codec: JsonCodec, caplog: pytest.LogCaptureFixture
) -> None:
    codec.decode(json.dumps(envelope("\x1b[31m" + "x" * 5000, 1, "json")))
    (warning,) = caplog.messages
    assert "\x1b" not in warning
    assert len(warning) < 400


def test_made_up_names_do_not_fill_memory_or_log(codec: JsonCodec, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(1500):
        codec.decode(json.dumps(envelope(f"X{number}", 1, "json")))
    assert len(caplog.messages) == 1000
