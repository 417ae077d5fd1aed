"""The laboratory: a process that runs scenarios under faults, one request at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class Lab:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fault_lab.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, task: str, **request: Any) -> dict[str, Any]:
        """Have something done. Fails the test with the lives and logs of what went wrong."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"task": task, **request}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        if failures := answer["failures"]:
            worst = failures[0]
            lives = "\n".join(", then ".join(each["lives"]) + f" (exit code {each['code']})" for each in failures)
            pytest.fail(
                f"{len(failures)} of {answer.get('cases', 1)} ended otherwise:\n{lives}\n\nthe first of them: "
                f"{json.dumps(worst['outcome'], indent=1)}\n{worst['logs']}\n"
                f"undisturbed: {json.dumps(answer.get('baseline'), indent=1)}",
                pytrace=False,
            )
        return answer

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    if sys.platform == "win32":
        pytest.skip("lives are forked, which Windows cannot do")
    found = Lab()
    yield found
    found.close()
