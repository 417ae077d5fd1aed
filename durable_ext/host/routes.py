"""Route templates of http triggers, as ASP.NET Core and so the Functions host reads them.

A template is a path of segments: `orders/{id:int}/{*rest}`. Literals compare case-insensitively, parameters take one
segment, a last parameter may be optional (`{id?}`) or have a default (`{id=7}`), and `{*rest}` takes the remainder.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar
from urllib.parse import unquote

from durable_ext.errors import ConfigurationError

Check = Callable[[str], bool]


def _parses(convert: Callable[[str], object]) -> Check:
    def check(value: str) -> bool:
        try:
            convert(value)
        except ValueError:
            return False
        return True

    return check


def _whole(low: int, high: int) -> Check:
    def check(value: str) -> bool:
        found = re.fullmatch(r"([+-]?)0*([0-9]+)", value)
        # Python refuses to read more than some thousand digits, and no limit here has more than nineteen.
        return found is not None and len(found[2]) < 20 and low <= int(found[1] + found[2]) <= high

    return check


CONSTRAINTS: dict[str, Check] = {
    "int": _whole(-(2**31), 2**31 - 1),
    "long": _whole(-(2**63), 2**63 - 1),
    "bool": lambda value: value.casefold() in ("true", "false"),
    "decimal": _parses(float),
    "double": _parses(float),
    "float": _parses(float),
    "datetime": _parses(datetime.fromisoformat),
    "guid": _parses(uuid.UUID),
    "alpha": lambda value: re.fullmatch(r"[A-Za-z]*", value) is not None,
    "required": lambda value: value != "",
}
"""Constraints without arguments: `{id:int}`."""

CONSTRAINTS_WITH_ARGUMENTS: dict[str, Callable[..., Check]] = {
    "minlength": lambda low: lambda value: len(value) >= int(low),
    "maxlength": lambda high: lambda value: len(value) <= int(high),
    "length": lambda low, high=None: lambda value: int(low) <= len(value) <= int(high or low),
    "min": lambda low: _whole(int(low), 2**63 - 1),
    "max": lambda high: _whole(-(2**63), int(high)),
    "range": lambda low, high: _whole(int(low), int(high)),
    "regex": lambda pattern: lambda value: re.search(pattern, value, re.IGNORECASE) is not None,
}
"""Constraints with arguments: `{id:range(1,9)}`."""

# Which template is tried first: segment by segment, the lower number. The order is that of ASP.NET Core.
_LITERAL, _CONSTRAINED, _PARAMETER, _CONSTRAINED_REST, _REST = range(1, 6)

_PARAMETER_PATTERN = re.compile(
    r"\{(\*{0,2})([^{}:=?*]+)((?::[^{}()=?]*(?:\([^{}]*?\))?(?=[:=?}]))*)(=[^{}?]*)?(\?)?\}"
)

# Doubled braces stand for themselves. They are parsed as two characters no route can have.
_ESCAPES = str.maketrans({"\0": "{", "\1": "}"})


@dataclass(frozen=True, slots=True)
class _Parameter:
    name: str
    checks: tuple[Check, ...] = ()
    default: str | None = None


@dataclass(frozen=True, slots=True)
class RouteTemplate:
    """A parsed template. `match` answers the route parameters of a path, or None."""

    text: str
    precedence: tuple[int, ...]
    _pattern: re.Pattern[str]
    _parameters: tuple[_Parameter, ...]

    def match(self, path: str) -> dict[str, str] | None:
        """The parameters of an already decoded path without leading slash, or None if the path is not this route's."""
        found = self._pattern.fullmatch(path.strip("/"))
        if found is None:
            return None
        values: dict[str, str] = {}
        for parameter, value in zip(self._parameters, found.groups(), strict=True):
            if value:
                if not all(check(value) for check in parameter.checks):
                    return None
                values[parameter.name] = value
            elif parameter.default is not None:
                values[parameter.name] = parameter.default
        return values


