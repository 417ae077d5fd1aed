"""The log of the local host shows what strangers send, and does not obey it."""

from __future__ import annotations

import logging
import signal
import sys
import urllib.request
from pathlib import Path

from hosting import DEADLINE, running_host, write_app

from durable_ext.host.log_lines import PLAIN, LineFormatter


def shown(message: str, *arguments: object, error: BaseException | None = None) -> str:
    info = None if error is None else (type(error), error, error.__traceback__)
    record = logging.LogRecord("app", logging.INFO, __file__, 1, message, arguments, info)
    return LineFormatter("INFO %(message)s").format(record)


def test_control_characters_are_written_out() -> None:
    assert shown("event '%s'", "\x1b[31m\r\ud800grüezi") == r"INFO event '\x1b[31m\r\ud800grüezi'"


def test_no_further_line_of_a_record_looks_like_one() -> None:
    assert shown("failed: %s", "no luck\nINFO all is well") == "INFO failed: no luck\n    INFO all is well"


def test_tracebacks_are_set_in_too() -> None:
    try:
        raise ValueError("no\nluck\x07")
    except ValueError as error:
        lines = shown("failed", error=error).splitlines()
    assert lines[:2] == ["INFO failed", "    Traceback (most recent call last):"]
    assert lines[-2:] == ["    ValueError: no", r"    luck\x07"]


def test_a_record_of_the_host_is_a_line_with_time_and_level() -> None:
    record = logging.LogRecord("app", logging.INFO, __file__, 1, "said", (), None)
    assert LineFormatter(PLAIN).format(record).endswith(" INFO app: said")


APP = """
import logging

@app.route(route="say", methods=["POST"])
def say(req: func.HttpRequest) -> None:
    logging.warning("said: %s", req.get_body().decode())
"""


def test_what_a_function_logs_of_a_request_forges_nothing(tmp_path: Path) -> None:
    with running_host(write_app(tmp_path / "app", APP), "--storage", "memory://") as (process, url):
        body = b"\x1b]0;title\x07\n2024-01-01 00:00:00,000 ERROR durable_ext.host: forged"
        with urllib.request.urlopen(f"{url}/api/say", data=body, timeout=DEADLINE):
            line = process.until("said: ")
        assert line.endswith(r"said: \x1b]0;title\x07")
        assert process.until("forged").startswith("    2024")
        if sys.platform != "win32":
            process.signal(signal.SIGTERM)
            assert process.wait() == 0
