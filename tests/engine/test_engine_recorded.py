"""What is recorded wins over what the code makes up when it is replayed."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from engine_hub import EPOCH, NEVER, Flaky, Hub, Status

from durable_ext.engine.turn import EngineOptions
from durable_ext.history import EventSent, ExecutionRewound, TimerFired


def hub(form: Any, **about: Any) -> Hub:
    def child(context: Any) -> Any:
        return (yield context.call_activity(context.get_input() or "never"))

    activities = {"never": lambda value: NEVER, "flaky": Flaky(1), **about.pop("activities", {})}
    return Hub(activities=activities, orchestrators={"child": form(child)}, check=False, **about)


def test_a_recursive_terminate_reaches_a_child_whose_id_the_code_makes_up_anew(form: Any) -> None:
    def parent(context: Any) -> Any:
        yield context.call_sub_orchestrator("child", None, str(uuid.uuid4()))

    played = hub(form)
    instance = played.start(form(parent))
    played.run()
    instance.evict()
    played.terminate(recurse=True)
    played.run()
    assert {each.status for each in played.instances.values()} == {Status.Terminated}


def test_a_rewind_reaches_a_child_whose_id_the_code_makes_up_anew(form: Any) -> None:
    def parent(context: Any) -> Any:
        return (yield context.call_sub_orchestrator("child", "flaky", str(uuid.uuid4())))

    played = hub(form)
    instance = played.start(form(parent))
    played.run()
    assert instance.status is Status.Failed
    played.rewind()
    played.run()
    assert instance.status is Status.Completed, instance.output
    (child,) = played.instances.keys() - {"abc123"}
    assert [message.instance_id for message in instance.messages if isinstance(message.event, ExecutionRewound)] == [
        child
    ]


def test_a_timer_that_a_rewind_sets_again_keeps_its_recorded_time(form: Any) -> None:
    now = [EPOCH]

    def orchestrator(context: Any) -> Any:
        context.create_timer(now[0] + timedelta(days=1))
        yield context.call_activity("flaky")
        yield context.wait_for_external_event("go")

    played = hub(form)
    instance = played.start(form(orchestrator))
    played.run(until=1)
    now[0] += timedelta(hours=1)  # a clock of the code's own
    played.rewind()
    played.run(until=1)
    timers = [message for message in instance.messages if isinstance(message.event, TimerFired)]
    assert [message.event.fire_at for message in timers] == [EPOCH + timedelta(days=1)] * 2


@pytest.mark.parametrize("stores_inputs", [False, True])
def test_a_call_that_a_rewind_makes_again_keeps_its_recorded_input_if_there_is_one(
    form: Any, stores_inputs: bool
) -> None:
    inputs: list[Any] = ["first", "second", "second"]

    def orchestrator(context: Any) -> Any:
        return (yield context.call_activity("flaky", inputs.pop(0)))

    played = hub(form, options=EngineOptions(store_inputs=stores_inputs))
    instance = played.start(form(orchestrator))
    played.run()
    played.rewind()
    played.run()
    assert instance.output == ("first" if stores_inputs else "second")


def test_an_event_goes_to_the_recorded_target_only(form: Any) -> None:
    def orchestrator(context: Any) -> Any:
        context.send_event(str(uuid.uuid4()), "news")
        yield context.wait_for_external_event("go")

    played = hub(form)
    instance = played.start(form(orchestrator))
    played.run()
    instance.evict()
    played.raise_event("go")
    played.run()
    assert instance.status is Status.Completed
    (sent,) = instance.recorded(EventSent)
    assert [message.instance_id for message in instance.messages] == [sent.instance_id]
