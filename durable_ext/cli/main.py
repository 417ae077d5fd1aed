"""The `durable` command: what it has, and how its failures end. Exit codes: 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from durable_ext.cli import instances, options, printing
from durable_ext.cli.scaffold import create_app
from durable_ext.errors import DurableError
from durable_ext.host.loader import AppLoadError
from durable_ext.host.run import run as run_host
from durable_ext.taskhub import GRACE
from durable_ext.version import __version__

HERE = Path()

app = typer.Typer(
    name="durable",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        printing.out().print(f"durable_ext {__version__}", markup=False, highlight=False)
        raise typer.Exit


@app.callback()
def durable(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Durable Functions on this machine: run an app, and look after its orchestrations."""


@app.command()
def run(
    app_dir: options.App = HERE,
    port: Annotated[
        int | None,
        typer.Option("--port", help="0 takes a free one.  [default: 7071]", min=0, max=65535, show_default=False),
    ] = None,
    storage: options.Storage = None,
    bind: Annotated[str, typer.Option("--bind", help="The address to listen on. There are no keys!")] = "127.0.0.1",
    grace: Annotated[
        float, typer.Option("--grace", help="Seconds that running functions get when the host stops.", min=0)
    ] = GRACE,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log everything.")] = False,
) -> None:
    """Run the Function App in this directory until Ctrl-C.

    State lives in .durable/ in the app's directory unless --storage says otherwise.
    """
    raise typer.Exit(run_host(app_dir, port=port, storage=storage, bind=bind, grace=grace, verbose=verbose))


@app.command()
def new(
    name: Annotated[Path, typer.Argument(help="The directory to create.", show_default=False)],
) -> None:
    """Create a Function App that runs at once."""
    create_app(name)
    printing.out().print(f"created {name}. Run it:\n  cd {name}\n  durable run", markup=False)


instances.register(app)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line, by default that of this process, and exit."""
    try:
        app(arguments)
    except AppLoadError as err:
        # The user's own traceback, as Python would print it: no prefix, no colours.
        printing.err().print(printing.many_lines(err.report))
        sys.exit(1)
    except (DurableError, OSError) as err:
        printing.err().print(printing.many_lines(f"durable: {err}"))
        sys.exit(1)
    sys.exit(0)
