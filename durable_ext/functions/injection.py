"""The injection of what a host does not fill: durable clients, and boxes whose content starts instances.

The wrapper looks to a Functions host as if the function had never asked: neither its signature nor its annotations
show the injected parameters.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import azure.functions as func

from durable_ext.errors import ConfigurationError
from durable_ext.functions.azure import Out
from durable_ext.functions.bindings import RETURN
from durable_ext.functions.client import DurableOrchestrationClient, SyncDurableOrchestrationClient
from durable_ext.functions.signatures import annotations_of, signature_of
from durable_ext.functions.starts import PlannedStart, plan, read_starts, start_all, start_all_sync


class ClientProvider(Protocol):
    """Who makes the clients: the host that runs the app.

    Both methods are called once per invocation and binding, on the thread that runs the function. `task_hub` and
    `connection_name` are what the binding says, None for the app's own.
    """

    def async_client(self, task_hub: str | None, connection_name: str | None) -> DurableOrchestrationClient:
        """A client for coroutine functions, which run on the host's event loop."""
        ...

    def sync_client(self, task_hub: str | None, connection_name: str | None) -> SyncDurableOrchestrationClient:
        """A client for other functions, which run on threads of their own."""
        ...


@dataclass(slots=True)
class Clients:
    """Where the wrapped functions of one app find the provider, which its host sets before it runs any.

    Once `is_stopping`, what a function puts out after it was cancelled is not started.
    """

    provider: ClientProvider | None = None
    is_stopping: bool = False

    def is_broken_off(self) -> bool:
        """Whether the function that runs was cancelled by its host's stop, whatever it makes of that."""
        task = asyncio.current_task()
        return self.is_stopping and task is not None and task.cancelling() > 0

    def require(self, function_name: str) -> ClientProvider:
        """The provider. Raises `ConfigurationError` where no host of ours runs the app."""
        if self.provider is None:
            raise ConfigurationError(
                f"function '{function_name}' needs a durable client, and this host does not run orchestrations. In "
                f"this release only the local host does: start the app with `durable run`."
            )
        return self.provider


@dataclass(frozen=True, slots=True, kw_only=True)
class DurableBinding:
    """A durable binding of a function: its parameter, and which task hub it means."""

    parameter: str
    task_hub: str | None = None
    connection_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """What one function is given beyond what its host gives it."""

    function_name: str
    trigger_name: str
    inputs: Sequence[DurableBinding]
    outputs: Sequence[DurableBinding]

    @property
    def parameters(self) -> set[str]:
        """The parameters a host must not see."""
        return {each.parameter for each in (*self.inputs, *self.outputs)} - {RETURN}

    @property
    def takes_return_value(self) -> bool:
        """Whether what the function returns says what to start, so that its host gets nothing."""
        return any(each.parameter == RETURN for each in self.outputs)


def inject(function: Callable[..., Any], injection: Injection, clients: Clients) -> Callable[..., Any]:
    """Wrap the function; a coroutine function stays one. The wrapped one is its `client_function`.

    Called with a value for an injected parameter, the wrapper passes it on: so tests hand in a client of theirs.
    """
    signature = signature_of(function)
    visible = _visible_signature(signature, injection)

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Call:
        return _Call(injection, clients, _bind(signature, visible, args, kwargs))

    async def coroutine_wrapper(*args: Any, **kwargs: Any) -> Any:
        call = begin(args, kwargs)
        call.fill(lambda binding: call.provider.async_client(binding.task_hub, binding.connection_name))
        result = function(*call.bound.args, **call.bound.kwargs)
        if inspect.isawaitable(result):
            result = await result
        if clients.is_broken_off():
            raise asyncio.CancelledError
        for binding, starts in call.starts(result):
            await start_all(call.provider.async_client(binding.task_hub, binding.connection_name), starts)
        return None if injection.takes_return_value else result

    def plain_wrapper(*args: Any, **kwargs: Any) -> Any:
        call = begin(args, kwargs)
        call.fill(lambda binding: call.provider.sync_client(binding.task_hub, binding.connection_name))
        result = function(*call.bound.args, **call.bound.kwargs)
        for binding, starts in call.starts(result):
            start_all_sync(call.provider.sync_client(binding.task_hub, binding.connection_name), starts)
        return None if injection.takes_return_value else result

    # A plain decorator around a coroutine function hands its coroutine on, so what is inside counts.
    is_coroutine = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(inspect.unwrap(function))
    wrapper = coroutine_wrapper if is_coroutine else plain_wrapper
    return _disguise(wrapper, function, visible, injection)


