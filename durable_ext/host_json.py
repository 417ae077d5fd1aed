"""Strict reading of host.json: rules a value must keep, and messages that name the place, the rule and the fix."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import json5

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


def key(rule: Rule, default: Any = None, *, default_factory: Callable[[], Any] | None = None) -> Any:
    """A field of a settings record, read from the key of its name."""
    metadata = {"rule": rule}
    if default_factory is not None:
        return dataclasses.field(default_factory=default_factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def section(record: Callable[[], Any]) -> Any:
    """A field that is a record of its own, read from the object of its name."""
    return dataclasses.field(default_factory=record, metadata={"section": record})


def rules_of(record: type, prefix: str = "") -> dict[str, Rule]:
    """The rule of every key that a record and its sections are read from, by dotted key."""
    rules: dict[str, Rule] = {}
    for each in dataclasses.fields(record):
        path = prefix + _key_name(each.name)
        if "section" in each.metadata:
            rules.update(rules_of(each.metadata["section"], f"{path}."))
        elif "rule" in each.metadata:
            rules[path] = each.metadata["rule"]
    return rules


R = TypeVar("R")


def build(record: type[R], values: Mapping[str, Any], prefix: str = "") -> R:
    """The record with these values, by dotted key; the other fields have their defaults."""
    found: dict[str, Any] = {}
    for each in dataclasses.fields(record):  # type: ignore[arg-type]  # every record here is a dataclass
        path = prefix + _key_name(each.name)
        if "section" in each.metadata:
            found[each.name] = build(each.metadata["section"], values, f"{path}.")
        elif path in values:
            found[each.name] = values[path]
    return record(**found)


def _key_name(attribute: str) -> str:
    first, *rest = attribute.split("_")
    return first + "".join(map(str.capitalize, rest))


# --- reading -----------------------------------------------------------------------------------------


class SettingsReader:
    """Checks one object of a settings file. `root` is where it sits in `source`.

    `rules` has every key there is, dotted. `renamed` says where keys of old releases belong now.
    """

    def __init__(
        self,
        source: str,
        root: str,
        environ: Mapping[str, str],
        *,
        rules: Mapping[str, Rule],
        renamed: Mapping[str, str],
    ) -> None:
        self._source, self._root, self._environ = source, root, environ
        self._rules, self._renamed = rules, renamed
        # "notifications.eventGrid.topicEndpoint" makes "notifications" and "notifications.eventGrid" sections.
        parents = [path.split(".")[:-1] for path in rules]
        self._sections = sorted({".".join(each[:depth]) for each in parents for depth in range(1, len(each) + 1)})
        # The Functions host takes keys in any case.
        self._paths = {path.casefold(): path for path in (*rules, *self._sections)}

    def read(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What is given, by dotted key; null is as good as absent. Raises `ConfigurationError`."""
        return dict(self._values(given, ""))

    def _values(self, given: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        if not isinstance(given, dict):
            raise self.wrong(prefix.rstrip("."), given, "be an object: { ... }", "Put its keys between braces.")
        seen: set[str] = set()
        for name, value in given.items():
            path = self._paths.get((prefix + name).casefold())
            if "." in name or path is None:
                raise self.wrong(
                    prefix + name, value, "not be there: there is no such key", self._advice(prefix + name)
                )
            if path in seen:
                raise self.wrong(path, value, "be given once: it is there in another case too", "Remove one of them.")
            seen.add(path)
            if value is None:
                continue
            if path in self._sections:
                yield from self._values(value, f"{path}.")
            else:
                yield path, self._value(self._rules[path], value, path)

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

    def _advice(self, path: str) -> str:
        if path in self._renamed:
            return f"It is now called {self._root}.{self._renamed[path]}."
        by_last = {each.rpartition(".")[2].casefold(): each for each in (*self._sections, *self._rules)}
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
    """The JSON object in a settings file; empty if there is no file. Raises `ConfigurationError`.

    Comments and trailing commas are taken, as the Functions host takes them.
    """

    def once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise ConfigurationError(f'{path}: "{name}" is given twice in one object. Remove one of them.')
            found[name] = value
        return found

    try:
        document = json5.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=once)
    except FileNotFoundError:
        return {}
    except UnicodeDecodeError as err:
        raise ConfigurationError(f"{path}: not UTF-8 text: {err}. Save it as UTF-8.") from err
    except ValueError as err:
        raise ConfigurationError(f"{path}: not valid JSON: {str(err).replace('<string>:', 'line ', 1)}.") from err
    except RecursionError:
        raise ConfigurationError(f"{path}: nested too deeply for a settings file.") from None
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path}: holds {_shown(document)}, but must be an object: {{ ... }}.")
    return document
