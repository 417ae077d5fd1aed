"""Query parameters, read leniently: what cannot be understood is as if it were not there."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

from durable_ext.history import OrchestrationRuntimeStatus as Status
from durable_ext.http.messages import Request

STATUS_NUMBERS = {
    0: Status.Running,
    1: Status.Completed,
    2: Status.ContinuedAsNew,
    3: Status.Failed,
    4: Status.Canceled,
    5: Status.Terminated,
    6: Status.Pending,
    7: Status.Suspended,
}
_STATUS_NAMES = {status.name.lower(): status for status in Status} | {
    str(number): status for number, status in STATUS_NUMBERS.items()
}


def text(request: Request, name: str) -> str | None:
    """The parameter's first value, or None if it is missing or blank."""
    return next((value for value in request.values(name) if value.strip()), None)


def flag(request: Request, name: str, default: bool) -> bool:
    """`true` or `false`, in any case."""
    return {"true": True, "false": False}.get((text(request, name) or "").strip().lower(), default)


def positive_int(request: Request, name: str, default: int) -> int:
    """A whole number above zero."""
    found = (text(request, name) or "").strip()
    return int(found) if re.fullmatch(r"[0-9]{1,9}", found) and int(found) > 0 else default


def seconds(request: Request, name: str) -> float | None:
    """A length of time, not negative."""
    try:
        found = float(text(request, name) or "")
    except ValueError:
        return None
    return found if math.isfinite(found) and found >= 0 else None


def moment(request: Request, name: str) -> datetime | None:
    """An ISO 8601 date or time; without a zone it is UTC."""
    found = (text(request, name) or "").strip()
    # "+02:00" that was not percent-encoded arrives as " 02:00"
    found = re.sub(r"(T\S*) (\d\d:?\d\d)$", r"\1+\2", found)
    try:
        parsed = datetime.fromisoformat(found)
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def statuses(request: Request) -> frozenset[Status]:
    """`runtimeStatus`: names or numbers, comma-separated, repeated, or both. Unknown ones are dropped."""
    listed = ",".join(request.values("runtimeStatus")).split(",")
    return frozenset(_STATUS_NAMES[key] for each in listed if (key := each.strip().lower()) in _STATUS_NAMES)