class _Call:
    """One invocation: the arguments, and the boxes we put among them."""

    def __init__(self, injection: Injection, clients: Clients, bound: inspect.BoundArguments) -> None:
        self._injection, self._clients, self.bound = injection, clients, bound
        self._boxes: dict[str, Out] = {}

    @property
    def provider(self) -> ClientProvider:
        return self._clients.require(self._injection.function_name)

    def fill(self, make_client: Callable[[DurableBinding], Any]) -> None:
        arguments = self.bound.arguments
        for binding in self._injection.inputs:
            given = arguments.get(binding.parameter)
            if isinstance(given, str):
                raise TypeError(
                    f"parameter '{binding.parameter}' of function '{self._injection.function_name}' was given text; it "
                    f"takes a client. Clients are not made from binding text in this release."
                )
            if given is None:
                arguments[binding.parameter] = make_client(binding)
        for binding in self._injection.outputs:
            if binding.parameter == RETURN or arguments.get(binding.parameter) is None:
                self._clients.require(self._injection.function_name)  # now, rather than when the function is through
            if binding.parameter != RETURN and arguments.get(binding.parameter) is None:
                arguments[binding.parameter] = self._boxes[binding.parameter] = Out()

    def starts(self, result: Any) -> list[tuple[DurableBinding, list[PlannedStart]]]:
        """Everything to start, read and checked before the first start."""
        message = self.bound.arguments.get(self._injection.trigger_name)
        name = self._injection.function_name
        planned = []
        for binding in self._injection.outputs:
            if binding.parameter == RETURN:
                value, place = result, f"the return value of function '{name}'"
            elif binding.parameter in self._boxes:
                value, place = (
                    self._boxes[binding.parameter].get(),
                    f"output '{binding.parameter}' of function '{name}'",
                )
            else:
                continue  # the caller gave a box of its own and reads it itself
            requests = read_starts(value, place)
            if requests:
                queued = message if isinstance(message, func.QueueMessage) else None
                planned.append((binding, list(plan(requests, queued, name, binding.parameter))))
        return planned


def _bind(
    signature: inspect.Signature, visible: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> inspect.BoundArguments:
    """Bind as a host calls, without the injected parameters, or else as a test does, with some of them."""
    try:
        shown = visible.bind(*args, **kwargs)
    except TypeError:
        return signature.bind_partial(*args, **kwargs)
    bound = signature.bind_partial()
    bound.arguments.update(shown.arguments)
    return bound


def _visible_signature(signature: inspect.Signature, injection: Injection) -> inspect.Signature:
    hidden = injection.parameters
    kept = [each for each in signature.parameters.values() if each.name not in hidden]
    returns = inspect.Signature.empty if injection.takes_return_value else signature.return_annotation
    return inspect.Signature(kept, return_annotation=returns)


def _disguise(
    wrapper: Callable[..., Any], function: Callable[..., Any], visible: inspect.Signature, injection: Injection
) -> Callable[..., Any]:
    hidden = injection.parameters | ({"return"} if injection.takes_return_value else set())
    disguised: Any = functools.update_wrapper(wrapper, function)
    if hasattr(disguised, "__annotate__"):
        disguised.__annotate__ = None  # Python 3.14 would compute the annotations anew
    disguised.__annotations__ = {name: hint for name, hint in annotations_of(function).items() if name not in hidden}
    disguised.__signature__ = visible  # what inspect.signature looks for
    disguised.client_function = function  # how tests reach the plain function
    result: Callable[..., Any] = disguised
    return result
