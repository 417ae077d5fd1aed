from __future__ import annotations

import json
import subprocess
from pathlib import Path

from hosting import DEADLINE, DURABLE, durable, running_host

import durable_ext as df


def new(cwd: Path, name: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DURABLE, "new", name], cwd=cwd, capture_output=True, text=True, timeout=DEADLINE, check=False
    )


def test_a_new_app_runs_at_once(tmp_path: Path) -> None:
    created = new(tmp_path, "hello")
    assert created.returncode == 0, created.stderr
    app = tmp_path / "hello"
    assert {each.name for each in app.iterdir()} == {
        "function_app.py",
        "host.json",
        "local.settings.json",
        "requirements.txt",
        ".funcignore",
        ".gitignore",
    }
    assert json.loads((app / "host.json").read_text())["extensionBundle"]["version"].startswith("[4.")
    assert not list(app.rglob("__pycache__"))

    with running_host(app) as (_, url):
        with durable("start", "greet_cities", "--wait", "--json", "--url", url, cwd=app) as started:
            assert started.wait() == 0
        posted = subprocess.run(
            ["curl", "-sS", "-X", "POST", f"{url}/api/orchestrators/greet_cities"],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=True,
        )
    assert json.loads(started.output)["output"] == ["Hello Tokyo!", "Hello Seattle!", "Hello London!"]
    assert "statusQueryGetUri" in json.loads(posted.stdout)


def test_a_new_app_depends_on_the_package_it_was_made_with_instead_of_copying_it(tmp_path: Path) -> None:
    new(tmp_path, "hello")
    requirements = (tmp_path / "hello" / "requirements.txt").read_text().splitlines()
    assert requirements == ["azure-functions>=1.26", f"durable-ext>={df.__version__}"]
    assert not list((tmp_path / "hello").rglob("durable_ext"))


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "hello").mkdir()
    (tmp_path / "hello" / "mine.txt").write_text("mine")
    found = new(tmp_path, "hello")
    assert found.returncode == 1
    assert "exists and is not empty" in found.stderr
    assert [each.name for each in (tmp_path / "hello").iterdir()] == ["mine.txt"]


def test_an_empty_directory_can_be_filled(tmp_path: Path) -> None:
    (tmp_path / "hello").mkdir()
    assert new(tmp_path, "hello").returncode == 0
