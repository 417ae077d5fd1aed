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


def insert_rows(tx: Transaction, insert: str, rows: Sequence[Row], otherwise: str = "") -> None:
    """Insert rows of equal length. `insert` ends with VALUES, `otherwise` is what comes behind them."""
    start = 0
    # A few fixed sizes, so that every statement is found in the connection's cache.
    for size in (64, 8, 1):
        while len(rows) - start >= size:
            statement = _values(insert, size, len(rows[0])) + otherwise
            tx.execute(statement, tuple(chain.from_iterable(rows[start : start + size])))
            start += size


@lru_cache
def _values(insert: str, rows: int, columns: int) -> str:
    return insert + ", ".join(["(" + ", ".join("?" * columns) + ")"] * rows)


def is_any(values: Sequence[int]) -> str:
    """The end of a condition: is one of these numbers. Its parameter is `any_of` them."""
    return "= ?" if len(values) == 1 else "IN (SELECT value FROM json_each(?))"


def any_of(values: Sequence[int]) -> int | str:
    """The parameter of `is_any`."""
    return values[0] if len(values) == 1 else as_json(values)


def as_json(values: Sequence[Any]) -> str:
    """A parameter for json_each."""
    return msgspec.json.encode(values).decode()
