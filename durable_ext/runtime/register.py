"""The register: what this process has in hand, to be read by whoever comes after it.

User code can kill its process: a native crash, `os._exit`, the system for lack of memory. Which code it was nobody is
left to say, so each process writes down beforehand what it runs. The next process, or a living neighbour, reads the
registers of the dead: what they name is suspect, nothing else is.

The files
    One per process, in the directory that the store names: `<pid>-<start>-<token>.register`, where `start` is when
    the process began. It is mapped into memory, and what is written to such a file outlives the process, however that
    ends. Whoever claims the file of a dead process renames it to `<own pid>-<own start>-<token>.taken`, which one
    process only can do; it goes once every suspect in it has an outcome. If the claimer dies before, its claims are
    taken over like its own register, so that a suspicion outlives any number of deaths.

Their format
    16 bytes say what the file is, 4 how long a slot is, and at 64 the slots begin, all numbers in the machine's own
    order. A slot is the length of its record, 0 if it is free, and a MessagePack array: `RunningTurn` or `RunningCall`.
    The length is written last and taken back first, so that a record half written reads as absent. The first slot is
    *the mark*, for the code the event loop runs this instant, the others are for the calls that run. Where that code
    is a step of such a call, the mark is eight bytes, written at once: four of ones, and the number of its slot.

Who is suspect
    If something ran alone in its process: that. Else the marked turn or call, and the calls that ran in threads. If
    there are neither, the process was killed from outside or by something in the background: all calls that ran.
"""

from __future__ import annotations

import logging
import mmap
import os
import re
import secrets
import struct
import time
from collections.abc import Hashable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import msgspec

from durable_ext.messages import WorkItem, WorkReceipt
from durable_ext.runtime.processes import UNKNOWN, is_alive, start_of

logger = logging.getLogger(__name__)

UNRECORDED = -1
"""The slot of a call for which there is none."""

_MAGIC = b"durable register"
_HEAD = struct.Struct("=16sI")
_HEAD_SIZE = 64
_LENGTH = struct.Struct("I")
_REFERENCE = struct.Struct("Q")
_A_SLOT = 0xFFFFFFFF
_SLOT = 2048  # an instance id has up to 256 characters, of up to four bytes
_SLOTS = 32
_MOST_SLOTS = 100_000
_OLD = 24 * 3600.0
_NAME = re.compile(r"(?P<pid>\d+)-(?P<start>\d+)-[0-9a-f]+\.(register|taken)")


class RunningTurn(msgspec.Struct, frozen=True, array_like=True, tag="turn"):
    """A turn of an instance. `alone` counts the times it has run with nothing beside it, this time included."""

    instance_id: str
    name: str
    alone: int = 0

    @property
    def key(self) -> Hashable:
        """What tells it from every other."""
        return self.instance_id


class RunningCall(msgspec.Struct, frozen=True, array_like=True, tag="call"):
    """An activity call. `alone` counts the times it has run with nothing beside it, this time included."""

    instance_id: str
    execution_id: str
    task_id: int
    asked: int
    name: str
    in_thread: bool = False
    alone: int = 0

    @property
    def key(self) -> Hashable:
        """What tells it from every other: the receipt of its work item."""
        return WorkReceipt(self.instance_id, self.execution_id, self.task_id, self.asked)


Suspect: TypeAlias = RunningTurn | RunningCall

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Suspect).decode


