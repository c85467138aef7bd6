"""An undo log: objects outside of the database that follow a transaction back.

One physical connection has one log while a transaction is open on it. The log knows the levels of
the transaction, the outermost one and its savepoints, and which objects each of them has touched.
A level that is rolled back has its objects restored, however that came about: by a block,
by hand, or because the connection is gone. A savepoint that is released leaves its objects to the
level around it. A commit forgets them all. A commit whose outcome is unknown restores them too.

The objects are referred to weakly. Those that are not held elsewhere leave the log by themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import repeat
from operator import methodcaller
from typing import Any, Final, Protocol
from weakref import ref

from sqlalchemy import event
from sqlalchemy.engine import Connection, Dialect, Engine
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from asgi_dbconn.errors import TransactionAborted

__all__ = ["Level", "Participant", "UndoLog", "install", "keep_log", "undo_log_of", "undo_on_error"]

_log = logging.getLogger("asgi_dbconn")
_KEY: Final = "asgi_dbconn.undo_log"

Undo = Callable[[BaseException | None], object]
"""A function that undoes work that has not come to its end.

Its argument is the error that ended the work if there is no transaction around it, and None if that
is undone, too.
"""


class Participant(Protocol):
    """The functions that restore one kind of objects when a transaction is rolled back."""

    has_notes: bool
    """True if a commit has notes to drop."""

    def undo(self, owners: list[Any], level: Level, *, uncertain: bool) -> None:
        """Restore what ``level`` has changed. ``uncertain``: it may have been committed."""
        ...

    def promote(self, owners: list[Any], level: Level, outer: Level) -> None:
        """Let ``outer`` answer for the changes of ``level``, a savepoint that was released."""
        ...

    def forget(self, owners: list[Any], level: Level) -> None:
        """Forget the changes of ``level``, which are committed."""
        ...


class Level:
    """One transaction, or one savepoint in it."""

    __slots__ = ("_owners", "first_keys", "name")

    def __init__(self, name: object = None) -> None:
        self.name = name
        """The name of the savepoint; None for the outermost level."""
        self.first_keys: dict[Any, int] = {}
        """The smallest primary key of new rows of this level, by table.

        Only noted where a database uses the keys of rows that were rolled back again.
        """
        self._owners: dict[Participant, dict[ref[Any], None]] = {}

    def add(self, participant: Participant, owners: Iterable[Any]) -> None:
        """Pass ``owners`` to ``participant`` when the level ends, as far as they live then."""
        references = self._owners.setdefault(participant, {})
        # One that dies removes itself. All of it runs in C: a level may have a hundred thousand.
        references.update(zip(map(ref, owners, repeat(references.pop)), repeat(None)))

    @property
    def size(self) -> int:
        """The number of objects that it answers for."""
        return sum(map(len, self._owners.values()))

    def note_key(self, table: Any, key: int) -> None:
        """Note that a new row of ``table`` was given this key."""
        self.first_keys[table] = min(key, self.first_keys.get(table, key))

    def undo(self, *, uncertain: bool) -> None:
        """Restore all that it has changed."""
        for participant, references in self._owners.items():
            try:
                participant.undo(_alive_owners(references), self, uncertain=uncertain)
            except Exception:  # the rollback itself has happened, and others wait to be restored
                _log.exception("objects could not be restored after a rollback")

    def promote(self, outer: Level) -> None:
        """Be a part of ``outer`` from now on."""
        for participant, references in self._owners.items():
            participant.promote(_alive_owners(references), self, outer)
        for table, key in self.first_keys.items():
            outer.note_key(table, key)

    def forget(self) -> None:
        """Forget all of it: it is committed."""
        for participant, references in self._owners.items():
            if participant.has_notes:
                participant.forget(_alive_owners(references), self)


def _alive_owners(references: dict[ref[Any], None]) -> list[Any]:
    return [owner for reference in list(references) if (owner := reference()) is not None]


class UndoLog:
    """The levels of the transaction on one connection, from the outermost to the innermost."""

    __slots__ = ("base", "is_committing", "level", "levels", "under_way")

    def __init__(self, *, is_isolated: bool = False) -> None:
        self.level = Level()
        """The innermost level, which answers for what is done now."""
        self.levels = [self.level]
        self.base: list[Level] = []
        """The levels of an isolation, below the others.

        On its connection all transactions are savepoints. No commit ends them.
        """
        self.under_way: list[Undo] = []
        """The undos of work under way, which is newer than all that the levels know."""
        self.is_committing = False
        """True if a COMMIT was sent, and its answer has not come."""
        if is_isolated:
            self.begin_part(None)

    def begin_savepoint(self, name: str) -> None:
        self._go_on([*self.levels, Level(name)])

    def roll_back_to(self, name: str) -> None:
        """Undo the savepoint, and those inside of it. It stays, as in SQL."""
        position = _position(name, self.levels)
        if position is not None:
            undone, outer = self.levels[position:], self.levels[:position]
            self._go_on([*outer, Level(name)])
            self._undo(undone)

    def release(self, name: str) -> None:
        """Make the savepoint, and those inside of it, a part of the level around it."""
        position = _position(name, self.levels)
        if position is not None:
            inner, outer = self.levels[position:], self.levels[:position]
            self._go_on(outer)
            _promote(inner, outer[-1])

    def commit(self) -> None:
        """End the transaction well. In an isolation it becomes a part of that."""
        levels, self.levels = self.levels, []
        if self.base:
            self._go_on([Level()])
            _promote(levels, self.base[-1])
        else:  # and nothing comes after it in this log
            for level in levels:
                level.forget()

    def roll_back(self) -> None:
        """Undo the transaction."""
        levels = self.levels
        self._go_on([Level()])
        self._undo(levels)

    def begin_part(self, name: object) -> None:
        """Begin a part of an isolation; the first one is the isolation itself."""
        self.base.append(Level(name))

    def roll_back_part(self, name: object) -> None:
        """Undo a part of an isolation, with the parts and transactions inside of it."""
        position = _position(name, self.base)
        if position is not None:
            self.roll_back()
            undone = self.base[position:]
            del self.base[position:]
            self._undo(undone)

    def end(self) -> None:
        """Undo everything: the connection is gone, or its isolation has ended."""
        self.roll_back()
        undone, self.base = self.base, []
        self._undo(undone)

    def _go_on(self, levels: list[Level]) -> None:
        self.levels, self.level = levels, levels[-1]

    def _undo(self, levels: list[Level]) -> None:
        while self.under_way:
            self.under_way.pop()(None)
        for level in reversed(levels):
            level.undo(uncertain=self.is_committing)


def _position(name: object, levels: list[Level]) -> int | None:
    for position in reversed(range(len(levels))):
        if levels[position].name == name:  # the innermost of its name hides the others
            return position
    return None


def _promote(levels: list[Level], outer: Level) -> None:
    # From the inside out: what the outer ones know is older, and wins.
    outers = [outer, *levels[:-1]]
    for level, around in zip(reversed(levels), reversed(outers), strict=True):
        level.promote(around)


def undo_log_of(connection: Connection) -> UndoLog | None:
    """Return the log of the transaction that is open on the connection; None if there is none.

    Call it after the statement: a transaction may begin as late as with its first one. Where
    each statement commits itself there is no log. Raises TransactionAborted if the connection was
    closed meanwhile, by the end of its block say: the statement is rolled back with it.
    """
    pooled: Any = getattr(connection, "_dbapi_connection", None)
    if pooled is None:
        raise TransactionAborted(
            "The connection was closed while this statement was under way, and its transaction "
            "is rolled back. Await what uses a block inside of that block."
        )
    log: UndoLog | None = pooled.info.get(_KEY)
    if log is None:
        # The driver also knows of transactions that plain SQL began, and of none for autocommit.
        raw: Any = pooled.dbapi_connection
        driver = getattr(raw, "_connection", raw)  # below an adapted connection
        ask = getattr(driver, "is_in_transaction", None)
        if driver.in_transaction if ask is None else ask():
            log = pooled.info[_KEY] = UndoLog()
    return log


@contextmanager
def undo_on_error(connection: Connection, undo: Undo) -> Iterator[None]:
    """Call ``undo`` if an error leaves the block, or when the transaction is undone before that.

    In this order: what the work has changed first, and then what the transaction has changed
    before. The other way round, the work's undo would bring that back.
    """
    log = undo_log_of(connection)
    if log is not None:
        log.under_way.append(undo)
    try:
        yield
    except BaseException as error:
        if log is None:
            undo(error)
        elif undo in log.under_way:
            log.under_way.remove(undo)
            undo(None)
        raise
    if log is not None and undo in log.under_way:
        log.under_way.remove(undo)


def keep_log(record: ConnectionPoolEntry, log: UndoLog) -> None:
    """Use ``log`` for the whole life of a new connection, on which everything is rolled back."""
    record.info[_KEY] = log


def install(engine: Engine) -> None:
    """Let the logs of the engine's connections follow how their transactions end.

    Call it when the dialect has its own methods to commit and roll back, and before others are
    installed that refuse to.
    """
    # By the methods of the engine's own dialect: listeners for the engine's events would make
    # every query slower. Those of a pool are called when something is wrong, and then only.
    _follow_transactions(engine.dialect)
    _follow_savepoints(engine.dialect)
    dropped: dict[int, UndoLog] = {}

    def end(_: Any, record: ConnectionPoolEntry, *__: Any) -> None:
        log: UndoLog | None = record.info.pop(_KEY, None)
        if log is not None:
            log.end()

    def keep(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        # Taken out of the pool: by its user, who may still commit, or by the garbage collector.
        log: UndoLog | None = record.info.pop(_KEY, None)
        if log is not None:
            dropped[id(connection)] = log

    def end_dropped(connection: DBAPIConnection) -> None:
        log = dropped.pop(id(connection), None)
        if log is not None:
            log.end()

    event.listen(engine, "invalidate", end)
    event.listen(engine, "close", end)
    event.listen(engine, "detach", keep)
    event.listen(engine, "close_detached", end_dropped)


def _follow_transactions(dialect: Dialect) -> None:
    commit, rollback = _own(dialect, "do_commit"), _own(dialect, "do_rollback")

    def do_commit(pooled: PoolProxiedConnection) -> None:
        log: UndoLog | None = pooled.info.get(_KEY)
        if log is None:
            commit(pooled)
            return
        log.is_committing = True
        try:
            commit(pooled)
        except BaseException as error:
            if not log.base:
                pooled.info.pop(_KEY, None)
            log.is_committing = not _is_refused(dialect, pooled, error)
            log.roll_back()
            raise
        finally:
            log.is_committing = False
        if not log.base:
            pooled.info.pop(_KEY, None)
        log.commit()

    def do_rollback(pooled: PoolProxiedConnection) -> None:
        # Also what the pool does to every connection that comes back.
        try:
            log: UndoLog | None = pooled.info.get(_KEY)
        except NotImplementedError:  # SQLAlchemy's first look at a server is not pooled
            log = None
        if log is None:
            rollback(pooled)
            return
        try:
            rollback(pooled)
        finally:
            if not log.base:
                pooled.info.pop(_KEY, None)
            log.roll_back()

    for method in (do_commit, do_rollback):
        setattr(dialect, method.__name__, method)


def _own(dialect: Dialect, name: str) -> Callable[[PoolProxiedConnection], None]:
    """Return the dialect's ``do_commit`` or ``do_rollback``.

    SQLAlchemy's own calls the driver's, and nothing else but for ``skip_autocommit_rollback``. That
    is called instead: each connection that goes back to its pool is rolled back, and one call more
    would be one for every query.
    """
    is_default = getattr(type(dialect), name) is getattr(DefaultDialect, name)
    if is_default and name not in vars(dialect) and not dialect.skip_autocommit_rollback:
        return methodcaller(name.removeprefix("do_"))
    method: Callable[[PoolProxiedConnection], None] = getattr(dialect, name)
    return method


def _is_refused(dialect: Dialect, pooled: PoolProxiedConnection, error: BaseException) -> bool:
    """Return whether the server answered a COMMIT with a refusal."""
    if isinstance(error, TransactionAborted):
        return True
    known: Any = error
    is_answer = isinstance(error, dialect.loaded_dbapi.Error)
    return is_answer and not dialect.is_disconnect(known, pooled, None)


def _follow_savepoints(dialect: Dialect) -> None:
    savepoint, rollback_to = dialect.do_savepoint, dialect.do_rollback_to_savepoint
    release = dialect.do_release_savepoint

    def do_savepoint(connection: Connection, name: str) -> None:
        savepoint(connection, name)
        log = undo_log_of(connection)
        if log is not None:
            log.begin_savepoint(name)

    def do_rollback_to_savepoint(connection: Connection, name: str) -> None:
        log: UndoLog | None = connection.info.get(_KEY)
        try:
            rollback_to(connection, name)
        finally:
            if log is not None:
                log.roll_back_to(name)

    def do_release_savepoint(connection: Connection, name: str) -> None:
        log: UndoLog | None = connection.info.get(_KEY)
        release(connection, name)
        if log is not None:
            log.release(name)

    for method in (do_savepoint, do_rollback_to_savepoint, do_release_savepoint):
        setattr(dialect, method.__name__, method)
