"""`durable new`: a Function App to begin with, made from the files under `template/`."""

from __future__ import annotations

import shutil
from pathlib import Path

from durable_ext.errors import DurableError

PACKAGE = Path(__file__).parents[1]
TEMPLATE = Path(__file__).parent / "template"

# Dotted files are kept under plain names: inside this package they would mean something to git and to build tools.
FILES = {
    "function_app.py": "function_app.py",
    "host.json": "host.json",
    "local_settings.json": "local.settings.json",
    "requirements.txt": "requirements.txt",
    "funcignore": ".funcignore",
    "gitignore": ".gitignore",
}


class TargetExistsError(DurableError):
    """There is something where the new app should go."""


def create_app(target: Path) -> None:
    """Create the directory and its files, with a copy of this package beside them. Overwrites nothing."""
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise TargetExistsError(f"{target} exists and is not empty; choose another name, or remove it first")
    target.mkdir(parents=True, exist_ok=True)
    for source, name in FILES.items():
        shutil.copyfile(TEMPLATE / source, target / name)
    # Until the package can be installed from an index, an app that is deployed brings it along.
    shutil.copytree(PACKAGE, target / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
