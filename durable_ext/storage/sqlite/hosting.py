"""Who hosts the hub: one row, for people. That it is one host only is up to the lock."""

from __future__ import annotations

import sqlite3

from durable_ext.storage.sqlite.writer import Transaction


def become_host(tx: Transaction, owner: str) -> str | None:
    """Take the place of the last host and offer again what it had claimed. Returns its name if it died."""
    died = present_owner(tx.connection)
    tx.execute("UPDATE work SET due_at = 0 WHERE due_at IS NULL")
    tx.execute("UPDATE hub SET owner = ?", (owner,))
    return died


def mark_clean_stop(tx: Transaction) -> None:
    """Nobody hosts the hub any more, and nobody died."""
    tx.execute("UPDATE hub SET owner = NULL")


def present_owner(connection: sqlite3.Connection) -> str | None:
    """Who hosts the hub, or did when it died."""
    (owner,) = connection.execute("SELECT owner FROM hub").fetchone()
    return str(owner) if owner else None
