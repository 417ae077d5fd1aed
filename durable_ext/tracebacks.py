"""Tracebacks as the author of the failing function wants to see them."""

from __future__ import annotations

import traceback
from pathlib import Path

_HERE = str(Path(__file__).parent) + "/"


def user_traceback(error: BaseException) -> str:
    """The formatted traceback, with its causes, without the frames of this package."""
    shown = traceback.TracebackException.from_exception(error)
    _trim(shown, seen=set())
    return "".join(shown.format())


def _trim(shown: traceback.TracebackException, seen: set[int]) -> None:
    if id(shown) in seen:
        return
    seen.add(id(shown))
    kept = [frame for frame in shown.stack if not is_ours(frame.filename)]
    shown.stack[:] = kept
    for other in (shown.__cause__, shown.__context__, *(shown.exceptions or ())):
        if other is not None:
            _trim(other, seen)


def is_ours(filename: str) -> bool:
    """Whether a file belongs to this package."""
    return filename.startswith(_HERE)
