"""Instances that fail, are rewound, and run on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from engine_hub import NEVER, Flaky, Hub, Instance, Status


class Calls:
    """Activities that count how often each input was run."""

    def __init__(self) -> None:
        self.made: list[Any] = []

    def __call__(self, value: Any) -> Any:
        self.made.append(value)
        return value


def fail_and_rewind(
    orchestrator: Callable[..., Any],
    failures: int = 1,
    *,
    rewinds: int = 1,
    meanwhile: Callable[[Hub], None] = lambda hub: None,
    **about: Any,
) -> tuple[Instance, Calls, Flaky]:
    """Run until the instance has failed, rewind it, and run on; `flaky` fails so many times."""
    calls, flaky = Calls(), Flaky(failures)
    activities = {"works": calls, "flaky": flaky, "never": lambda value: NEVER, **about.pop("activities", {})}
    hub = Hub(activities=activities, **about)
    instance = hub.start(orchestrator)
    hub.run()
    for _ in range(rewinds):
        assert instance.status is Status.Failed, instance.output
        meanwhile(hub)
        hub.now += timedelta(hours=1)
        hub.rewind("try again")
        hub.run()
    return instance, calls, flaky
