"""Query parameters, read leniently: what cannot be understood is as if it were not there.

But not where something is deleted: the readers of a purge raise ValueError. A misspelt filter would be none.
"""

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


def given(request: Request, name: str) -> str | None:
    """The parameter's first value that is not blank, else the blank one, or None if it is missing."""
    return text(request, name) or next(iter(request.values(name)), None)


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


def statuses(request: Request) -> frozenset[Status] | None:
    """`runtimeStatus`: names or numbers, comma-separated, repeated, or both. Unknown names are dropped.

    None if no status is left but a number was given: it is no status, so no instance is in it.
    """
    listed = _listed_statuses(request)
    found = frozenset(_STATUS_NAMES[key] for each in listed if (key := each.lower()) in _STATUS_NAMES)
    return None if not found and any(re.fullmatch("[0-9]+", each) for each in listed) else found


def strict_statuses(request: Request) -> frozenset[Status]:
    """Like `statuses`, for a purge: every part must be a status."""
    listed = _listed_statuses(request) if request.values("runtimeStatus") else []
    for each in listed:
        if each.lower() not in _STATUS_NAMES:
            known = ", ".join(status.name for status in Status)
            raise ValueError(f"runtimeStatus: '{each}' is no status. These are: {known}. Nothing was deleted.")
    return frozenset(_STATUS_NAMES[each.lower()] for each in listed)


def strict_moment(request: Request, name: str) -> datetime | None:
    """Like `moment`, for a purge: what is given must be one date or time."""
    values = request.values(name)
    found = moment(request, name)
    if values and (found is None or len(values) > 1):
        raise ValueError(f"{name}: '{','.join(values)}' is no ISO 8601 date or time. Nothing was deleted.")
    return found


def strict_prefix(request: Request) -> str | None:
    """`instanceIdPrefix`, for a purge: what is given must be one prefix, and not blank."""
    values = request.values("instanceIdPrefix")
    if values and (len(values) > 1 or not values[0].strip()):
        raise ValueError(f"instanceIdPrefix: '{','.join(values)}' is not one prefix. Nothing was deleted.")
    return values[0] if values else None


def _listed_statuses(request: Request) -> list[str]:
    return [each.strip() for each in ",".join(request.values("runtimeStatus")).split(",")]
