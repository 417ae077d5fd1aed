"""Many rows in few statements.

The sqlite3 module gives up the interpreter lock around every step of every statement, and beside a busy event loop each
time waits up to five milliseconds to get it back. So a thousand rows must not be a thousand steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, TypeAlias

import msgspec

from durable_ext.storage.sqlite.writer import Transaction

Row: TypeAlias = tuple[Any, ...]


def insert_rows(tx: Transaction, insert: str, rows: Sequence[Row], otherwise: str = "") -> int:
    """Insert rows of equal length; return the id of the last. `insert` ends with VALUES, `otherwise` comes behind."""
    start, last = 0, 0
    # A few fixed sizes, so that every statement is found in the connection's cache.
    for size in (64, 8, 1):
        while len(rows) - start >= size:
            statement = _values(insert, size, len(rows[0]), otherwise)
            last = tx.execute(statement, tuple(chain.from_iterable(rows[start : start + size]))).lastrowid or 0
            start += size
    return last


# Statements are made once: a new text, though equal, has to be hashed before it is found in the connection's cache.
@lru_cache
def _values(insert: str, rows: int, columns: int, otherwise: str) -> str:
    return insert + ", ".join(["(" + ", ".join("?" * columns) + ")"] * rows) + otherwise


class Statement:
    """A statement about some numbers: its `{}` stands for the condition of being one of them."""

    __slots__ = ("_about_many", "_about_one")

    def __init__(self, text: str) -> None:
        self._about_one, self._about_many = text.format("= ?"), text.format("IN (SELECT value FROM json_each(?))")

    def about(self, values: Sequence[int]) -> str:
        """Its text for so many numbers. The parameter is `any_of` them."""
        return self._about_one if len(values) == 1 else self._about_many


def any_of(values: Sequence[int]) -> int | str:
    """The parameter of a `Statement`."""
    return values[0] if len(values) == 1 else as_json(values)


def as_json(values: Sequence[Any]) -> str:
    """A parameter for json_each."""
    return msgspec.json.encode(values).decode()
