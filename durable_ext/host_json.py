"""Strict reading of host.json: rules a value must keep, and messages that name the place, the rule and the fix."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from durable_ext.errors import ConfigurationError

# --- rules -------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a value must be. `read` gives the value its Python form, or raises ValueError; `example` is a right one."""

    must_be: str
    example: str
    read: Callable[[Any], Any]


def text() -> Rule:
    """Text that is not empty."""
    return Rule("text", '"name"', lambda value: value if _is(str, value) and value else _refuse())


def matching(pattern: str, must_be: str, example: str) -> Rule:
    """Text of a given form."""
    return Rule(
        must_be, example, lambda value: value if _is(str, value) and re.fullmatch(pattern, value) else _refuse()
    )


def flag() -> Rule:
    """True or false."""
    return Rule("true or false, without quotes", "true", lambda value: value if _is(bool, value) else _refuse())


def whole(least: int, most: int | None = None) -> Rule:
    """A whole number in a range that includes both ends."""

    def read(value: Any) -> int:
        return int(value) if _is(int, value) and least <= value and (most is None or value <= most) else _refuse()

    limits = f"of at least {least}" if most is None else f"from {least} to {most}"
    return Rule(f"a whole number {limits}, without quotes", str(max(least, min(10, most or 10))), read)


def one_of(*choices: str) -> Rule:
    """One of a few words, in any case, as the Functions host takes them."""
    by_name = {each.casefold(): each for each in choices}
    return Rule(
        "one of " + ", ".join(f'"{each}"' for each in choices),
        f'"{choices[0]}"',
        lambda value: by_name[value.casefold()] if _is(str, value) and value.casefold() in by_name else _refuse(),
    )


def list_of(item: Rule) -> Rule:
    """A list of values that all keep a rule."""
    return Rule(
        f"a list, each {item.must_be}",
        f"[{item.example}]",
        lambda value: tuple(map(item.read, value)) if _is(list, value) else _refuse(),
    )


_DURATION = re.compile(r"(?:(\d{1,4})\.)?([01]?\d|2[0-3]):([0-5]\d):([0-5]\d)(?:\.(\d{1,7}))?", re.ASCII)


def duration(least: timedelta | None = None, most: timedelta | None = None) -> Rule:
    """A span of time. Only the full form is taken: the host reads "10" as ten days and "00:10" as ten minutes."""

    def read(value: Any) -> timedelta:
        found = _DURATION.fullmatch(value) if _is(str, value) else None
        if found is None:
            _refuse()
        days, hours, minutes, seconds, fraction = found.groups(default="0")
        span = timedelta(
            days=int(days),
            hours=int(hours),
            minutes=int(minutes),
            seconds=int(seconds),
            microseconds=int(fraction.ljust(7, "0")) // 10,
        )
        fits = (span >= least if least else span > timedelta()) and (most is None or span <= most)
        return span if fits else _refuse()

    limits = f"from {_hms(least)} to {_hms(most)}" if least and most else "greater than zero"
    return Rule(f'a time span "hh:mm:ss" or "d.hh:mm:ss" {limits}', f'"{_hms(least or timedelta(seconds=30))}"', read)


