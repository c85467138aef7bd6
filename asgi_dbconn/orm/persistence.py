"""Persistence by a Session: store, delete and refresh, on the synchronous side of a greenlet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    delete,
    event,
    literal,
    select,
)
from sqlalchemy.engine import Connection
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Mapper, Session, make_transient, object_mapper
from sqlalchemy.orm.attributes import instance_dict, instance_state, set_committed_value

from asgi_dbconn.orm.cascades import stale_relations
from asgi_dbconn.orm.errors import ObjectNotFound
from asgi_dbconn.orm.fast_path.execution import execute
from asgi_dbconn.orm.fast_path.write_plans import WritePlan, has_own_idea_of_null
from asgi_dbconn.orm.flush_undo import Before, FlushUndo, note_refreshed
from asgi_dbconn.orm.loaded_objects import note_states
from asgi_dbconn.orm.object_undo import ObjectUndo, note_change
from asgi_dbconn.orm.origin import Origin, set_origin
from asgi_dbconn.orm.store_lock import StoreLock, is_refusal
from asgi_dbconn.pools.aborted_transactions import mark_aborted
from asgi_dbconn.pools.undo_log import undo_log_of, undo_on_error

__all__ = [
    "delete_fast",
    "delete_object",
    "insert_fast",
    "refresh",
    "row_missing",
    "store",
    "update_fast",
]

T = TypeVar("T")


class _Verb(Session):
    """A Session for one verb, which neither begins nor commits: the connection's owner does.

    Where the verb is ``alone``, a single statement, its failure leaves the transaction as it is.
    """

    def __init__(self, connection: Connection, origin: Origin, *, alone: bool) -> None:
        # Related objects that it loads by itself come from the same origin.
        token = {} if origin is None else {"identity_token": origin}
        super().__init__(
            connection,
            autoflush=False,
            expire_on_commit=False,
            join_transaction_mode="rollback_only",
            execution_options=token,
        )
        if alone:
            self.connection_callable = lambda *_, **__: connection
        self._bound_to = connection
        self._alone = alone
        self.undo = FlushUndo()

    def store(self) -> None:
        """Flush. A failure marks the transaction: nothing of it may be committed then."""
        try:
            # A rollback of this session, too, undoes the flush before the rest of the transaction.
            with undo_on_error(self._bound_to, self._restore):
                self.flush()
        except BaseException as error:
            if not self._alone:
                # Whatever the error was: the flush rolled the transaction back, or was interrupted
                # halfway.
                mark_aborted(self._bound_to, error)
            raise
        self.undo.leave_changes()
        try:
            self.undo.note(self._bound_to)
        except BaseException:
            self._restore(None)  # the connection was closed meanwhile: nothing is stored
            raise

    def _restore(self, error: BaseException | None) -> None:
        is_uncertain = self._alone and error is not None and not is_refusal(error)
        self.undo.restore(uncertain=is_uncertain)


@event.listens_for(_Verb, "after_flush")
def _look_at_changes(session: _Verb, flush: Any) -> None:
    session.undo.take_touched(flush.states)
    session.undo.take_meanwhile(session)


@event.listens_for(_Verb, "after_rollback")
def _let_go(session: Session) -> None:
    # Before the Session expires them: objects that could not be stored keep their values, so that
    # the user can correct and save them again.
    session.expunge_all()


def store(
    connection: Connection,
    origin: Origin,
    *,
    instance: T,
    alone: bool,
) -> T:
    """Store ``instance`` and its cascades. Return it with the values that the database filled in.

    New objects are inserted, changed ones are updated.
    """
    with _Verb(connection, origin, alone=alone) as session:
        session.add(instance)
        session.undo.take_all(session)
        stored = [(state.obj(), _columns(state.mapper)) for state in session.undo.new]
        # Columns that only() left out stay deferred.
        stored += [(state.obj(), list(state.dict)) for state in session.undo.dirty]
        session.store()
        was_complete = True
        for member, names in stored:
            was_complete = _complete(session, member, names) and was_complete
        if not was_complete:
            session.undo.note(connection)
    for member, _ in stored:
        set_origin(member, origin)
    return instance


def insert_fast(
    connection: Connection,
    origin: Origin,
    *,
    lock: StoreLock,
    plan: WritePlan[Any],
    row: dict[str, Any],
) -> Any:
    """Insert the object of ``lock`` and return it; see :meth:`StoringPlan.new_row`."""
    if not connection.dialect.insert_returning:
        lock.give_up()
        return store(connection, origin, instance=lock.instance, alone=True)
    plan.insert(connection, origin, lock=lock, row=row)
    return lock.instance


def update_fast(
    connection: Connection,
    origin: Origin,
    *,
    lock: StoreLock,
    plan: WritePlan[Any],
    changes: dict[str, Any],
) -> Any:
    """Update the object of ``lock`` and return it; see :meth:`StoringPlan.changes`."""
    if not connection.dialect.update_returning:
        lock.give_up()
        return store(connection, origin, instance=lock.instance, alone=True)
    if not plan.update(connection, origin, lock=lock, changes=changes):
        raise row_missing(lock.instance)
    return lock.instance


def delete_object(connection: Connection, origin: Origin, *, instance: Any) -> None:
    """Delete ``instance``, with the cascades of its relationships."""
    with _Verb(connection, origin, alone=False) as session:
        # Locked first: a row that refers to it may come in while its cascades are looked at.
        if session.execute(_its_row(instance).with_for_update()).first() is None:
            raise row_missing(instance)
        session.undo.take(instance_state(instance))
        session.add(instance)
        session.delete(instance)
        session.undo.take_all(session)
        session.store()
    _forget(instance)


def delete_fast(connection: Connection, _: Origin, *, instance: Any) -> None:
    """Delete ``instance`` by one statement, for a class whose deletes do not cascade."""
    table: Any = instance_state(instance).mapper.local_table
    statement = delete(table).where(_identity(instance))
    is_alone = not connection.in_transaction()
    try:
        answer = execute(connection, statement, None)
    except BaseException as error:
        if is_alone and not is_refusal(error):
            _forget(instance)  # the row may be gone, and its key may be given to another one
        raise
    if answer.rowcount == 0:
        raise row_missing(instance)
    log = None if answer.is_committed else undo_log_of(connection)
    if log is not None:
        state: Any = instance_state(instance)
        note_change(log.level, state, ObjectUndo(state, dict(state.committed_state)))
    _forget(instance)


def refresh(
    connection: Connection,
    origin: Origin,
    *,
    instance: Any,
    names: Sequence[str],
) -> None:
    """Reload ``names``, or every column, of ``instance``."""
    names = list(names) or [
        attribute.key
        for attribute in object_mapper(instance).column_attrs
        if not attribute.deferred or attribute.key in instance_dict(instance)
    ]
    before = Before(instance_state(instance))
    with undo_on_error(connection, lambda _: before.restore(instance_state(instance), {})):
        with _Verb(connection, origin, alone=False) as session:
            session.add(instance)
            try:
                session.refresh(instance, names)
            except InvalidRequestError as error:
                # SQLAlchemy raises it for a missing row, among other things.
                if session.execute(_its_row(instance)).first() is None:
                    raise row_missing(instance) from error
                raise
            _expire_outdated(session, instance)
            log, state = undo_log_of(connection), instance_state(instance)
            if log is not None:
                states = session.identity_map.all_states()
                others = [other for other in states if other is not state]
                note_states(log, others, log.level)
            note_refreshed(log, state, before, names)


def row_missing(instance: object) -> ObjectNotFound:
    """Return the error for an object whose row does not exist."""
    return ObjectNotFound(
        f"The row of this {type(instance).__name__}, or of an object related to it, does not exist "
        "any more: it was deleted, or its primary key was changed."
    )


def _columns(mapper: Mapper[Any]) -> list[str]:
    """Return the attributes that a complete object has loaded."""
    return [attribute.key for attribute in mapper.column_attrs if not attribute.deferred]


def _complete(session: Session, instance: Any, names: Sequence[str]) -> bool:
    """Load missing and outdated attributes. Return whether there were none."""
    mapper, state = object_mapper(instance), instance_state(instance)
    missing = state.unloaded.intersection(names) & set(mapper.column_attrs.keys())
    was_complete = not missing
    for key in missing - state.expired_attributes:
        # It was left out and has no default: a default of any kind is filled in, or has expired.
        if not has_own_idea_of_null(mapper.column_attrs[key].columns[0]):
            # SQLAlchemy would SELECT it to know. Not setattr: that would call validators, and mean
            # 'null' to a JSON column.
            set_committed_value(instance, key, None)
    missing &= state.unloaded
    if missing:
        session.refresh(instance, missing)
    return not _expire_outdated(session, instance) and was_complete


def _expire_outdated(session: Session, instance: Any) -> bool:
    # `post.user_id = 2` does not change a loaded `post.user`. Unload the
    # old one.
    outdated = stale_relations(instance)
    if outdated:
        session.expire(instance, outdated)
    return bool(outdated)


def _its_row(instance: Any) -> Select[Any]:
    return select(literal(1)).where(_identity(instance))


def _identity(instance: Any) -> ColumnElement[bool]:
    # Use the key that the object was loaded with: the user may have changed its attributes.
    state = instance_state(instance)
    columns, values = state.mapper.primary_key, state.identity or ()
    return and_(*(column == value for column, value in zip(columns, values, strict=True)))


def _forget(instance: Any) -> None:
    """Make the object transient, as if it had never been stored."""
    make_transient(instance)
    instance_state(instance).identity_token = None
