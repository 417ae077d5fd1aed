"""`durable new`: a Function App to begin with, made from the files under `template/`."""

from __future__ import annotations

import shutil
from pathlib import Path

from durable_ext.errors import DurableError
from durable_ext.version import __version__

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
    """Create the directory and its files. Overwrites nothing."""
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise TargetExistsError(f"{target} exists and is not empty; choose another name, or remove it first")
    target.mkdir(parents=True, exist_ok=True)
    for source, name in FILES.items():
        shutil.copyfile(TEMPLATE / source, target / name)
    # What the app was made with, or later: its settings and decorators are those of this release.
    requirements = target / "requirements.txt"
    requirements.write_text(requirements.read_text(encoding="utf-8").format(version=__version__), encoding="utf-8")