def parse(text: str) -> RouteTemplate:
    """Read a template. Raises `ConfigurationError` that says what is wrong with it."""
    parameters: list[_Parameter] = []
    precedence: list[int] = []
    pattern = ""
    segments = _segments(text)
    for index, segment in enumerate(segments):
        # The slash belongs to the segment after it: an absent optional segment takes its slash along.
        slash = "/" if index else ""
        whole = _PARAMETER_PATTERN.fullmatch(segment)
        if whole is None:
            pattern += slash + _mixed(text, segment, parameters)
            precedence.append(_CONSTRAINED if "{" in segment else _LITERAL)
            continue
        stars, _, _, default, optional = whole.groups()
        last = index == len(segments) - 1
        if (stars or optional) and not last:
            raise ConfigurationError(f"route '{text}': {segment} may only be the last segment")
        parameter = _parameter(text, whole)
        parameters.append(parameter)
        if stars:
            pattern += f"(?:{slash}(.*))?"
            precedence.append(_CONSTRAINED_REST if parameter.checks else _REST)
            continue
        pattern += f"(?:{slash}([^/]+))?" if last and (optional or default) else f"{slash}([^/]+)"
        precedence.append(_CONSTRAINED if parameter.checks else _PARAMETER)
    names = [each.name.casefold() for each in parameters]
    if len(set(names)) != len(names):
        raise ConfigurationError(f"route '{text}': every parameter needs a name of its own")
    return RouteTemplate(text, tuple(precedence), re.compile(pattern, re.IGNORECASE | re.DOTALL), tuple(parameters))


def _segments(text: str) -> list[str]:
    # Slashes inside braces belong to a constraint's regular expression.
    stripped = text.replace("{{", "\0").replace("}}", "\1").strip("/")
    segments, depth, current = [], 0, ""
    for char in stripped:
        depth += {"{": 1, "}": -1}.get(char, 0)
        if char == "/" and depth == 0:
            segments.append(current)
            current = ""
        else:
            current += char
    if depth:
        raise ConfigurationError(f"route '{text}': braces do not balance")
    if stripped:
        segments.append(current)
    if "" in segments:
        raise ConfigurationError(f"route '{text}': there is an empty segment")
    return segments


def _mixed(text: str, segment: str, parameters: list[_Parameter]) -> str:
    pattern, end = "", 0
    for found in _PARAMETER_PATTERN.finditer(segment):
        if found[1]:
            raise ConfigurationError(f"route '{text}': {found[0]} must be a segment of its own")
        literal = segment[end : found.start()].translate(_ESCAPES)
        pattern += re.escape(literal) + ("([^/]*?)" if found[5] else "([^/]+?)")
        parameters.append(_parameter(text, found))
        end = found.end()
    rest = segment[end:]
    if "{" in rest or "}" in rest:
        raise ConfigurationError(f"route '{text}': '{segment.translate(_ESCAPES)}' is not a valid segment")
    return pattern + re.escape(rest.translate(_ESCAPES))


def _parameter(text: str, found: re.Match[str]) -> _Parameter:
    default = found[4][1:] if found[4] else None
    return _Parameter(found[2].strip(), tuple(_checks(text, found[3])), default)


def _checks(text: str, constraints: str) -> Iterable[Check]:
    # `:int:min(1)`; a colon inside parentheses belongs to a regular expression.
    for found in re.finditer(r":([^:(]*)(?:\((.*?)\)(?=:|$))?", constraints.translate(_ESCAPES)):
        name, arguments = found[1].strip(), found[2]
        if arguments is None and name in CONSTRAINTS:
            yield CONSTRAINTS[name]
        elif arguments is not None and name in CONSTRAINTS_WITH_ARGUMENTS:
            given = [arguments] if name == "regex" else [each.strip() for each in arguments.split(",")]
            try:
                check = CONSTRAINTS_WITH_ARGUMENTS[name](*given)
                check("")
            except (TypeError, ValueError, re.error) as err:
                raise ConfigurationError(f"route '{text}': '{name}({arguments})' is not understood: {err}") from err
            yield check
        else:
            known = ", ".join([*CONSTRAINTS, *(f"{each}(..)" for each in CONSTRAINTS_WITH_ARGUMENTS)])
            raise ConfigurationError(f"route '{text}': '{found[0][1:]}' is not one of the constraints {known}")


T = TypeVar("T")


@dataclass(slots=True)
class RouteTable(Generic[T]):
    """Templates with what they lead to; finds the most specific one that takes a path and a method."""

    _routes: list[tuple[RouteTemplate, frozenset[str], T]] = field(default_factory=list)

    def add(self, template: RouteTemplate, methods: Iterable[str], target: T) -> None:
        """Lead the template to `target`; no methods means every method."""
        self._routes.append((template, frozenset(each.upper() for each in methods), target))
        self._routes.sort(key=lambda route: route[0].precedence)

    def find(self, method: str, path: str) -> tuple[T, dict[str, str]] | None:
        """The target and the route parameters. Among equally specific routes the first added wins."""
        for template, methods, target in self._routes:
            if methods and method.upper() not in methods:
                continue
            parameters = template.match(path)
            if parameters is not None:
                return target, parameters
        return None


def decode_path(raw_path: str) -> str:
    """Percent-decode a path as ASP.NET Core does: all but an encoded slash, which stays part of its segment."""
    return unquote(re.sub("%2f", "%252F", raw_path, flags=re.IGNORECASE)).strip("/")
