"""Text from strangers, made harmless for terminals and logs."""

from __future__ import annotations

import re

# Control characters (a terminal obeys them), what else begins a line, marks that turn the direction of writing (text
# would read as another), and lone surrogates (no stream can encode them).
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_UNPRINTABLE_IN_LINES = re.compile(_UNPRINTABLE.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def printable(text: str) -> str:
    """The text on one line, with everything that a terminal would obey written as Python writes it: `\\x1b`, `\\n`."""
    return _UNPRINTABLE.sub(_escaped, text)


def printable_lines(text: str) -> str:
    """The same, but tabs and the ends of lines stay."""
    return _UNPRINTABLE_IN_LINES.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]
