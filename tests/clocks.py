"""Clocks for tests."""

from __future__ import annotations

from datetime import datetime

from durable_ext.clock import SystemClock


class FixedClock(SystemClock):
    """The machine's clock, but for the time of day, which stands still."""

    def __init__(self, now: datetime) -> None:
        self.time = now

    def now(self) -> datetime:
        return self.time
