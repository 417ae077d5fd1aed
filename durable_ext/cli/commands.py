"""The common part of all commands about instances: the options that say which task hub, and how to answer."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from durable_ext.cli import options, printing
from durable_ext.cli.finding import find_target
from durable_ext.cli.target import Target

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """The options every one of these commands has. Each field is one."""

    app: options.App = Path()
    url: options.Url = None
    storage: options.Storage = None
    as_json: options.Json = False

    def target(self) -> AbstractAsyncContextManager[Target]:
        """The task hub they name."""
        return find_target(self.app.absolute(), self.url, self.storage)

    def say(self, value: Any, text: str) -> None:
        """Print a result: the value for programs, the text for people."""
        if self.as_json:
            printing.print_json(value)
        else:
            printing.out().print(printing.one_line(text), soft_wrap=True)


def on_target(
    command: Callable[Concatenate[TargetOptions, P], Coroutine[Any, Any, None]],
) -> Callable[..., None]:
    """Make a command of a coroutine function: its own parameters, then those of `TargetOptions`."""
    shared = inspect.signature(TargetOptions, eval_str=True).parameters
    own = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def run(**given: Any) -> None:
        chosen = TargetOptions(**{name: given.pop(name) for name in shared})
        asyncio.run(command(chosen, **given))  # type: ignore[call-arg]  # what is given fits the signature below

    parameters = [*list(own.parameters.values())[1:], *shared.values()]
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]  # what typer reads
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run
