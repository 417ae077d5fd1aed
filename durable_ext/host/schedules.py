"""Schedules of timer triggers: NCRONTAB expressions and time spans. All times are UTC."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from croniter import CroniterBadDateError, croniter  # type: ignore[import-untyped]  # it ships no types

from durable_ext.errors import ConfigurationError

Schedule = Callable[[datetime], datetime]
"""The first occurrence after a time."""

_ANY_DAY = datetime(2024, 1, 1, tzinfo=UTC)
"""Schedules have no years, so one that occurs at all occurs after any day."""

_TIME_SPAN = re.compile(r"(?:(\d+)\.)?(\d+):(\d{1,2})(?::(\d{1,2})(?:\.\d+)?)?")


def parse_schedule(text: str, settings: Mapping[str, str] | None = None) -> Schedule:
    """Read `{second} {minute} {hour} {day} {month} {day-of-week}`, its five-field form, a time span or `%SETTING%`.

    As with NCRONTAB, a time must fit the day and the day of week, where Unix cron takes either.
    Raises `ConfigurationError`.
    """
    expression = _resolve(text, os.environ if settings is None else settings).strip()
    span = _TIME_SPAN.fullmatch(expression)
    if span is not None:
        return _every(expression, span)
    fields = len(expression.split())
    with_seconds = fields == 6
    if fields not in (5, 6) or not croniter.is_valid(expression, second_at_beginning=with_seconds):
        raise ConfigurationError(
            f"schedule '{text}' is neither an NCRONTAB expression (six fields: second minute hour day month "
            f"day-of-week, or five without the seconds) nor a time span (hh:mm:ss)"
        )

    def following(after: datetime) -> datetime:
        times = croniter(expression, after, datetime, day_or=False, second_at_beginning=with_seconds)
        found: datetime = times.get_next()
        return found

    try:
        following(_ANY_DAY)
    except CroniterBadDateError as err:
        raise ConfigurationError(f"schedule '{text}' never occurs: no date fits it") from err
    return following


def _every(expression: str, span: re.Match[str]) -> Schedule:
    days, hours, minutes, seconds = (int(part or 0) for part in span.groups())
    # .NET reads a first part of 24 or more as days: 24:00:00 is twenty-four days, not one.
    if hours > 23 and not days:
        days, hours, minutes, seconds = hours, minutes, seconds, 0
    interval = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if interval <= timedelta():
        raise ConfigurationError(f"schedule '{expression}' must be longer than nothing")
    return lambda after: after + interval


def _resolve(text: str, settings: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        try:
            return settings[found[1]]
        except KeyError:
            raise ConfigurationError(
                f"schedule '{text}': there is no setting {found[1]}; add it to Values in local.settings.json"
            ) from None

    return re.sub(r"%([^%\s]+)%", value, text)
