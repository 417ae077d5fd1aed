from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pytest
from hosting import DEADLINE, DURABLE

import durable_ext as df


@pytest.mark.parametrize("command", [DURABLE, [sys.executable, "-m", "durable_ext"]], ids=["durable", "module"])
def test_the_command_says_its_version_and_the_package_is_a_command(command: list[str]) -> None:
    found = subprocess.run(
        [*command, "--version"], capture_output=True, text=True, timeout=DEADLINE, check=True, stdin=subprocess.DEVNULL
    )
    assert found.stdout.strip() == f"durable_ext {df.__version__}"


def test_the_version_is_the_one_that_is_installed() -> None:
    assert metadata.version("durable-ext") == df.__version__
