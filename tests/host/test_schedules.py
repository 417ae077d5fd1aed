from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from durable_ext.errors import ConfigurationError
from durable_ext.host.schedules import parse_schedule

MONDAY = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("*/5 * * * * *", datetime(2024, 1, 1, 0, 0, 5, tzinfo=UTC)),
        ("0 */5 * * * *", datetime(2024, 1, 1, 0, 5, tzinfo=UTC)),
        ("*/5 * * * *", datetime(2024, 1, 1, 0, 5, tzinfo=UTC)),
        ("0 30 9 * * Tue-Fri", datetime(2024, 1, 2, 9, 30, tzinfo=UTC)),
        ("0 0 0 1 Jan *", datetime(2025, 1, 1, tzinfo=UTC)),
        ("00:05:00", MONDAY + timedelta(minutes=5)),
        ("1.12:00:00", MONDAY + timedelta(days=1, hours=12)),
        ("24:00:00", MONDAY + timedelta(days=24)),
    ],
)
def test_the_next_occurrence(schedule: str, expected: datetime) -> None:
    assert parse_schedule(schedule)(MONDAY) == expected


def test_day_and_weekday_must_both_fit() -> None:
    # NCRONTAB's rule: the first 13th that is a Friday, where Unix cron takes any 13th and any Friday
    assert parse_schedule("0 0 0 13 * Fri")(MONDAY) == datetime(2024, 9, 13, tzinfo=UTC)


def test_a_setting_can_hold_the_schedule() -> None:
    assert parse_schedule("%EVERY%", {"EVERY": "00:00:10"})(MONDAY) == MONDAY + timedelta(seconds=10)


@pytest.mark.parametrize(
    ("schedule", "complaint"),
    [
        ("every minute", "NCRONTAB"),
        ("61 * * * *", "NCRONTAB"),
        ("* * * * * * *", "NCRONTAB"),
        ("0 0 0 30 2 *", "never occurs"),
        ("00:00:00", "longer than nothing"),
        ("%MISSING%", "no setting MISSING"),
    ],
)
def test_a_wrong_schedule_says_what_is_wrong(schedule: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        parse_schedule(schedule, {})
