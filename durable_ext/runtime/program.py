"""What runs user code needs to know: the functions of an app, and how their values are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from durable_ext.codec import Codec
from durable_ext.engine.orchestration import OrchestrationSession
from durable_ext.engine.session import Session
from durable_ext.engine.turn import EngineOptions
from durable_ext.errors import FunctionNotFoundError
from durable_ext.registry import Registry
from durable_ext.runtime.watchdog import BoundedSession


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The functions of an app, the codec of their values, and what the engine must know of the app.

    No step of an orchestrator may take longer than `turn_limit` seconds, if there is a limit.
    """

    registry: Registry
    codec: Codec
    options: EngineOptions
    turn_limit: float | None = None

    def session(self, name: str) -> Session:
        """A session for an instance of this orchestrator, not yet begun. An unknown one fails when it is run."""
        session = self._session(name)
        return session if self.turn_limit is None else BoundedSession(session, self.turn_limit)

    def _session(self, name: str) -> Session:
        try:
            orchestrator = self.registry.orchestrators.get(name)
        except FunctionNotFoundError as error:
            return OrchestrationSession(_raising(error), codec=self.codec, options=self.options)
        return OrchestrationSession(
            orchestrator.function, codec=self.codec, options=self.options, input_type=orchestrator.input_type
        )


def _raising(error: FunctionNotFoundError) -> Callable[[Any], Any]:
    def not_found(context: Any) -> Any:
        raise error

    return not_found
