"""A process that has loaded an app and runs what another may die of: `python -m durable_ext.host.child APP_DIR`.

It is started by the quarantine of a host (see `runtime.quarantined`), and serves nothing else: no http, no timers, no
store. What the app does on import it does here once more.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import ExitStack
from pathlib import Path

from durable_ext.errors import DurableError
from durable_ext.functions.lowering import lower
from durable_ext.functions.resolving import resolve
from durable_ext.host.loader import app_module, find_app
from durable_ext.host.localsettings import environment, read_local_settings
from durable_ext.host.log_lines import PLAIN, LineFormatter
from durable_ext.runtime.logs import ActivityLogFilter
from durable_ext.runtime.program import Program
from durable_ext.runtime.quarantined import Pipes, keep_to_the_parent, serve
from durable_ext.settings import load_settings
from durable_ext.taskhub import make_program


def main(app_dir: Path) -> None:
    """Load the app in `app_dir` as the local host does, and serve until the parent is gone."""
    pipes = Pipes()
    keep_to_the_parent()
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter(PLAIN))
    handler.addFilter(ActivityLogFilter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    with ExitStack() as stack:
        try:
            program = load(app_dir, stack)
        except DurableError as error:
            sys.stderr.write(f"the app cannot be loaded in a process of its own: {error}\n")
            os._exit(1)  # whatever threads the import has started
        serve(program, pipes)


def load(app_dir: Path, stack: ExitStack) -> Program:
    """The program of an app. What it needs stays for as long as `stack` is open."""
    os.chdir(app_dir)
    stack.enter_context(environment(read_local_settings(app_dir).values))
    settings = load_settings(app_dir, os.environ)
    lowered = lower(find_app(stack.enter_context(app_module(app_dir))))
    return make_program(lowered.registry, settings, resolve=resolve)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
