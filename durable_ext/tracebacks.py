"""Tracebacks as the author of the failing function wants to see them."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

from durable_ext.errors import TaskFailedError, brief, text_of

_HERE = str(Path(__file__).parent) + "/"


def user_traceback(error: BaseException) -> str:
    """The formatted traceback, with its causes, without the frames of this package.

    Of a failed task it shows what failed and why; the failure's own traceback is where the failure is recorded.
    """
    try:
        shown = traceback.TracebackException.from_exception(error)
        _trim(shown)
        text = "".join(shown.format())
    except RecursionError:  # groups within groups within groups
        text = "".join(traceback.format_exception_only(error))
    return _with_briefs(text, error)


def _trim(shown: traceback.TracebackException) -> None:
    pending, seen = [shown], set[int]()
    while pending:
        each = pending.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        each.stack[:] = [frame for frame in each.stack if not is_ours(frame.filename)]
        others = (each.__cause__, each.__context__, *(each.exceptions or ()))
        pending += [other for other in others if other is not None]


def _with_briefs(text: str, error: BaseException) -> str:
    """The traceback with less of what failed tasks say: they repeat everything that failed below them."""
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        each = pending.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, TaskFailedError):
            text = text.replace(text_of(each), brief(each))
        pending += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            pending += each.exceptions
    return text


def innermost_line(error: BaseException, is_users: Callable[[str], bool] | None = None) -> str | None:
    """The last of the user's lines that an error went through, as `file:line`.

    `is_users` says whether a file is the user's; by default all are but those of this package.
    """
    frames = reversed(traceback.extract_tb(error.__traceback__))
    users = (each for each in frames if (is_users(each.filename) if is_users else not is_ours(each.filename)))
    return next((f"{Path(each.filename).name}:{each.lineno}" for each in users), None)


def is_ours(filename: str) -> bool:
    """Whether a file belongs to this package."""
    return filename.startswith(_HERE)