def _hms(span: timedelta) -> str:
    minutes, seconds = divmod(int(span.total_seconds()), 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"


def _is(kind: type, value: Any) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _refuse() -> NoReturn:
    raise ValueError


# --- records that are their own table ----------------------------------------------------------------


def key(rule: Rule, default: Any = None, *, default_factory: Callable[[], Any] | None = None, also: str = "") -> Any:
    """A field of a settings record that is read from the key of its name, or of its older name `also`."""
    metadata = {"rule": rule, "also": also}
    if default_factory is not None:
        return dataclasses.field(default_factory=default_factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def section(record: Callable[[], Any]) -> Any:
    """A field that is a record of its own, read from the object of its name."""
    return dataclasses.field(default_factory=record, metadata={"section": record})


def key_name(attribute: str) -> str:
    """The host.json spelling of an attribute."""
    first, *rest = attribute.split("_")
    return first + "".join(map(str.capitalize, rest))


def paths(record: type, prefix: str = "") -> Iterator[str]:
    """Every key a record and its sections are read from, dotted."""
    for each in dataclasses.fields(record):
        name = prefix + key_name(each.name)
        if "section" in each.metadata:
            yield from paths(each.metadata["section"], f"{name}.")
        elif "rule" in each.metadata:
            yield name
            if each.metadata["also"]:
                yield prefix + each.metadata["also"]


R = TypeVar("R")


class Reader:
    """Reads one object of a settings file. `root` is where it sits in `source`.

    `defaults` replace those of the records, by key. `unused` are keys that are taken, checked and have no effect;
    those met are collected in `ignored`. `renamed` says where keys of old releases belong now.
    """

    def __init__(
        self,
        source: str,
        root: str,
        environ: Mapping[str, str],
        *,
        defaults: Mapping[str, Any],
        unused: Mapping[str, Rule],
        renamed: Mapping[str, str],
    ) -> None:
        self.ignored: list[str] = []
        self._source, self._root, self._environ = source, root, environ
        self._defaults, self._unused, self._renamed = defaults, unused, renamed
        self._known: list[str] = []

    def read(self, record: type[R], given: Any) -> R:
        """The record in `given`, each key checked. Raises `ConfigurationError`."""
        self._known = [*paths(record), *self._unused]
        return self._section(record, given, "")

    def _section(self, record: type[R], given: Any, prefix: str) -> R:
        left = dict(self._object(given, prefix))
        values: dict[str, Any] = {}
        for each in dataclasses.fields(record):  # type: ignore[arg-type]  # every record here is a dataclass
            name = key_name(each.name)
            if "section" in each.metadata:
                found = left.pop(name, None)
                values[each.name] = self._section(
                    each.metadata["section"], {} if found is None else found, f"{prefix}{name}."
                )
            elif "rule" in each.metadata:
                spelled = self._spelling(name, each.metadata["also"], left, prefix)
                if (found := left.pop(spelled, None)) is not None:
                    values[each.name] = self._value(each.metadata["rule"], found, prefix + spelled)
                elif prefix + name in self._defaults:
                    values[each.name] = self._defaults[prefix + name]
        self._leftover(left, prefix)
        return record(**values)

    def _object(self, given: Any, prefix: str) -> dict[str, Any]:
        if not isinstance(given, dict):
            raise self.wrong(prefix.rstrip("."), given, "be an object: { ... }", "Put its keys between braces.")
        return given

    def _spelling(self, name: str, also: str, given: Mapping[str, Any], prefix: str) -> str:
        if not also or also not in given:
            return name
        if name in given:
            raise self.wrong(
                prefix + also, given[also], f"not be given beside {name}", "Remove it: it is the old name."
            )
        return also

    def _value(self, rule: Rule, found: Any, path: str) -> Any:
        value = self._resolved(found, path) if isinstance(found, str) else found
        try:
            return rule.read(value)
        except ValueError:
            raise self.wrong(path, value, f"be {rule.must_be}", f"Write for example {rule.example}.") from None

    def _resolved(self, value: str, path: str) -> str:
        def setting(found: re.Match[str]) -> str:
            if (text := self._environ.get(found[1])) is None:
                raise self.wrong(
                    path, value, "name an app setting that exists", f"Set {found[1]}, in local.settings.json or Azure."
                )
            return text

        return re.sub(r"%([^%]+)%", setting, value)

    def _leftover(self, left: Mapping[str, Any], prefix: str) -> None:
        for name, value in left.items():
            path = prefix + name
            holds_unused = any(each.startswith(f"{path}.") for each in self._unused)
            if path in self._unused and value is not None:
                self._value(self._unused[path], value, path)
                self.ignored.append(path)
            elif holds_unused and value is not None:
                self._leftover(self._object(value, path), f"{path}.")
            elif path in self._unused or holds_unused:
                continue  # null is as good as absent
            else:
                raise self.wrong(path, value, "not be there: there is no such key", self._advice(path))

    def _advice(self, path: str) -> str:
        if path in self._renamed:
            return f"It is now called {self._root}.{self._renamed[path]}."
        sections = (each.rpartition(".")[0] for each in self._known)
        by_last = {each.rpartition(".")[2].casefold(): each for each in (*sections, *self._known) if each}
        last = path.rpartition(".")[2].casefold()
        if moved := by_last.get(last):
            return f"It belongs at {self._root}.{moved}."
        if close := difflib.get_close_matches(last, by_last, n=1):
            return f"Did you mean {self._root}.{by_last[close[0]]}?"
        return "Remove it."

    def wrong(self, path: str, value: Any, must: str, fix: str) -> ConfigurationError:
        """The error that says what is wrong where."""
        place = f"{self._root}.{path}" if path else self._root
        return ConfigurationError(f"{self._source}: {place} is {_shown(value)}, but must {must}. {fix}")


def _shown(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False, default=repr)
    return shown if len(shown) <= 80 else shown[:77] + "..."


# --- the file ----------------------------------------------------------------------------------------


def read_document(path: Path) -> dict[str, Any]:
    """The JSON object in a settings file; empty if there is no file. Raises `ConfigurationError`."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise ConfigurationError(f'{path}: "{name}" is given twice in one object. Remove one of them.')
            found[name] = value
        return found

    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=once)
    except FileNotFoundError:
        return {}
    except json.JSONDecodeError as err:
        raise ConfigurationError(f"{path}: not valid JSON: {err}. Comments and trailing commas are not JSON.") from err
    except UnicodeDecodeError as err:
        raise ConfigurationError(f"{path}: not UTF-8 text: {err}. Save it as UTF-8.") from err
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path}: holds {_shown(document)}, but must be an object: {{ ... }}.")
    return document
