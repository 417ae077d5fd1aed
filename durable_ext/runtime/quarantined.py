"""The child's side of the quarantine: a process that has loaded the app, and runs what another may die of.

Requests come on the standard input the process was started with, answers go out on its standard output; user code has
neither, only what it would have in a host (prints go to the standard error). Both ways a frame is four bytes of
length and a MessagePack record. The first frame out is `READY`, once the app is loaded; then, for each request,
`BEGUN` before any user code runs, and the answer. The process ends when its input does, whatever runs then: so it
never outlives its parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import queue
import signal
import struct
import sys
import threading
import traceback
from collections.abc import Hashable, Sequence
from contextvars import Context
from typing import Any, NoReturn, TypeAlias

import msgspec

from durable_ext.clock import SystemClock
from durable_ext.errors import text_of
from durable_ext.history import TaskCompleted, TaskFailed
from durable_ext.messages import WorkItem
from durable_ext.runtime.calls import Calls, Outcome, Running
from durable_ext.runtime.decide import Decision, TurnInput, decide_cold
from durable_ext.runtime.logs import current_activity
from durable_ext.runtime.program import Program
from durable_ext.runtime.register import Register
from durable_ext.runtime.state import Arrival
from durable_ext.storage.contract import Delivery, Receipt
from durable_ext.tracebacks import user_traceback

READY, BEGUN = b"ready", b"begun"
LENGTH = struct.Struct(">I")


class CallRequest(msgspec.Struct, frozen=True, tag=True):
    """Run an activity. The answer is a `CallOutcome`."""

    item: WorkItem


class TurnRequest(msgspec.Struct, frozen=True, tag=True):
    """Decide a turn. The answer is a `TurnDecision`, or `TurnBroken`.

    Receipts are the positions of the arrivals, and there is no version: what they really are the store alone knows.
    """

    turn: TurnInput


class CallOutcome(msgspec.Struct, frozen=True, tag=True):
    """What became of the call."""

    event: TaskCompleted | TaskFailed


class TurnDecision(msgspec.Struct, frozen=True, tag=True):
    """What was decided."""

    decision: Decision


class TurnBroken(msgspec.Struct, frozen=True, tag=True):
    """Deciding the turn raised, as it would here. `report` is the traceback."""

    error: str
    report: str


Request: TypeAlias = CallRequest | TurnRequest
Answer: TypeAlias = CallOutcome | TurnDecision | TurnBroken


def _as_it_came(kind: type, value: Any) -> Any:
    return value  # receipts: positions


encode = msgspec.msgpack.Encoder().encode
decode_request = msgspec.msgpack.Decoder(Request, dec_hook=_as_it_came).decode
decode_answer = msgspec.msgpack.Decoder(Answer, dec_hook=_as_it_came).decode


def as_sent(turn: TurnInput) -> TurnInput:
    """A turn without what only its store understands."""
    replace = msgspec.structs.replace
    arrivals = [
        replace(each, receipt=position) if isinstance(each, Delivery) else each
        for position, each in enumerate(turn.arrivals)
    ]
    return replace(turn, snapshot=replace(turn.snapshot, version=None), arrivals=arrivals)


def as_meant(decision: Decision, arrivals: Sequence[Arrival]) -> Decision:
    """The decision about a turn that was sent, in terms of what arrived here."""
    sent: dict[Hashable, Arrival] = {}
    receipts: dict[Hashable, Receipt] = {}
    for position, each in enumerate(arrivals):
        if isinstance(each, Delivery):
            sent[position], receipts[position] = each, each.receipt
        else:
            sent[each.item.receipt] = each
    return msgspec.structs.replace(
        decision,
        consumed=[receipts[position] for position in decision.consumed],
        kept=[receipts[position] for position in decision.kept],
        deferred=[
            sent[each.receipt if isinstance(each, Delivery) else each.item.receipt] for each in decision.deferred
        ],
    )


class Pipes:
    """The ends of the pipes to the parent, taken out of reach of user code. To be made before anything else happens.

    From then on the process ends when the parent closes its end, or is gone.
    """

    def __init__(self) -> None:
        self._in, self._out = os.dup(0), os.dup(1)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        try:
            os.dup2(2, 1)
        except OSError:  # a host without a standard error
            os.dup2(nothing, 1)
        os.close(nothing)
        self._requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="durable-quarantine", daemon=True).start()

    def receive(self) -> bytes:
        """Wait for a request."""
        return self._requests.get()

    def send(self, payload: bytes) -> None:
        """Send a frame."""
        left = memoryview(LENGTH.pack(len(payload)) + payload)
        try:
            while left:
                left = left[os.write(self._out, left) :]
        except BrokenPipeError:
            os._exit(0)  # the parent is gone, and the thread that waits for that was not yet told

    def _read(self) -> NoReturn:
        while (head := self._read_exactly(LENGTH.size)) is not None:
            body = self._read_exactly(*LENGTH.unpack(head))
            if body is None:
                break
            self._requests.put(body)
        os._exit(0)

    def _read_exactly(self, size: int) -> bytes | None:
        data = bytearray()
        while len(data) < size:
            more = os.read(self._in, min(size - len(data), 1 << 20))
            if not more:
                return None
            data += more
        return bytes(data)


def keep_to_the_parent() -> None:
    """Leave it to the parent when this process ends: a signal to all of a terminal or service is not about it."""
    faulthandler.disable()  # a death says what it is by its signal, and the host by its log
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def serve(program: Program, pipes: Pipes) -> NoReturn:
    """Answer one request after another, until the process ends."""
    try:
        asyncio.run(_serve(program, pipes))
    except BaseException:
        traceback.print_exc()
    # Not by returning: threads that user code has left would keep the process, and the parent would wait for it.
    sys.stderr.flush()
    os._exit(1)


async def _serve(program: Program, pipes: Pipes) -> NoReturn:
    calls = Calls(program, SystemClock(), Register(None))
    pipes.send(READY)
    while True:
        request = decode_request(await asyncio.to_thread(pipes.receive))
        pipes.send(BEGUN)
        if isinstance(request, TurnRequest):
            answer = _decide(request.turn, program)
        else:
            answer = await _run(request.item, calls)
        sys.stdout.flush()
        pipes.send(answer)


def _decide(turn: TurnInput, program: Program) -> bytes:
    try:
        return encode(TurnDecision(decide_cold(program, turn)))
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        return encode(TurnBroken(f"{type(error).__name__}: {text_of(error)}", user_traceback(error)))


async def _run(item: WorkItem, calls: Calls) -> bytes:
    try:
        return encode(CallOutcome(await begin_call(calls, Running(item, calls.activity(item.name)))))
    except Exception as error:  # a lone surrogate in the result, say: it could not be stored either
        return encode(CallOutcome(calls.failed(item, error, is_final=True)))


def begin_call(calls: Calls, running: Running) -> asyncio.Future[Outcome]:
    """Begin a call on the event loop, or on a thread of its own, which may be left behind."""
    loop, item = asyncio.get_running_loop(), running.item
    if calls.is_async(item.name):
        context = Context()
        context.run(current_activity.set, item)
        return loop.create_task(calls.run_async(running), context=context)
    ended: asyncio.Future[Outcome] = loop.create_future()

    def run() -> None:
        outcome = Context().run(calls.run_sync, running)
        with contextlib.suppress(RuntimeError):  # the loop has ended before: nobody waits any more
            loop.call_soon_threadsafe(_settle, ended, outcome)

    threading.Thread(target=run, name="durable-apart", daemon=True).start()
    return ended


def _settle(ended: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not ended.done():
        ended.set_result(outcome)
