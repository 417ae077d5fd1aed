"""Functions that were seen to kill their process, remembered for a while by all processes beside each other."""

from __future__ import annotations

import logging
import os
import secrets
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from durable_ext.clock import Clock

logger = logging.getLogger(__name__)

TERM = timedelta(minutes=30)
"""How long a conviction counts. A deployment that mends the function is not long held back by it."""

_FILE = "convicted.json"

Kind: TypeAlias = Literal["activity", "orchestrator"]


class Conviction(msgspec.Struct, frozen=True):
    """A function that killed its process: when it was seen to do so last, and how."""

    kind: Kind
    name: str
    when: datetime
    how: str


class Convictions:
    """Those of a hub on this machine, kept in a small file in the directory of its registers, if there is one."""

    def __init__(self, directory: Path | None, clock: Clock) -> None:
        self._path = directory / _FILE if directory is not None else None
        self._clock = clock
        self._known: dict[tuple[Kind, str], Conviction] = {}
        self._seen: tuple[int, int] | None = None
        self.refresh()

    def __len__(self) -> int:
        return len(self._known)

    def find(self, kind: Kind, name: str) -> Conviction | None:
        """The conviction of a function, if there is one and it still counts."""
        found = self._known.get((kind, name.casefold()))
        if found is not None and not self._counts(found):
            del self._known[kind, name.casefold()]
            return None
        return found

    def add(self, kind: Kind, name: str, how: str) -> None:
        """Convict a function."""
        self.refresh()
        self._take(Conviction(kind, name, self._clock.now(), how))
        if self._path is None:
            return
        counting = [each for each in self._known.values() if self._counts(each)]
        draft = self._path.with_name(f"{_FILE}.{secrets.token_hex(4)}")
        try:
            draft.write_bytes(msgspec.json.format(msgspec.json.encode(counting)))
            os.replace(draft, self._path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            logger.warning("only this process knows that %s '%s' kills: %s", kind, name, error)

    def refresh(self) -> None:
        """Learn what other processes have found."""
        if self._path is None:
            return
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_ino)
            if seen == self._seen:
                return
            self._seen = seen
            found = msgspec.json.decode(self._path.read_bytes(), type=list[Conviction])
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            logger.warning("%s cannot be read, so functions that kill their process are tried anew: %s", _FILE, error)
            return
        for each in found:
            if self._counts(each):
                self._take(each)

    def _take(self, conviction: Conviction) -> None:
        key = (conviction.kind, conviction.name.casefold())
        known = self._known.get(key)
        if known is None or known.when < conviction.when:
            self._known[key] = conviction

    def _counts(self, conviction: Conviction) -> bool:
        # A wall clock can be set back; then it counts for its term, not until the clock has caught up.
        return abs(self._clock.now() - conviction.when) < TERM
