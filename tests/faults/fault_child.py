"""The quarantine's child of a life: a process that has loaded the same functions."""

from __future__ import annotations

import fault_killers
from fault_scenarios import REGISTRY

from durable_ext.runtime.quarantined import Pipes, keep_to_the_parent, serve
from durable_ext.settings import Settings
from durable_ext.taskhub import make_program

if __name__ == "__main__":
    pipes = Pipes()
    keep_to_the_parent()
    fault_killers.whose = "child"
    serve(make_program(REGISTRY, Settings()), pipes)
