"""What the web server has to say, in the host's log."""

from __future__ import annotations

import logging
from typing import Any

from aiohttp.http_exceptions import HttpProcessingError

from durable_ext.printable import printable


class Complaints(logging.LoggerAdapter[logging.Logger]):
    """Logs what aiohttp logs; but a request that cannot be read is its sender's mistake, and gets one line."""

    def log(self, level: int, msg: object, *args: object, **more: Any) -> None:
        """Log it, without the traceback if nothing here is at fault."""
        error = more.get("exc_info")
        if isinstance(error, HttpProcessingError):
            first_line = error.message.partition("\n")[0].rstrip(": ")
            super().log(min(level, logging.WARNING), "a request could not be read: %s", printable(first_line)[:200])
        elif isinstance(error, ConnectionError):  # it hung up before its request was whole
            super().log(logging.DEBUG, "a client is gone: %s", error)
        else:
            super().log(level, msg, *args, **more)
