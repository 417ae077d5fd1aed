"""The documentation is true: its code runs, its links lead somewhere, its settings and commands exist.

The Python blocks of a page make one Function App. Comments after them, invisible to readers, say what to check:
`<!-- run NAME INPUT => OUTPUT -->`, `<!-- fail NAME INPUT => TEXT -->` and `<!-- get ROUTE => STATUS -->`.
"""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from durable_ext.cli.main import app as command_line
from durable_ext.history import OrchestrationRuntimeStatus
from durable_ext.host.app import LocalHost
from durable_ext.host_json import rules_of
from durable_ext.settings import Settings, parse_settings

REPOSITORY = Path(__file__).parents[2]
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    REPOSITORY / "samples" / "README.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
APPS = [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def checks(page: Path) -> list[tuple[str, str, str]]:
    return re.findall(r"<!-- (run|fail|get) (.+?) => (.+?) -->", page.read_text(encoding="utf-8"))


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


@pytest.mark.parametrize("page", APPS, ids=name_of)
async def test_the_code_of_a_page_runs_and_does_what_the_page_says(page: Path, tmp_path: Path) -> None:
    (tmp_path / "function_app.py").write_text("\n\n".join(blocks(page, "python")), encoding="utf-8")
    async with LocalHost(tmp_path, port=0, storage="sqlite:///:memory:") as host:
        assert not host.unserved
        for kind, what, expected in checks(page):
            if kind == "get":
                answer = await asyncio.to_thread(urllib.request.urlopen, host.url_of(what), timeout=20)
                with answer:
                    assert answer.status == int(expected)
                continue
            name, _, value = what.partition(" ")
            instance_id = await host.client.start_new(name, client_input=json.loads(value))
            status = await host.client.wait_for_completion(instance_id, 20)
            if kind == "run":
                assert (name, status.output) == (name, json.loads(expected))
            else:
                assert status.runtime_status is OrchestrationRuntimeStatus.Failed
                assert expected in status.output


@pytest.mark.parametrize("page", APPS, ids=name_of)
def test_every_orchestrator_of_a_page_is_checked(page: Path) -> None:
    orchestrators = re.findall(r"@app\.orchestration_trigger\(.*\)\n(?:async )?def (\w+)", page.read_text("utf-8"))
    assert set(orchestrators) == {what.split()[0] for kind, what, _ in checks(page) if kind != "get"}


def test_the_settings_shown_are_settings() -> None:
    shown = [json.loads(each) for page in PAGES for each in blocks(page, "json")]
    assert shown
    for each in shown:
        assert parse_settings(each, {}).ignored == ()


def test_the_settings_listed_are_those_that_have_an_effect() -> None:
    listed = re.findall(r"^\| `([a-zA-Z.]+)` \| .* \| .* \|$", (REPOSITORY / "README.md").read_text("utf-8"), re.M)
    assert sorted(listed) == sorted(rules_of(Settings))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_commands_shown_exist_with_their_options(page: Path) -> None:
    for line in "\n".join(blocks(page, "sh")).splitlines():
        words = shlex.split(line, comments=True)
        if not words or Path(words[0]).name != "durable":
            continue
        described = CliRunner().invoke(command_line, [words[1], "--help"], env={"COLUMNS": "200"})
        assert described.exit_code == 0, words[1]
        assert [word for word in words if word.startswith("--") and word not in described.output] == [], line


def test_the_make_targets_shown_exist() -> None:
    targets = re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text("utf-8"), re.M)
    shown = {each for page in PAGES for each in re.findall(r"\bmake ([a-z]+)\b", "\n".join(blocks(page, "sh")))}
    assert shown <= set(targets)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.M)
            assert anchor in [re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings], target
