"""One turn of one instance, decided: from what is committed and what arrived to everything the commit is to hold.

Pure but for the user code it runs: no store, no clock, no log. What it is given and what it returns are records, so a
turn can be decided in another process.

The order: what the store says is taken up (`snapshot`), what arrived passes the message filter, what cannot be read
is set apart, and then either the session is fed what is left, or the instance fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from durable_ext.engine.turn import Turn
from durable_ext.errors import DurableError
from durable_ext.history import HistoryEvent, OrchestrationRuntimeStatus
from durable_ext.messages import Message, WorkReceipt
from durable_ext.runtime.failing import (
    UnreadableHistoryError,
    UnreadableMessageError,
    fail_instance,
    fail_without_history,
    message_dead_letter,
    orchestrator_dead_letter,
)
from durable_ext.runtime.message_filter import Drop, Filtered, filter_messages
from durable_ext.runtime.program import Program
from durable_ext.runtime.state import Arrival, InstanceState, LocalOutcome, Memory
from durable_ext.storage.contract import DeadLetter, Delivery, Receipt, Snapshot


class TurnInput(msgspec.Struct, frozen=True, kw_only=True):
    """What a turn starts from, where nothing is in memory."""

    snapshot: Snapshot
    arrivals: Sequence[Arrival]
    now: datetime


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of what arrived. `turn` is None if the instance does not move: there is only something to remove.

    `rewinds`: the turn makes a failed execution go on. `replies` are messages besides the turn's own. `deferred` came
    too early and is to be tried again. The rest is as in `storage.contract.Commit`.
    """

    turn: Turn | None = None
    rewinds: bool = False
    replaces_history: bool = False
    cancels_all: bool = False
    replies: Sequence[Message] = ()
    consumed: Sequence[Receipt] = ()
    kept: Sequence[Receipt] = ()
    completed: Sequence[WorkReceipt] = ()
    deferred: Sequence[Arrival] = ()
    drops: Sequence[Drop] = ()
    dead_letters: Sequence[DeadLetter] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit."""
        return self.turn is None and not (self.consumed or self.completed or self.replies or self.dead_letters)


def decide(
    memory: Memory,
    snapshot: Snapshot | None,
    arrivals: Sequence[Arrival],
    program: Program,
    now: datetime,
    fault: Exception | None = None,
) -> Decision:
    """Decide the next turn.

    `snapshot` is None if what is in `memory` is to be taken for current; otherwise memory is brought up to it. Memory
    is left as it will be once the decision is committed. `fault` is why the instance is not to be run any more.
    Whatever is raised says that the turn breaks down, and would again; memory is worthless then.
    """
    unreadable_history = snapshot.unreadable if snapshot is not None else None
    if snapshot is not None:
        _take_up(memory, snapshot, program, replay=fault is None)
    # After that: what was kept and in mind is forgotten with the rest, and comes with the snapshot.
    arrivals = _each_once(memory, arrivals)
    if unreadable_history is not None and not memory.state.has_ended:
        return _fail_unread(memory.state, unreadable_history, arrivals, now, fault)
    state = memory.state
    is_open = memory.session.is_open if memory.session is not None else _any_task_is_open
    filtered = filter_messages(state, arrivals, is_open, now)
    dead_letters: list[DeadLetter] = []
    unread: list[Delivery] = []
    for each in arrivals:
        if isinstance(each, Delivery):
            if each.unreadable is not None:
                unread.append(each)
        elif each.dead_letter is not None:
            dead_letters.append(each.dead_letter)
    error, lost_start = fault, None
    if unread:
        loss = _set_apart(state, filtered, unread, now, dead_letters)
        if loss is not None:
            error, lost_start = error or loss, _lost_start(state, filtered, unread)
    history = snapshot.history if snapshot is not None else ()
    turn: Turn | None = None
    if lost_start is not None and error is not None:
        turn = fail_without_history(lost_start, error)
    elif error is not None and (filtered.events or error is not fault):
        if filtered.events:
            dead_letters.append(orchestrator_dead_letter(state, filtered, error, now))
        turn = fail_instance(state, filtered, history, error, now)
    elif filtered.events:
        turn = _advance(memory, filtered, history, program, now)
    return _sum_up(memory, filtered, arrivals, turn, dead_letters, replaces_unreadable=unreadable_history is not None)


def decide_cold(program: Program, turn: TurnInput) -> Decision:
    """Decide a turn of an instance that is not in memory, and forget the instance again."""
    memory = Memory(turn.snapshot.instance_id)
    try:
        return decide(memory, turn.snapshot, turn.arrivals, program, turn.now)
    finally:
        memory.forget()


# --- what is known, and what arrived -----------------------------------------------------------------


def _each_once(memory: Memory, arrivals: Sequence[Arrival]) -> Sequence[Arrival]:
    """Without what came twice, and without what is kept and in mind already."""
    kept = memory.kept.receipts
    if len(arrivals) == 1 and not kept:
        return arrivals
    seen: set[Receipt] = set()
    once: list[Arrival] = []
    for each in arrivals:
        if isinstance(each, Delivery):
            if each.receipt in seen or each.receipt in kept:
                continue
            seen.add(each.receipt)
        once.append(each)
    return once


def _take_up(memory: Memory, snapshot: Snapshot, program: Program, *, replay: bool) -> None:
    """Go by what the store has instead of what was known."""
    memory.forget()
    state = memory.state = InstanceState.of(snapshot)
    if replay and state.started is not None and not state.has_ended:
        memory.session = program.session(state.name)
        memory.session.replay(snapshot.history)


def _any_task_is_open(task_id: int, outcome: HistoryEvent) -> bool:
    """Of an instance that is not replayed, as it is to fail: everything counts as a reason to have its turn."""
    return True


# --- what cannot be read -----------------------------------------------------------------------------


def _fail_unread(
    state: InstanceState, reason: str, arrivals: Sequence[Arrival], now: datetime, fault: Exception | None
) -> Decision:
    """Fail an instance whose history cannot be read: nothing else can ever become of it."""
    error = UnreadableHistoryError(state.instance_id, reason)
    if fault is None:
        raise error  # perhaps it can the next time
    everything = Filtered(events=[each.event for each in arrivals])
    execution_id = next((each.execution_id for each in arrivals if each.execution_id), "")
    return Decision(
        turn=fail_without_history(execution_id, error),
        consumed=[each.receipt for each in arrivals if type(each) is Delivery and not each.is_kept],
        completed=[each.item.receipt for each in arrivals if type(each) is LocalOutcome],
        dead_letters=[orchestrator_dead_letter(state, everything, error, now)],
    )


def _set_apart(
    state: InstanceState,
    filtered: Filtered,
    unreadable: Sequence[Delivery],
    now: datetime,
    dead_letters: list[DeadLetter],
) -> DurableError | None:
    """Take the messages that cannot be read out of what was let through; why the instance cannot go on, if so.

    An instance that may have been waiting for such a message fails readably instead of waiting for ever.
    """
    of_concern = [each for each in unreadable if each not in filtered.deferred]
    dead_letters += [message_dead_letter(state, each, now) for each in of_concern]
    passed = {id(event) for event in filtered.events}
    unread = {id(each.event) for each in of_concern}
    filtered.events = [event for event in filtered.events if id(event) not in unread]
    for each in of_concern:
        if id(each.event) in passed or _is_lost_start(state, filtered, each):
            return UnreadableMessageError(state.instance_id, each.unreadable or "")
    return None


def _lost_start(state: InstanceState, filtered: Filtered, unreadable: Sequence[Delivery]) -> str | None:
    """The execution that was to begin, if it was the start that cannot be read."""
    lost = (each.execution_id for each in unreadable if _is_lost_start(state, filtered, each))
    return next(lost, None)


def _is_lost_start(state: InstanceState, filtered: Filtered, unreadable: Delivery) -> bool:
    # Before the start nothing but the start is for a certain execution.
    return (
        state.status is OrchestrationRuntimeStatus.Pending
        and state.started is None
        and filtered.begins is None
        and unreadable.execution_id is not None
    )


# --- what follows ------------------------------------------------------------------------------------


def _advance(
    memory: Memory, filtered: Filtered, history: Sequence[HistoryEvent], program: Program, now: datetime
) -> Turn:
    if filtered.begins is not None:
        if memory.session is not None:
            memory.session.close()
        memory.session = program.session(filtered.begins.name)
    elif filtered.rewinds:
        memory.session = program.session(memory.state.name)
        memory.session.replay(history)
    if memory.session is None:
        raise RuntimeError(f"events were let through to {memory.state.instance_id}, which has no session")
    return memory.session.advance(now, filtered.events)


# Ends that take along what the instance has called. What one that returned left behind is done: nobody waits for it,
# but somebody may want it.
_CANCELLING = (OrchestrationRuntimeStatus.Failed, OrchestrationRuntimeStatus.Terminated)


def _sum_up(
    memory: Memory,
    filtered: Filtered,
    arrivals: Sequence[Arrival],
    turn: Turn | None,
    dead_letters: Sequence[DeadLetter],
    *,
    replaces_unreadable: bool,
) -> Decision:
    """What to remove, what to keep, and what to remember of the instance."""
    state, begins = memory.state, filtered.begins is not None
    consumed: list[Receipt] = memory.kept.take_all() if begins else []
    unread = {id(event) for event in turn.unread} if turn is not None and turn.unread else ()
    kept: list[Delivery] = []
    completed: list[WorkReceipt] = []
    aside = {id(each) for each in (*filtered.deferred, *filtered.left)} if filtered.deferred or filtered.left else ()
    for each in arrivals:
        if id(each) in aside:
            continue
        if isinstance(each, LocalOutcome):
            completed.append(each.item.receipt)
        elif id(each.event) in unread:
            kept.append(each)
        else:
            consumed.append(each.receipt)
    if kept:
        memory.kept.add(kept)
    if turn is not None:
        if turn.read:
            consumed += memory.kept.take(turn.read)
        memory.state = state.after(turn)
    replaces_line = begins and turn is not None and (state.started is not None or replaces_unreadable)
    return Decision(
        turn=turn,
        rewinds=filtered.rewinds,
        replaces_history=replaces_line or (turn is not None and turn.replaces_history),
        cancels_all=replaces_line or (turn is not None and turn.runtime_status in _CANCELLING),
        replies=filtered.replies,
        consumed=consumed,
        kept=[each.receipt for each in kept if not each.is_kept],
        completed=completed,
        deferred=filtered.deferred,
        drops=filtered.drops,
        dead_letters=dead_letters,
    )
