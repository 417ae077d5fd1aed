"""A running host as an HTTP client sees it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from hosting import DEADLINE

REPOSITORY = Path(__file__).parents[2]
MANAGEMENT = "runtime/webhooks/durabletask"

# The protocol is polling: 202 means ask again. This is how long a client of ours waits before it does.
_PAUSE = 0.02


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


class Hub:
    """Talks HTTP to the host at `url`, and nothing else."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        *,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
        **query: Any,
    ) -> Answer:
        """Ask for a path of the host, or for a URL it gave out."""
        url = path if path.startswith("http") else f"{self.url}/{path}"
        if query:
            url += ("&" if "?" in url else "?") + urlencode(query)
        data = body.encode() if isinstance(body, str) else body
        request = urllib.request.Request(
            url, data=data, method=method, headers={"Content-Type": content_type, **(headers or {})}
        )
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as refusal:
            with refusal:
                return Answer(refusal.code, refusal.headers, refusal.read())

    def manage(self, method: str, path: str, body: bytes | str | None = None, **query: Any) -> Answer:
        """Ask the management API."""
        return self.ask(method, f"{MANAGEMENT}/{path}", body, **query)

    def start(self, name: str, value: Any = None, instance_id: str | None = None) -> str:
        """Start an orchestration; return the instance's id."""
        path = f"orchestrators/{name}" + (f"/{quote(instance_id, safe='')}" if instance_id else "")
        answer = self.manage("POST", path, json.dumps(value))
        assert answer.status == 202, answer.text
        return str(answer.json()["id"])

    def run(self, name: str, value: Any = None, instance_id: str | None = None) -> Any:
        """Start an orchestration and follow it to its end; return its status."""
        return self.end_of(self.start(name, value, instance_id))

    def status(self, instance_id: str, **query: Any) -> Any:
        answer = self.manage("GET", f"instances/{quote(instance_id, safe='')}", **query)
        assert answer.status in (200, 202), f"{answer.status} {answer.text}"
        return answer.json()

    def until(self, instance_id: str, wanted: Callable[[Any], bool], **query: Any) -> Any:
        """Poll until the status is as wanted; return it."""
        deadline = time.monotonic() + DEADLINE
        while not wanted(status := self.status(instance_id, **query)):
            assert time.monotonic() < deadline, f"still not as wanted: {status}"
            time.sleep(_PAUSE)
        return status

    def end_of(self, instance_id: str, **query: Any) -> Any:
        """Poll until the instance has ended; return its status."""
        ended = ("Completed", "Failed", "Terminated")
        return self.until(instance_id, lambda status: status["runtimeStatus"] in ended, **query)

    def waits_for(self, instance_id: str, event: str = "TimerCreated") -> Any:
        """Poll until the history shows an event of that type."""
        return self.until(
            instance_id,
            lambda status: event in [each["EventType"] for each in status.get("historyEvents", ())],
            showHistory="true",
        )

    def raise_event(self, instance_id: str, name: str, value: Any = None) -> Answer:
        return self.manage("POST", f"instances/{instance_id}/raiseEvent/{name}", json.dumps(value))

    def terminate(self, instance_id: str, reason: str = "the test is over") -> Answer:
        return self.manage("POST", f"instances/{instance_id}/terminate", reason=reason)

    def history(self, instance_id: str) -> Any:
        """Every event as it is stored, which the local host serves beside the management API."""
        return self.manage("GET", f"instances/{instance_id}/history").json()
