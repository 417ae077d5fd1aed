"""Load a Function App directory as the Functions worker would, and turn it into what the local host serves."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import azure.functions as func
from azure.functions.timer import TimerRequest

from durable_ext.errors import DurableError
from durable_ext.functions.lowering import HostFunction
from durable_ext.registry import Registry
from durable_ext.tracebacks import user_traceback

MODULE = "function_app"
_DISABLED = re.compile(r"AzureWebJobs\..+\.Disabled", re.IGNORECASE)
HTTP_TRIGGER, TIMER_TRIGGER = "httpTrigger", "timerTrigger"


class AppLoadError(DurableError):
    """The Function App cannot be loaded. `report` is what to show: the user's own traceback, or one line."""

    def __init__(self, report: str) -> None:
        super().__init__(report)
        self.report = report


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedFunction:
    """A function this host can call.

    `trigger_name` is the parameter that takes the trigger's data.
    """

    name: str
    function: Callable[..., Any]
    trigger_name: str
    takes_context: bool = False
    directory: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpFunction(ServedFunction):
    """A function with an http trigger. `response_name` is a parameter that takes the response, if it is not returned.

    No methods means every method.
    """

    route: str
    methods: tuple[str, ...] = ()
    response_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerFunction(ServedFunction):
    """A function with a timer trigger. With `use_monitor`, occurrences missed while the host was down are made up."""

    schedule: str
    run_on_startup: bool = False
    use_monitor: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class UnservedFunction:
    """A function this host leaves alone, and why."""

    name: str
    trigger: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Functions:
    """The ordinary functions of an app, by what this host does with them."""

    http: tuple[HttpFunction, ...] = ()
    timers: tuple[TimerFunction, ...] = ()
    unserved: tuple[UnservedFunction, ...] = ()


@contextmanager
def app_module(app_dir: Path) -> Iterator[ModuleType]:
    """Import function_app.py with its directory on the path; forget it and what it imported from there afterwards.

    Raises `AppLoadError`, with the user's frames only.
    """
    if not (app_dir / f"{MODULE}.py").is_file():
        raise AppLoadError(
            f"there is no {MODULE}.py in {app_dir}. Name the Function App's directory with --app, "
            f"or make one with `durable new NAME`."
        )
    path, before = str(app_dir), set(sys.modules)
    sys.path.insert(0, path)
    # Two apps in one process (tests) have the same module name.
    sys.modules.pop(MODULE, None)
    importlib.invalidate_caches()
    try:
        try:
            # Not importlib.import_module: only the builtin keeps its own frames out of the traceback.
            module = __import__(MODULE)
        except Exception as err:
            raise AppLoadError(user_traceback(err).rstrip()) from err
        yield module
    finally:
        sys.path.remove(path)
        for name in set(sys.modules) - before:
            if _is_of_app(sys.modules[name], app_dir):
                del sys.modules[name]


def find_app(module: ModuleType) -> func.FunctionRegister:
    """The one app object of the module; one name only may refer to it, as the Functions worker has it."""
    names = [name for name, value in vars(module).items() if isinstance(value, func.FunctionRegister)]
    if not names:
        raise AppLoadError(
            f"Could not find top level function app instances in {module.__file__}. "
            f"It needs one, such as `app = df.DFApp()`."
        )
    if len(names) > 1:
        raise AppLoadError(
            f"More than one FunctionApp or other top level function app instances are defined in {module.__file__}: "
            f"{', '.join(names)}. Keep one; use blueprints for the others, and do not give it a second name."
        )
    found: func.FunctionRegister = getattr(module, names[0])
    return found


def sort_functions(functions: Iterable[HostFunction], environ: Mapping[str, str]) -> Functions:
    """What this host does with each of the ordinary functions."""
    described = [_describe(each, environ) for each in functions]
    return Functions(
        http=tuple(each for each in described if isinstance(each, HttpFunction)),
        timers=tuple(each for each in described if isinstance(each, TimerFunction)),
        unserved=tuple(each for each in described if isinstance(each, UnservedFunction)),
    )


