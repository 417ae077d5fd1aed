"""The routes of the management API, and whose key opens each: a table."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from urllib.parse import unquote


class Scope(enum.Enum):
    """What a key must be good for."""

    HUB = "the whole hub"
    INSTANCE = "the instance in the path"


@dataclass(frozen=True, slots=True)
class Route:
    """`operation` names the method of the API that answers. Segments in braces are parameters, method "*" is any."""

    method: str
    template: str
    operation: str
    scope: Scope


ROUTES = (
    Route("POST", "orchestrators/{name}", "start", Scope.HUB),
    Route("POST", "orchestrators/{name}/{instance_id}", "start", Scope.HUB),
    Route("GET", "instances/{instance_id}", "status", Scope.INSTANCE),
    Route("GET", "instances/{instance_id}/history", "history", Scope.INSTANCE),
    Route("GET", "instances", "list_instances", Scope.HUB),
    Route("GET", "deadletters", "dead_letters", Scope.HUB),
    Route("DELETE", "instances/{instance_id}", "purge", Scope.INSTANCE),
    Route("DELETE", "instances", "purge_many", Scope.HUB),
    Route("POST", "instances/{instance_id}/raiseEvent/{event_name}", "raise_event", Scope.INSTANCE),
    Route("POST", "instances/{instance_id}/terminate", "terminate", Scope.INSTANCE),
    Route("POST", "instances/{instance_id}/suspend", "suspend", Scope.INSTANCE),
    Route("POST", "instances/{instance_id}/resume", "resume", Scope.INSTANCE),
    Route("POST", "instances/{instance_id}/rewind", "rewind", Scope.INSTANCE),
    Route("POST", "instances/{instance_id}/restart", "restart", Scope.INSTANCE),
    Route("*", "makeprimary", "make_primary", Scope.HUB),
)


def match(method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """The route of a request and the parameters in its path, decoded.

    Literal segments compare without case, slashes at either end do not count. A wrong verb is no match.
    """
    # Split before decoding: an event's name may hold an encoded slash.
    segments = path.strip("/").split("/")
    for route in ROUTES:
        if route.method not in ("*", method.upper()):
            continue
        parameters = _fit(route.template.split("/"), segments)
        if parameters is not None:
            return route, parameters
    return None


def _fit(template: list[str], segments: list[str]) -> dict[str, str] | None:
    if len(template) != len(segments):
        return None
    parameters = {}
    for wanted, found in zip(template, map(unquote, segments), strict=True):
        if wanted.startswith("{"):
            if not found:
                return None
            parameters[wanted[1:-1]] = found
        elif wanted.lower() != found.lower():
            return None
    return parameters
