"""Where user code made a durable call, for error messages."""

from __future__ import annotations

import sys
from functools import lru_cache
from types import CodeType

from durable_ext.tracebacks import is_ours


def call_site() -> tuple[CodeType, int]:
    """Where user code made the durable call that is being made: code object and instruction."""
    frame = sys._getframe(3)  # this function, and at least two of ours
    while frame.f_back is not None and _is_machinery(frame.f_code.co_filename, str(frame.f_globals.get("__name__"))):
        frame = frame.f_back
    return frame.f_code, frame.f_lasti


@lru_cache(maxsize=1_000)
def _is_machinery(file: str, module: str) -> bool:
    return is_ours(file) or module.startswith("asyncio.")


def describe_site(site: tuple[CodeType, int] | None) -> str | None:
    """A call site as `file:line`."""
    if site is None:
        return None
    code, instruction = site
    line = next((line for start, end, line in code.co_lines() if start <= instruction < end), code.co_firstlineno)
    return f"{code.co_filename}:{line}"
