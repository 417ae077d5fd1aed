"""Every sample folder is a Function App of its own, and the curl lines in its docstring work as printed."""

from __future__ import annotations

import ast
import asyncio
import re
import shlex
from pathlib import Path

import pytest
from e2e_hub import REPOSITORY, Hub

from durable_ext.host.app import LocalHost

SAMPLES = sorted(path.parent for path in (REPOSITORY / "samples").glob("*/function_app.py"))


def curl_lines(sample: Path) -> list[str]:
    docstring = ast.get_docstring(ast.parse((sample / "blueprint.py").read_text(encoding="utf-8"))) or ""
    return re.findall(r"^    curl .*$", docstring.replace("\\\n", " "), re.MULTILINE)


def run_curl(line: str, base_url: str) -> int:
    """Do what curl would, and return the status of the answer."""
    words = iter(shlex.split(line)[1:])
    method, body, url, content_type = "", None, "", "application/x-www-form-urlencoded"
    for word in words:
        match word:
            case "-X":
                method = next(words)
            case "-d":
                body = next(words)
            case "-H":
                name, _, value = next(words).partition(": ")
                assert name == "Content-Type"
                content_type = value
            case "-i":
                pass
            case _:
                assert not url, f"two URLs in {line}"
                url = word
    assert url.startswith("http://localhost:7071/")
    url = url.replace("http://localhost:7071", base_url)
    method = method or ("GET" if body is None else "POST")
    return Hub(base_url).ask(method, url, body, content_type=content_type).status


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
async def test_the_sample_runs_alone_and_its_curl_lines_work(sample: Path) -> None:
    lines = curl_lines(sample)
    assert lines, "a sample says how to try it"
    async with LocalHost(sample, port=0, storage="sqlite:///:memory:") as host:
        assert not host.unserved
        answers = [await asyncio.to_thread(run_curl, line, host.base_url) for line in lines]
    expected = [202, 409] if sample.name == "singleton" else [200, 202]
    assert set(answers) <= set(expected), dict(zip(lines, answers, strict=True))


def test_the_app_of_this_repository_has_every_sample() -> None:
    registered = (REPOSITORY / "function_app.py").read_text(encoding="utf-8")
    assert [sample.name for sample in SAMPLES if f"samples.{sample.name}.blueprint" not in registered] == []


def test_the_list_of_samples_is_complete() -> None:
    listed = (REPOSITORY / "samples" / "README.md").read_text(encoding="utf-8")
    assert [sample.name for sample in SAMPLES if f"({sample.name}/blueprint.py)" not in listed] == []
