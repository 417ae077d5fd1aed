from __future__ import annotations

import pytest

from durable_ext.printable import printable, printable_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, grüezi, 東京, 🙂", "plain, grüezi, 東京, 🙂"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("\x9b2J\x7f", r"\x9b2J\x7f"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\u2028next", r"\u2028next"),
        ("\ud800", r"\ud800"),
        ("a\\nb", "a\\nb"),
    ],
)
def test_what_a_terminal_obeys_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == printable_lines(text) == shown


def test_ends_of_lines_stay_only_where_there_may_be_several() -> None:
    assert printable("one\ttwo\nthree\r\n") == r"one\ttwo\nthree\r\n"
    assert printable_lines("one\ttwo\nthree\r\n") == "one\ttwo\nthree\\r\n"
