"""The judge's eyes: a plain driver connection that has nothing to do with the code under test."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import asyncpg

from tests.histories.vocabulary import BASE_TOKENS, COUNTERS
from tests.support.observer import OBSERVER_NAME, Observer

__all__ = ["PostgreSQLWitness", "SQLiteWitness", "Snapshot", "Witness"]

_PATIENCE: Final = 1.0
"""Seconds within which another program must be able to write."""


@dataclass
class Snapshot:
    """What everybody can see."""

    values: dict[str, int] = field(default_factory=dict)
    """Of the rows, by their tokens; those of parts are 0."""
    keys: dict[int, str] = field(default_factory=dict)
    """Tokens of the items by their primary keys."""
    parents: dict[str, int] = field(default_factory=dict)
    """Primary keys of the items that parts belong to."""
    totals: dict[int, int] = field(default_factory=dict)


class Witness(ABC):
    """Prepares the tables, looks at them, and disturbs programs from outside."""

    def __init__(self) -> None:
        self._holders: list[threading.Thread] = []

    @abstractmethod
    def reset(self) -> None:
        """Give the next program fresh tables; whoever is left from the last one is ended."""

    @abstractmethod
    def look(self) -> Snapshot: ...

    @abstractmethod
    def can_write(self) -> bool:
        """Return whether every row can be written within a second. Blocks for that time."""

    @abstractmethod
    def open_transactions(self) -> list[str]:
        """Return what connections inside of a transaction are doing now."""

    @abstractmethod
    def _hold(self, seconds: float) -> None: ...

    def kill(self, which: int) -> str | None:
        """End one connection from the server's side; say what it was doing."""
        raise NotImplementedError(which)

    def hold(self, seconds: float) -> None:
        """Lock all rows against writers for some time, from a thread."""
        holder = threading.Thread(target=self._hold, args=(seconds,), name="test-holder")
        self._holders.append(holder)
        holder.start()

    def release(self) -> None:
        """Return when nothing is held any more."""
        while self._holders:
            self._holders.pop().join()

    def wait_for_quiet(self, seconds: float) -> list[str]:
        """Return the transactions that are still open after at most that time."""
        deadline = time.monotonic() + seconds
        while (found := self.open_transactions()) and time.monotonic() < deadline:
            time.sleep(0.01)
        return found

    def close(self) -> None:
        self.release()


