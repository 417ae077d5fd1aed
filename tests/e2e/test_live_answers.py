"""The management API answers as the live extension did, but for what we do otherwise on purpose.

The recording lies beside the repository, in `shared/`. Without it there is nothing to compare with.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

import pytest
from e2e_hub import MANAGEMENT, REPOSITORY, Hub
from hosting import running_host, write_app
from live_answers import Caller, differs, read_exchanges
from live_app import APP, host_json, set_up

RECORDING = REPOSITORY.parent / "shared" / "spec" / "golden" / "http.json"
pytestmark = pytest.mark.skipif(not RECORDING.exists(), reason="the recording is not beside this repository")

# Not replayed: entities are to come; the client channel is a part of the extension alone; `last` and `purge many`
# upset or empty the hub for the others; our app has no lease to take.
FRESH = ("routing",)
PLAIN = ("start", "start bodies", "start ids", "start duplicate", "wait", "status", "list", "raise")
PLAIN += ("terminate", "suspend", "resume", "rewind", "restart", "purge one", "forwarded")
CONFIGURED = ("forwarded on", "version", "makeprimary without lease", "inputs stored")
SETTINGS = {
    "httpSettings": {"useForwardedHost": True},
    "defaultVersion": "2.0",
    "storeInputsInOrchestrationHistory": True,
}

DIFFERENT: dict[str, tuple[str, ...]] = {
    "the local host lists its dead letters": ("routing/dead letters",),
    "an app serves one hub, and links spell it as the app does": ("*/task hub o*", "start/task hub with a blank"),
    "the connection is not looked at": ("start/connection unknown", "status/connection other"),
    "function and id are checked at the start": (
        "start/unknown function*",
        "start/activity",
        "start/entity",
        "start/unknown function bad json",
        "start duplicate/unknown function on a live one",
        "start ids/at",
        "start ids/at by its link",
        "start ids/*slash*",
        "start ids/hash*",
        "start ids/question*",
        "start ids/control *",
        "start ids/newline*",
        "start ids/nul",
        "start ids/257",
        "list/entities",
    ),
    "paths are decoded once, a plus is a plus, and a blank in a link is %20": (
        "start ids/*space by its link",
        "start ids/*plus*",
        "start ids/twice encoded",
        "raise/name slash",
    ),
    "a page of another site could send what does not say that it is JSON": (
        "start bodies/text/plain*",
        "start bodies/form*",
        "start bodies/no content type*",
        "start bodies/octet stream*",
        "start bodies/content type nonsense*",
    ),
    "only as localhost, and under names that are allowed": ("forwarded/host header*",),
    "bodies are strict JSON in a Unicode encoding": (
        "start bodies/bad json",
        "start bodies/*comma*",
        "start bodies/blank*",
        "start bodies/comment*",
        "start bodies/single quotes*",
        "start bodies/bare key*",
        "start bodies/NaN*",
        "start bodies/Infinity*",
        "start bodies/undefined*",
        "start bodies/leading zero*",
        "start bodies/hex*",
        "start bodies/lone surrogate*",
        "start bodies/raw newline*",
        "start bodies/latin-1*",
        "start bodies/bad utf-8*",
        "start bodies/charset nonsense",
        "start bodies/nested 70",
        "start bodies/nested 2000",
        "raise/trailing*",
        "raise/single quotes*",
        "raise/NaN*",
        "raise/nested 70",
    ),
    "a wait that makes no sense starts nothing, or is none": (
        "wait/interval too long*was it started",
        "wait/negative *",
        "wait/timeout nan*",
        "wait/timeout infinity*",
        "wait/timeout huge*",
        "wait/thousands",
        "restart/wait interval too long*",
    ),
    "a failure is a 500 if that was asked for, and the links carry the wish": (
        "start/failure flag",
        "wait/failed with flag",
        "restart/failed and wait with flag",
    ),
    "of a parameter given twice the first value counts": (
        "status/input twice",
        "status/terminated two reasons",
        "list/prefix twice",
        "version/twice status",
    ),
    "a Location has the query as it was read": ("status/location keeps query",),
    "a start without a body has the input null": ("status/custom status",),
    "our nap is longer, so that a slow machine finds it unfinished": ("status/one outstanding call",),
    "statuses are read without case, and no query is an error": ("list/lower case", "list/number -1", "list/Unknown"),
    "dates are ISO 8601, the year 1 too": (
        "list/created from us date",
        "list/created from words",
        "list/created to year 1",
    ),
    "a page is never empty, and a token is one that was given": ("list/top 0", "list/top -*", "list/token *"),
    "there are no scheduled starts, so pages fall differently": ("list/paging by * page *",),
    "an event that nobody waits for is no part of the history yet": (
        "raise/running afterwards",
        "raise/suspended stays",
        "raise/name * afterwards",
    ),
    "the recorder raised that event in another way": ("raise/consumed", "raise/suspended then resumed"),
    "pausing a paused instance and resuming a running one is accepted": (
        "suspend/suspended",
        "suspend/with a body",
        "resume/running",
        "resume/with a body",
    ),
    "a resumed instance has no output": ("resume/suspended afterwards", "resume/no reason afterwards"),
    "a refused rewind is 410 for what has ended, and worded otherwise; a rewound history keeps its rows": ("rewind/*",),
    "a refused restart is in the short form": ("restart/* same id", "restart/unknown", "restart/entity id"),
    "a refused purge is worded otherwise": ("purge one/running*", "purge one/suspended*", "purge one/entity id"),
    "of a forwarded host the port and the first of a list count, nonsense does not": ("forwarded on/*",),
    "a version newer than the app's is run": ("version/newer status", "version/words status", "version/list"),
    "inputs are stored as they are, not in an array of arguments": ("inputs stored/*",),
}


def is_different(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for patterns in DIFFERENT.values() for pattern in patterns)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The URL of a host with the app of the recording, by section."""
    plain = write_app(tmp_path_factory.mktemp("plain"), APP, host=host_json())
    configured = write_app(tmp_path_factory.mktemp("configured"), APP, host=host_json(**SETTINGS))
    storage = ("--storage", "sqlite:///:memory:")
    with (
        running_host(plain, *storage) as (_, empty),
        running_host(plain, *storage) as (_, first),
        running_host(configured, *storage) as (_, second),
    ):
        yield dict.fromkeys(FRESH, empty) | dict.fromkeys(PLAIN, first) | dict.fromkeys(CONFIGURED, second)


@pytest.mark.parametrize("section", FRESH + PLAIN + CONFIGURED)
def test_the_answers_are_those_of_the_live_extension(section: str, hosts: dict[str, str]) -> None:
    exchanges = read_exchanges(RECORDING)[section]
    caller = Caller(hosts[section], MANAGEMENT)
    set_up(Hub(hosts[section]), section, exchanges)
    token, unlike = None, []
    for exchange in exchanges:
        if exchange.get("state") == "pending":  # an instance that is to begin in an hour: we have no such starts
            continue
        known = is_different(exchange["name"])
        difference, token = differs(caller, exchange, token, patient=not known)
        if difference is not None and not known:
            unlike.append(difference)
    caller.connection.close()
    assert not unlike, "\n".join(unlike)


def test_every_difference_that_is_named_is_one_of_the_recording() -> None:
    sections = read_exchanges(RECORDING)
    names = [exchange["name"] for section in FRESH + PLAIN + CONFIGURED for exchange in sections[section]]
    for patterns in DIFFERENT.values():
        for pattern in patterns:
            assert any(fnmatchcase(name, pattern) for name in names), pattern
