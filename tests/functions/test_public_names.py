from __future__ import annotations

import subprocess
import sys

import azure.functions as func
import pytest

import durable_ext as df


def test_every_public_name_exists_and_is_listed_once() -> None:
    assert len(set(df.__all__)) == len(df.__all__)
    assert all(hasattr(df, name) for name in df.__all__)


def test_every_error_of_the_package_is_public() -> None:
    def with_subclasses(error: type) -> set[type]:
        return {error}.union(*(with_subclasses(each) for each in error.__subclasses__()))

    public = {each.__name__ for each in with_subclasses(df.DurableError) if each.__module__ == "durable_ext.errors"}
    assert public <= set(df.__all__)


def test_names_of_later_releases_say_so() -> None:
    with pytest.raises(ImportError, match="EntityId: this release has no entities"):
        exec("from durable_ext import EntityId")
    with pytest.raises(ImportError, match=r"decorate the function with @app\.orchestration_trigger"):
        exec("from durable_ext import Orchestrator")
    with pytest.raises(ImportError, match="cannot import name 'Nonsense'"):
        exec("from durable_ext import Nonsense")
    assert not hasattr(df, "Nonsense")


def test_importing_does_nothing_else() -> None:
    program = (
        "import sys, threading, logging, warnings\n"
        "handlers, filters = list(logging.root.handlers), list(warnings.filters)\n"
        "import durable_ext\n"
        "assert threading.active_count() == 1\n"
        "assert logging.root.handlers == handlers\n"
        "assert 'azure.durable_functions' not in sys.modules\n"
        "for heavy in ('aiohttp', 'typer', 'rich', 'sqlite3'):\n"
        "    assert heavy not in sys.modules, heavy\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_a_function_app_needs_one_import_only() -> None:
    app = df.DFApp(http_auth_level=func.AuthLevel.ANONYMOUS)
    blueprint = df.Blueprint()

    @blueprint.activity_trigger(input_name="city")
    def say_hello(city: str) -> str:
        return f"Hello {city}!"

    @app.orchestration_trigger(context_name="context")
    def hello(context: df.DurableOrchestrationContext):  # type: ignore[no-untyped-def]
        return (yield context.call_activity(say_hello, "Tokyo"))

    app.register_functions(blueprint)
    assert app.get_functions() == []