class PostgreSQLWitness(Witness):
    """By asyncpg, in a thread of its own."""

    _OTHERS = (
        "FROM pg_stat_activity WHERE datname = current_database() "
        f"AND pid <> pg_backend_pid() AND application_name <> '{OBSERVER_NAME}'"
    )

    def __init__(self, url: str) -> None:
        super().__init__()
        self._observer = Observer(url)
        self._name = url.rpartition("/")[2]

    def prepare(self) -> None:
        """Create the tables, once for a database."""
        self._observer.execute(f"""
            ALTER DATABASE "{self._name}" SET deadlock_timeout = '20ms';
            CREATE TABLE items (
                id SERIAL PRIMARY KEY, token TEXT NOT NULL UNIQUE, value BIGINT NOT NULL);
            CREATE TABLE parts (
                id SERIAL PRIMARY KEY, token TEXT NOT NULL UNIQUE,
                item_id INTEGER NOT NULL REFERENCES items (id));
            CREATE TABLE counters (id INTEGER PRIMARY KEY, total INTEGER NOT NULL);
        """)

    def reset(self) -> None:
        self.release()
        self._observer.fetch(f"SELECT pg_terminate_backend(pid, 5000) {self._OTHERS}")
        items = ", ".join(f"('{token}', 0)" for token in BASE_TOKENS)
        counters = ", ".join(f"({counter}, 0)" for counter in COUNTERS)
        self._observer.execute(
            "TRUNCATE items, parts, counters; "
            f"INSERT INTO items (token, value) VALUES {items}; "
            f"INSERT INTO counters (id, total) VALUES {counters}"
        )

    def look(self) -> Snapshot:
        seen = Snapshot()
        for row in self._observer.fetch(
            "SELECT 1 AS kind, id, token, value FROM items UNION ALL "
            "SELECT 2, item_id, token, 0 FROM parts UNION ALL "
            "SELECT 3, id, '', total FROM counters"
        ):
            if row["kind"] == 3:
                seen.totals[row["id"]] = row["value"]
                continue
            seen.values[row["token"]] = row["value"]
            if row["kind"] == 1:
                seen.keys[row["id"]] = row["token"]
            else:
                seen.parents[row["token"]] = row["id"]
        return seen

    def can_write(self) -> bool:
        try:
            self._observer.execute(
                f"SET lock_timeout = '{_PATIENCE}s'; BEGIN; "
                "LOCK TABLE items, parts, counters IN SHARE ROW EXCLUSIVE MODE; ROLLBACK"
            )
        except asyncpg.LockNotAvailableError:
            self._observer.execute("ROLLBACK")
            return False
        return True

    def open_transactions(self) -> list[str]:
        rows = self._observer.fetch(
            f"SELECT state || ': ' || query AS what {self._OTHERS} "
            "AND (state LIKE 'idle in transaction%' OR state = 'active')"
        )
        return [row["what"] for row in rows]

    def kill(self, which: int) -> str | None:
        backends = self._observer.fetch(
            f"SELECT pid, coalesce(state, 'starting') || ': ' || query AS what {self._OTHERS} "
            "AND backend_type = 'client backend' ORDER BY backend_start"
        )
        if not backends:
            return None
        chosen = backends[which % len(backends)]
        self._observer.fetch("SELECT pg_terminate_backend($1)", chosen["pid"])
        what: str = chosen["what"]
        return what

    def _hold(self, seconds: float) -> None:
        with suppress(asyncpg.PostgresError):
            # On a connection of its own: another one may hold them, too.
            self._observer.execute(
                f"SET lock_timeout = '{_PATIENCE}s'; "
                "BEGIN; LOCK TABLE items IN SHARE ROW EXCLUSIVE MODE; "
                f"SELECT pg_sleep({seconds}); ROLLBACK",
                database=self._name,
            )

    def close(self) -> None:
        super().close()
        self._observer.close()


class SQLiteWitness(Witness):
    """By sqlite3, with a connection for each look."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file
        self._template = file.with_suffix(".template")
        with closing(sqlite3.connect(self._template)) as connection:
            connection.executescript("""
                CREATE TABLE items (
                    id INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE, value BIGINT NOT NULL);
                CREATE TABLE parts (
                    id INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE,
                    item_id INTEGER NOT NULL REFERENCES items (id));
                CREATE TABLE counters (id INTEGER PRIMARY KEY, total INTEGER NOT NULL);
            """)
            connection.executemany(
                "INSERT INTO items (token, value) VALUES (?, 0)",
                [(token,) for token in BASE_TOKENS],
            )
            connection.executemany(
                "INSERT INTO counters VALUES (?, 0)", [(counter,) for counter in COUNTERS]
            )
            connection.commit()
            connection.execute("PRAGMA journal_mode=WAL")

    def reset(self) -> None:
        self.release()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self._file}{suffix}").unlink(missing_ok=True)
        shutil.copyfile(self._template, self._file)

    def look(self) -> Snapshot:
        seen = Snapshot()
        with closing(self._connect()) as connection:
            for key, token, value in connection.execute("SELECT id, token, value FROM items"):
                seen.values[token], seen.keys[key] = value, token
            for parent, token in connection.execute("SELECT item_id, token FROM parts"):
                seen.values[token], seen.parents[token] = 0, parent
            seen.totals = dict(connection.execute("SELECT id, total FROM counters"))
        return seen

    def can_write(self) -> bool:
        return self._locked(lambda: None)

    def open_transactions(self) -> list[str]:
        return []  # nobody but a writer can be seen, and can_write() sees it

    def _hold(self, seconds: float) -> None:
        self._locked(lambda: time.sleep(seconds))

    def _locked(self, work: Callable[[], None]) -> bool:
        with closing(self._connect()) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if "locked" in str(error):
                    return False
                raise
            work()
            connection.execute("ROLLBACK")
        return True

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._file, timeout=_PATIENCE, isolation_level=None)
