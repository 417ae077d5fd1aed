"""Who is under suspicion of killing its process, and a place apart to run them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from durable_ext.clock import Clock
from durable_ext.errors import DurableError
from durable_ext.messages import WorkItem
from durable_ext.runtime.calls import Outcome
from durable_ext.runtime.decide import Decision, TurnInput
from durable_ext.runtime.program import Program
from durable_ext.runtime.register import Register


class OrchestratorProcessLostError(DurableError):
    """Whenever the instance's turn was run, the process died."""


class Quarantine:
    """Nobody is suspected yet."""

    def __init__(
        self,
        register: Register,
        program: Program,
        clock: Clock,
        command: Sequence[str] | None,
        alone: Callable[[], AbstractAsyncContextManager[None]],
    ) -> None:
        self.is_active = False

    def take_over(self, sole: bool) -> None:
        """Suspect what the dead had in hand."""

    def holds_call(self, item: WorkItem) -> bool:
        """Whether the call is to run apart."""
        return False

    def holds_turn(self, instance_id: str, name: str) -> bool:
        """Whether the instance's turns are to run apart."""
        return False

    async def call(self, item: WorkItem) -> tuple[Outcome, str | None]:
        """Run a call apart."""
        raise NotImplementedError

    async def decide(self, turn: TurnInput) -> Decision:
        """Decide a turn apart."""
        raise NotImplementedError

    def clear_turn(self, instance_id: str) -> None:
        """It came out well."""

    async def close(self) -> None:
        """End what runs apart."""
