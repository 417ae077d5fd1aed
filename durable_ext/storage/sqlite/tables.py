"""The tables: what each version of the schema added to the one before.

A new file goes through all of them, so there is one path to the newest tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

VERSION = 2

NOW, KEPT = 0, 1
"""What `inbox.visible_at` says instead of a time: deliver at once; kept with its instance, never to be delivered.

Both take no byte of a row, so that keeping a message rewrites one page and none of its payload.
"""

# What takes a file from the version before to this one. Tables only ever change through an entry here.
MIGRATIONS: Mapping[int, Sequence[str]] = {
    1: (
        # One row: who hosts the hub, and whether the last host said goodbye.
        """
        CREATE TABLE hub (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            owner TEXT,
            closed_cleanly INTEGER NOT NULL
        )
        """,
        "INSERT INTO hub (one, owner, closed_cleanly) VALUES (1, NULL, 1)",
        # The status rows. A key is never used twice (AUTOINCREMENT), not even for the same id after a purge: whoever
        # holds a version of the former instance must lose against the new one.
        """
        CREATE TABLE instances (
            key INTEGER PRIMARY KEY AUTOINCREMENT,
            instance_id TEXT NOT NULL UNIQUE,
            execution_id TEXT NOT NULL,
            start_id TEXT NOT NULL,
            name TEXT NOT NULL,
            runtime_status TEXT NOT NULL,
            created_at INTEGER NOT NULL,
            updated_at INTEGER NOT NULL,
            version TEXT,
            parent_instance_id TEXT,
            tags TEXT,
            custom_status TEXT,
            output TEXT,
            input TEXT
        )
        """,
        # The history, one row per turn, and with it the version: an instance is at version (key, turn) while that
        # row is its newest. So one INSERT checks the version and appends, and no turn rewrites a row with payloads.
        # `events` is a JSON array.
        """
        CREATE TABLE turns (
            key INTEGER NOT NULL,
            turn INTEGER NOT NULL,
            events BLOB NOT NULL,
            PRIMARY KEY (key, turn)
        ) WITHOUT ROWID
        """,
        # Messages on their way. `visible_at` is 0 for "at once". Ids only grow, also after deletions
        # (AUTOINCREMENT): the host reads on from the last id it saw, and a receipt never comes to mean another message.
        """
        CREATE TABLE inbox (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            instance_id TEXT NOT NULL,
            execution_id TEXT,
            visible_at INTEGER NOT NULL,
            deaths INTEGER NOT NULL DEFAULT 0,
            event BLOB NOT NULL
        )
        """,
        "CREATE INDEX inbox_by_instance ON inbox (instance_id)",
        "CREATE INDEX inbox_by_time ON inbox (visible_at, id) WHERE visible_at > 0",
        # Activity calls. Claimed ones are not in the index, so an activity that runs inline never touches it.
        """
        CREATE TABLE work (
            instance_id TEXT NOT NULL,
            execution_id TEXT NOT NULL,
            task_id INTEGER NOT NULL,
            name TEXT NOT NULL,
            orchestrator TEXT NOT NULL,
            attempt INTEGER NOT NULL,
            deliveries INTEGER NOT NULL,
            is_claimed INTEGER NOT NULL,
            queued_at INTEGER NOT NULL,
            input TEXT,
            PRIMARY KEY (instance_id, execution_id, task_id)
        ) WITHOUT ROWID
        """,
        "CREATE INDEX work_waiting ON work (queued_at, task_id) WHERE is_claimed = 0",
        """
        CREATE TABLE dead_letters (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL,
            instance_id TEXT NOT NULL,
            name TEXT NOT NULL,
            payload TEXT,
            reason TEXT NOT NULL,
            created_at INTEGER NOT NULL
        )
        """,
    ),
    2: (
        # Who hosts the hub: a name that is left behind says that the host did not stop, but died.
        "ALTER TABLE hub RENAME TO hub_1",
        "CREATE TABLE hub (one INTEGER PRIMARY KEY CHECK (one = 1), owner TEXT)",
        "INSERT INTO hub (one, owner) SELECT 1, CASE WHEN closed_cleanly THEN NULL ELSE owner END FROM hub_1",
        "DROP TABLE hub_1",
        # `visible_at` has one more special value, see KEPT. `task_id` is the timer that a message fires, so that the
        # message goes when nobody waits for the timer any more. The event comes last, because reading what is behind
        # a long one would read all of it.
        "DROP INDEX inbox_by_instance",
        "DROP INDEX inbox_by_time",
        "ALTER TABLE inbox RENAME TO inbox_1",
        """
        CREATE TABLE inbox (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            instance_id TEXT NOT NULL,
            execution_id TEXT,
            visible_at INTEGER NOT NULL,
            task_id INTEGER,
            event BLOB NOT NULL
        )
        """,
        """
        INSERT INTO inbox (id, instance_id, execution_id, visible_at, task_id, event)
        SELECT id, instance_id, execution_id, visible_at,
            CASE WHEN json_valid(CAST(event AS TEXT)) AND
                json_extract(CAST(event AS TEXT), '$.EventType') = 'TimerFired'
            THEN json_extract(CAST(event AS TEXT), '$.TimerId') END,
            event
        FROM inbox_1
        """,
        # The highest id ever given is more than the highest that is left.
        "DELETE FROM sqlite_sequence WHERE name = 'inbox'",
        "INSERT INTO sqlite_sequence (name, seq) SELECT 'inbox', seq FROM sqlite_sequence WHERE name = 'inbox_1'",
        "DROP TABLE inbox_1",
        # Messages of an instance in their order, those that fire timers by their timers.
        "CREATE INDEX inbox_by_instance ON inbox (instance_id, task_id)",
        "CREATE INDEX inbox_by_time ON inbox (visible_at, id) WHERE visible_at > 1",
        # `due_at` is NULL while an item is claimed, 0 if it is to be run at once, else the time until which it waits.
        # Nobody hosts a hub that is being brought up to date, so nothing is claimed.
        "DROP INDEX work_waiting",
        "ALTER TABLE work RENAME TO work_1",
        """
        CREATE TABLE work (
            instance_id TEXT NOT NULL,
            execution_id TEXT NOT NULL,
            task_id INTEGER NOT NULL,
            asked INTEGER NOT NULL,
            name TEXT NOT NULL,
            orchestrator TEXT NOT NULL,
            attempt INTEGER NOT NULL,
            tries INTEGER NOT NULL,
            due_at INTEGER,
            queued_at INTEGER NOT NULL,
            input TEXT,
            PRIMARY KEY (instance_id, execution_id, task_id, asked)
        ) WITHOUT ROWID
        """,
        """
        INSERT INTO work (instance_id, execution_id, task_id, asked, name, orchestrator, attempt, tries, due_at,
            queued_at, input)
        SELECT instance_id, execution_id, task_id, 0, name, orchestrator, attempt, deliveries, 0, queued_at, input
        FROM work_1
        """,
        "DROP TABLE work_1",
        "CREATE INDEX work_waiting ON work (queued_at, task_id) WHERE due_at IS NOT NULL",
    ),
}
