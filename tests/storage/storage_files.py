"""Looking into a store's file from outside."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any


def look(path: Path, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    """The rows of one statement, which may also write."""
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute(statement, parameters).fetchall()
        connection.commit()
        return rows
    finally:
        connection.close()