def take_out_disabled(registry: Registry, environ: Mapping[str, str]) -> tuple[UnservedFunction, ...]:
    """Remove the durable functions that are switched off: who calls one is told that there is none of its name."""
    off = {name.casefold() for name in environ if _DISABLED.fullmatch(name) and _is_on(environ[name])}

    def is_off(name: str) -> bool:
        return f"azurewebjobs.{name}.disabled" in off

    gone = [
        *((each.name, "orchestrationTrigger") for each in registry.orchestrators.remove_named(is_off)),
        *((each.name, "activityTrigger") for each in registry.activities.remove_named(is_off)),
    ]
    return tuple(
        UnservedFunction(name=name, trigger=trigger, reason="disabled by its setting AzureWebJobs.<name>.Disabled")
        for name, trigger in gone
    )


def _is_on(value: str) -> bool:
    return value.casefold() in ("true", "1")


def _describe(function: HostFunction, environ: Mapping[str, str]) -> HttpFunction | TimerFunction | UnservedFunction:
    name, trigger, kind = function.name, function.trigger, function.trigger_type
    if _is_on(environ.get(f"AzureWebJobs.{name}.Disabled", "")):
        return UnservedFunction(name=name, trigger=kind, reason=f"disabled by the setting AzureWebJobs.{name}.Disabled")
    if kind not in (HTTP_TRIGGER, TIMER_TRIGGER):
        return UnservedFunction(name=name, trigger=kind, reason="needs the Functions host: run it with `func start`")
    foreign = sorted({str(each["type"]) for each in function.bindings} - {"http"})
    if foreign:
        reason = f"its {', '.join(foreign)} binding needs the Functions host: run it with `func start`"
        return UnservedFunction(name=name, trigger=kind, reason=reason)
    common: dict[str, Any] = {
        "name": name,
        "function": function.function,
        "trigger_name": trigger["name"],
        "takes_context": trigger["name"] != "context" and "context" in inspect.signature(function.function).parameters,
        "directory": os.path.dirname(inspect.getfile(inspect.unwrap(function.function))),
    }
    if kind == TIMER_TRIGGER:
        return TimerFunction(
            **common,
            schedule=str(trigger["schedule"]),
            run_on_startup=bool(trigger.get("runOnStartup")),
            use_monitor=trigger.get("useMonitor") is not False,
        )
    return HttpFunction(
        **common,
        route=trigger.get("route") or "",
        methods=tuple(trigger.get("methods") or ()),
        response_name=next((str(each["name"]) for each in function.bindings if each["name"] != "$return"), None),
    )


def _is_of_app(module: ModuleType | None, app_dir: Path) -> bool:
    file = getattr(module, "__file__", None)
    if file is None or module is None:
        return False
    path = Path(file)
    # A virtual environment, and this package itself, may live in the app's directory.
    return (
        path.is_relative_to(app_dir)
        and "site-packages" not in path.parts
        and module.__name__.partition(".")[0] != __name__.partition(".")[0]
    )


# --- what functions are called with ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _TraceContext:
    trace_parent: str = ""
    trace_state: str = ""
    attributes: dict[str, str] = field(default_factory=dict)


class Context(func.Context):
    """What a parameter called `context` receives."""

    def __init__(self, function: ServedFunction, invocation_id: str) -> None:
        self._function, self._invocation_id = function, invocation_id
        self._local = threading.local()

    @property
    def invocation_id(self) -> str:
        """A new id with each call."""
        return self._invocation_id

    @property
    def thread_local_storage(self) -> Any:
        """Carries `invocation_id` into threads the function starts."""
        return self._local

    @property
    def function_name(self) -> str:
        """The function's name in the app."""
        return self._function.name

    @property
    def function_directory(self) -> str:
        """Where the function's file lies."""
        return self._function.directory

    @property
    def trace_context(self) -> Any:
        """Empty: the local host takes no part in tracing."""
        return _TraceContext()

    @property
    def retry_context(self) -> Any:
        """None: http and timer functions are not retried."""
        return None


def http_request(
    *,
    method: str,
    url: str,
    headers: Mapping[str, str],
    params: Mapping[str, str],
    route_params: Mapping[str, str],
    body: bytes,
) -> func.HttpRequest:
    """The request an http function receives."""
    return func.HttpRequest(method, url, headers=headers, params=params, route_params=route_params, body=body)


def timer_request(*, past_due: bool, schedule_status: Mapping[str, str]) -> func.TimerRequest:
    """What a timer function receives."""
    return TimerRequest(past_due=past_due, schedule_status=dict(schedule_status), schedule={"AdjustForDST": True})


def is_http_response(value: object) -> bool:
    """Whether a function returned a response object, rather than a text or nothing."""
    return isinstance(value, func.HttpResponse)
