"""Processes of this machine: when one began, whether it still runs, and how one ended."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

UNKNOWN = "0"
"""When a process began, where the system does not tell."""


def start_of(pid: int) -> str | None:
    """When the process began, in whatever the system counts in; None if there is no such process any more.

    A process number is used again sooner or later, but not by a process that began at the same time.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name of the program comes second, in brackets, and may hold anything.
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return UNKNOWN if not os.path.exists("/proc/self/stat") and _runs(pid) else None
    except OSError:
        return UNKNOWN
    is_over = fields[0] in (b"Z", b"X")  # dead, but nobody has asked for its exit code yet
    return None if is_over else fields[19].decode()


def is_alive(pid: int, start: str) -> bool:
    """Whether that very process runs."""
    found = start_of(pid)
    return found is not None and (UNKNOWN in (found, start) or found == start)


if sys.platform == "win32":

    def _runs(pid: int) -> bool:
        # os.kill(pid, 0) would end it here.
        still_active, query_limited_information = 259, 0x1000
        kernel = ctypes.windll.kernel32
        handle = kernel.OpenProcess(query_limited_information, False, pid)
        if not handle:
            return False
        code = ctypes.c_ulong()
        kernel.GetExitCodeProcess(handle, ctypes.byref(code))
        kernel.CloseHandle(handle)
        return code.value == still_active

else:

    def _runs(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # it is somebody else's
        return True


def how_it_ended(code: int) -> str:
    """What a return code says, such as "signal 9 (SIGKILL)" or "exit code 7"."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"