class Register:
    """This process's register, and its claims on those of the dead. Everything is to be called on the event loop.

    Without a directory, or if it cannot be written to, nothing is recorded and nothing found.
    """

    def __init__(self, directory: Path | None) -> None:
        self._me = (os.getpid(), start_of(os.getpid()) or UNKNOWN)
        self._path: Path | None = None
        self._map: mmap.mmap | bytearray = bytearray(_offset(_SLOTS))
        self._claims: dict[Path, set[Hashable]] = {}
        if directory is not None:
            try:
                self._create(directory)
            except (OSError, ValueError) as error:  # ValueError: what cannot be mapped
                logger.warning("what runs here is not written down: no file can be mapped in %s: %s", directory, error)
        self._free = list(range(_SLOTS - 1, 0, -1))

    @property
    def directory(self) -> Path | None:
        """Where the registers are; None if nothing is recorded."""
        return self._path.parent if self._path is not None else None

    # --- what runs -----------------------------------------------------------------------------------

    def mark_turn(self, instance_id: str, name: str, alone: int = 0) -> None:
        """The event loop, which has nothing marked, is about to run code of this turn."""
        self._write(0, RunningTurn(instance_id, name, alone))

    def mark_call(self, slot: int, item: WorkItem) -> None:
        """The event loop, which has nothing marked, is about to run a step of this async activity."""
        if slot == UNRECORDED:  # its first step: most have no other
            self._write(0, _record_of(item, False, 0))
        else:
            _REFERENCE.pack_into(self._map, _HEAD_SIZE, _A_SLOT | slot << 32)

    def clear(self) -> None:
        """The event loop is back from what was marked."""
        _LENGTH.pack_into(self._map, _HEAD_SIZE, 0)

    def enter(self, item: WorkItem, in_thread: bool, alone: int = 0) -> int:
        """This call begins to run; return its slot. A call that cannot be recorded runs all the same."""
        if not self._free and not self._grow():
            return UNRECORDED
        slot = self._free.pop()
        self._write(slot, _record_of(item, in_thread, alone))
        return slot

    def beside(self, slot: int, item: WorkItem, in_thread: bool) -> None:
        """The call of this slot, which ran alone, runs beside others from now on."""
        if slot != UNRECORDED:
            self._free_slot(slot)
            self._write(slot, _record_of(item, in_thread, 0))

    def leave(self, slot: int) -> None:
        """The call of this slot has ended."""
        if slot != UNRECORDED:
            self._free_slot(slot)
            self._free.append(slot)

    def _free_slot(self, slot: int) -> None:
        _LENGTH.pack_into(self._map, _HEAD_SIZE + slot * _SLOT, 0)

    def _write(self, slot: int, record: Suspect) -> None:
        """Write a record into a slot that is free."""
        if self._path is None:
            return
        try:
            data = _encode(record)
        except ValueError:  # a lone surrogate in a name
            return
        size = len(data)
        if size <= _SLOT - _LENGTH.size:
            at = _HEAD_SIZE + slot * _SLOT
            start = at + _LENGTH.size
            self._map[start : start + size] = data
            _LENGTH.pack_into(self._map, at, size)

    # --- the file ------------------------------------------------------------------------------------

    def _create(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        path = self._new_path(directory, "register")
        with path.open("x+b") as file:
            # Written out, not left as a hole: a full disk must be an error here, not a signal when a page is touched.
            file.write(_HEAD.pack(_MAGIC, _SLOT).ljust(_offset(_SLOTS), b"\0"))
            file.flush()
            self._map = mmap.mmap(file.fileno(), 0)
        self._path = path

    def _new_path(self, directory: Path, suffix: str) -> Path:
        pid, start = self._me
        return directory / f"{pid}-{start}-{secrets.token_hex(4)}.{suffix}"

    def _grow(self) -> bool:
        """Double the number of slots."""
        before = (len(self._map) - _HEAD_SIZE) // _SLOT
        more = min(before, _MOST_SLOTS - before)
        if more <= 0:
            return False
        if isinstance(self._map, bytearray):
            self._map.extend(bytes(more * _SLOT))
        else:
            assert self._path is not None
            try:
                with self._path.open("r+b") as file:
                    file.seek(0, os.SEEK_END)
                    file.write(bytes(more * _SLOT))
                    file.flush()
                    larger = mmap.mmap(file.fileno(), 0)
            except (OSError, ValueError) as error:
                logger.warning("some of what runs here is not written down: %s cannot grow: %s", self._path, error)
                return False
            self._map.close()
            self._map = larger
        self._free.extend(range(before + more - 1, before - 1, -1))
        return True

    def close(self) -> None:
        """Remove the register: this process has nothing in hand any more. Its claims stay for the next one.

        What is recorded from now on goes nowhere.
        """
        if isinstance(self._map, bytearray):
            return
        size = len(self._map)
        self._map.close()
        self._map = bytearray(size)
        assert self._path is not None
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("cannot remove %s: %s", self._path, error)
        self._path = None

    def disown(self) -> None:
        """The process ends now, on purpose: nobody is to read what it has in hand. To be called from any thread."""
        path = self._path
        if path is not None:
            with suppress(OSError):
                path.unlink(missing_ok=True)

    # --- the registers of the dead -------------------------------------------------------------------

    def take_over(self, sole: bool) -> list[Suspect]:
        """Claim the registers of the dead, and return what they name.

        `sole`: the store allows one host only, and this is it, so every other register is of a dead process.
        """
        found: dict[Hashable, Suspect] = {}
        for path in self._of_the_dead(sole):
            claim = self._claim(path)
            if claim is None:
                continue
            records = _read(claim)
            suspects = _suspects(records or [])
            for each in suspects:
                known = found.get(each.key)
                if known is None or known.alone < each.alone:
                    found[each.key] = each
            self._claims[claim] = {each.key for each in suspects}
            if records is not None and not suspects:
                self._drop(claim)
        return list(found.values())

    def settle(self, key: Hashable) -> None:
        """This suspect has an outcome. Claims that are of no use any more go."""
        for claim, keys in list(self._claims.items()):
            if key in keys:
                keys.remove(key)
                if not keys:
                    self._drop(claim)

    def _of_the_dead(self, sole: bool) -> Iterator[Path]:
        if self._path is None:
            return
        try:
            paths = sorted(self._path.parent.iterdir())
        except OSError as error:
            logger.warning("cannot look for what the processes before this one ran: %s", error)
            return
        for path in paths:
            match = _NAME.fullmatch(path.name)
            if match is None or path == self._path or path in self._claims:
                continue
            owner = (int(match["pid"]), match["start"])
            if sole or (owner != self._me and not is_alive(*owner)):
                yield path

    def _claim(self, path: Path) -> Path | None:
        """Make a file this process's own; None if somebody else was quicker, or if it was claimed long ago."""
        try:
            if path.suffix == ".register":
                claim = path.rename(self._new_path(path.parent, "taken"))
                os.utime(claim)  # when it was first claimed; not every system notes when a mapped file is written
                return claim
            if time.time() - path.stat().st_mtime < _OLD:
                return path.rename(self._new_path(path.parent, "taken"))
            path.unlink()
        except FileNotFoundError:
            pass
        except OSError as error:
            logger.warning("cannot take over %s, so what it names is not known: %s", path, error)
        return None

    def _drop(self, claim: Path) -> None:
        del self._claims[claim]
        try:
            claim.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("cannot remove %s: %s", claim, error)


def _record_of(item: WorkItem, in_thread: bool, alone: int) -> RunningCall:
    return RunningCall(item.instance_id, item.execution_id, item.task_id, item.asked, item.name, in_thread, alone)


def _offset(slot: int) -> int:
    return _HEAD_SIZE + slot * _SLOT


def _read(path: Path) -> list[tuple[bool, Suspect]] | None:
    """The records in a file, and whether each is the mark; None if it is no register that this release can read."""
    try:
        content = path.read_bytes()
        magic, slot_size = _HEAD.unpack_from(content)
    except (OSError, struct.error) as error:
        logger.warning("%s cannot be read, so what it names is not known: %s", path, error)
        return None
    if magic != _MAGIC or slot_size <= _LENGTH.size:
        logger.warning("%s is no register that this release understands, so what it names is not known", path)
        return None
    records: list[tuple[bool, Suspect]] = []
    marked = 0
    for slot, at in enumerate(range(_HEAD_SIZE, len(content) - _LENGTH.size + 1, slot_size)):
        (size,) = _LENGTH.unpack_from(content, at)
        if slot == 0 and size == _A_SLOT:
            (reference,) = _REFERENCE.unpack_from(content, at)
            marked = reference >> 32
        elif size:
            start = at + _LENGTH.size
            try:
                records.append((slot == marked, _decode(content[start : start + size])))
            except msgspec.DecodeError:
                logger.debug("a record of %s is half written", path)
    return records


def _suspects(records: list[tuple[bool, Suspect]]) -> list[Suspect]:
    alone = [each for _, each in records if each.alone]
    if alone:
        return alone
    prime = [each for is_mark, each in records if is_mark or (isinstance(each, RunningCall) and each.in_thread)]
    return prime or [each for _, each in records]
