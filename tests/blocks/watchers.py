"""An independent view of the database under test, and the switch that makes its statements wait.

Both kinds of database have a view ``hold``: ``SELECT n FROM hold`` waits while the watcher holds
it, and so does an INSERT into ``items`` whose name begins with "slow". Both can be cancelled.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from typing import Any, Protocol

from tests.blocks.other_process import OtherProcess
from tests.support.observer import Observer

__all__ = ["PostgresWatcher", "SQLiteWatcher", "Watcher"]

_POSTGRES_SETUP = """
CREATE TABLE items (id SERIAL PRIMARY KEY, name TEXT NOT NULL UNIQUE, n INT NOT NULL DEFAULT 0);
CREATE FUNCTION held() RETURNS INT LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_lock_shared(7);
    PERFORM pg_advisory_unlock_shared(7);
    RETURN 1;
END $$;
CREATE VIEW hold AS SELECT held() AS n;
CREATE FUNCTION wait_if_slow() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.name LIKE 'slow%' THEN PERFORM held(); END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER slow BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION wait_if_slow();
"""
_SQLITE_SETUP = """
PRAGMA journal_mode=WAL;
CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, n INT NOT NULL DEFAULT 0);
CREATE TABLE probe (writes INTEGER);
INSERT INTO probe VALUES (0);
CREATE VIEW hold AS
    WITH RECURSIVE steps(n) AS (SELECT 1 UNION ALL SELECT 1 FROM steps WHERE held())
    SELECT count(*) AS n FROM steps;
CREATE TRIGGER slow BEFORE INSERT ON items WHEN NEW.name LIKE 'slow%'
    BEGIN SELECT n FROM hold; END;
"""
_LONGEST_HOLD = 3.5
"""Seconds after which a statement goes on in any case, so that a test fails and does not hang."""


class Watcher(Protocol):
    """Every method may be called on any thread and loop."""

    connect_args: dict[str, Any]
    """Options of the driver that the registry under test has to use."""

    def names(self) -> list[str]:
        """Return the names of the committed items, sorted."""
        ...

    def hold(self) -> None:
        """Let the statements that ask for it wait."""
        ...

    def release(self) -> None:
        """Let them go on. May be called twice."""
        ...

    def held(self) -> int:
        """Return how many statements wait; SQLite: 1 if any has waited since ``hold()``."""
        ...

    def complaints(self) -> list[str]:
        """Return the connections that are in no good order while nobody uses them."""
        ...

    async def complain_about_locks(self) -> str | None:
        """Return the error of another process that wants to write; None if it can."""
        ...

    def close(self) -> None: ...


class _Alarm:
    """Release what is held in any case: a test that fails must not wait for itself."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release = release
        self._timer: threading.Timer | None = None

    def set(self) -> None:
        self._timer = threading.Timer(_LONGEST_HOLD, self._release)
        self._timer.start()

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class PostgresWatcher:
    """A session of its own on the server."""

    def __init__(self, url: str) -> None:
        self._alarm = _Alarm(self.release)
        self.connect_args: dict[str, Any] = {}
        self._observer = Observer(url)
        self._observer.execute(_POSTGRES_SETUP)
        self._is_holding = False

    def names(self) -> list[str]:
        return [row[0] for row in self.fetch('SELECT name FROM items ORDER BY name COLLATE "C"')]

    def hold(self) -> None:
        self.fetch("SELECT pg_advisory_lock(7)")
        self._is_holding = True
        self._alarm.set()

    def release(self) -> None:
        self._alarm.cancel()
        if self._is_holding:
            self._is_holding = False
            self.fetch("SELECT pg_advisory_unlock(7)")

    def held(self) -> int:
        return len(self._sessions("wait_event = 'advisory'"))

    def complaints(self) -> list[str]:
        return self._sessions("state <> 'idle'")

    async def complain_about_locks(self) -> str | None:
        return None

    def pids(self) -> list[str]:
        """Return the processes of the server that work for the database."""
        return self._sessions("true")

    def terminate(self) -> None:
        """End every other session of the database, and wait until they have ended."""
        self.fetch(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    def terminate_half(self) -> None:
        """End about half of the other sessions, and wait for none of them."""
        self.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < 0.5"
        )

    def execute(self, sql: str) -> None:
        """Run one statement or several."""
        self._observer.execute(sql)

    def fetch(self, sql: str, *arguments: object) -> list[Any]:
        """Return the rows of one statement."""
        return self._observer.fetch(sql, *arguments)

    def close(self) -> None:
        self.release()
        self._observer.close()

    def _sessions(self, condition: str) -> list[str]:
        rows = self.fetch(
            "SELECT pid, state, query FROM pg_stat_activity WHERE datname = current_database() "
            f"AND backend_type = 'client backend' AND pid <> pg_backend_pid() AND {condition}"
        )
        return [f"{row[0]} {row[1]}: {row[2]}" for row in rows]


class SQLiteWatcher:
    """A connection of its own to the file, and another process that writes to it."""

    def __init__(self, path: str, other_process: OtherProcess) -> None:
        self._alarm = _Alarm(self.release)
        self._path = path
        self._other_process = other_process
        self._is_released = threading.Event()
        self._is_released.set()
        self._held = 0
        self.step = 0.001
        """Seconds between two moments at which SQLite can interrupt a statement that is held."""
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.executescript(_SQLITE_SETUP)
        self.connect_args: dict[str, Any] = {"factory": self._connect}

    def names(self) -> list[str]:
        return [row[0] for row in self.fetch("SELECT name FROM items ORDER BY name")]

    def hold(self) -> None:
        self._held = 0
        self._is_released.clear()
        self._alarm.set()

    def release(self) -> None:
        self._alarm.cancel()
        self._is_released.set()

    def held(self) -> int:
        return 0 if self._is_released.is_set() else self._held

    def complaints(self) -> list[str]:
        return []

    async def complain_about_locks(self) -> str | None:
        answer = await self._other_process.write(self._path)
        return None if answer == "written" else answer

    def fetch(self, sql: str) -> list[Any]:
        """Return the rows of one statement."""
        return self._connection.execute(sql).fetchall()

    def close(self) -> None:
        self.release()
        self._connection.close()

    def _connect(self, *arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = sqlite3.Connection(*arguments, **options)
        connection.create_function("held", 0, self._wait)
        return connection

    def _wait(self) -> bool:
        self._held = 1
        return not self._is_released.wait(self.step)
