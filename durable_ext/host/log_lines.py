"""Log lines that show what they are given, and cannot be made to show anything else."""

from __future__ import annotations

import logging

from durable_ext.printable import printable_lines

PLAIN = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class LineFormatter(logging.Formatter):
    """Writes out what a terminal would obey, and sets further lines of a record in.

    Names, paths and error texts come from strangers: no line but a record's first may look like one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record's lines."""
        return printable_lines(super().format(record)).replace("\n", "\n    ")
