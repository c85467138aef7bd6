"""Which objects are stored without a Session, and which are left to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    MetaData,
    Sequence,
    Table,
    func,
    insert_sentinel,
    literal,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Mapper,
    Session,
    class_mapper,
    column_property,
    composite,
    deferred,
    mapped_column,
    registry,
    relationship,
    synonym,
)
from sqlalchemy.orm.attributes import instance_state, set_committed_value

from asgi_dbconn.orm.fast_path.hydration import STORING_EVENTS
from asgi_dbconn.orm.fast_path.write_plans import WritePlan, write_plan
from tests.orm.models_special import (
    Pair,
    doubled,
    inherited,
    listening,
    mutable,
    related,
    remembered,
    thing,
)
from tests.orm.models_stored import Base, Child, Defaulted, Parent, Seat


def versioned(generator: Any = None) -> type[Any]:
    class Base(DeclarativeBase):
        pass

    class Thing(Base):
        __tablename__ = "things"
        id: Mapped[int] = mapped_column(primary_key=True)
        version: Mapped[int] = mapped_column()
        __mapper_args__ = {"version_id_col": version}
        if generator is not None:
            __mapper_args__ |= {"version_id_generator": generator}

    return Thing


def of_table(*columns: Column[Any], primary_key: str = "", **arguments: Any) -> type[Any]:
    """A class mapped to a table of these columns, made with these arguments."""
    table = Table("things", MetaData(), *columns, **arguments)
    cls = type("Thing", (), {})
    key = {"primary_key": [table.c[primary_key]]} if primary_key else {}
    registry().map_imperatively(cls, table, **key)
    return cls


def key(*arguments: Any, **options: Any) -> Column[Any]:
    return Column("id", Integer, *arguments, primary_key=True, **options)


PLAIN: dict[str, Callable[[], type[Any]]] = {
    "a table": thing,
    "a lazy relation": lambda: related("select"),
    "a joined relation": lambda: related("joined"),
    "a synonym": lambda: thing(lambda cls, c: {"title": synonym("name")}),
    "a reconstructor": remembered,
    "columns left out": lambda: thing(exclude_properties=["x", "y"]),
    "a key of a sequence": lambda: of_table(key(Sequence("numbers"))),
    "a sentinel": lambda: of_table(key(), insert_sentinel("s")),
}
SESSION: dict[str, Callable[[], type[Any]]] = {
    "a deferred column": lambda: thing(lambda cls, c: {"name": deferred(c.name)}),
    "an expression": lambda: thing(lambda cls, c: {"sum": column_property(c.x + c.y)}),
    "a composite": lambda: thing(lambda cls, c: {"pair": composite(Pair, c.x, c.y)}),
    "two attributes of one column": doubled,
    "a mutable type": mutable,
    "an alias": lambda: thing(of=lambda table: table.alias()),
    "a joined child": lambda: inherited("children", "kind")[1],
    "a child of one table": lambda: inherited(None, "kind")[1],
    "a version": versioned,
    "a version of the database's": lambda: versioned(generator=False),
    "defaults that are always asked for": lambda: thing(eager_defaults=True),
    "defaults that are never asked for": lambda: thing(eager_defaults=False),
    "no RETURNING": lambda: of_table(key(), implicit_returning=False),
    "a sequence beside the key": lambda: of_table(key(), Column("x", Integer, Sequence("s"))),
    "a key of SQL": lambda: of_table(key(default=func.length("four"))),
    "a key that changes itself": lambda: of_table(key(onupdate=1)),
    "a change of a sequence": lambda: of_table(key(), Column("x", Integer, onupdate=Sequence("s"))),
    "a key that the table does not know": lambda: of_table(
        Column("code", Integer), primary_key="code"
    ),
}


def plan_for(cls: type[Any], *, is_new: bool = True) -> WritePlan[Any] | None:
    return write_plan(cls(), is_new=is_new)


@pytest.mark.parametrize("kind", PLAIN)
def test_a_row_of_a_table_needs_no_session(kind: str) -> None:
    cls = PLAIN[kind]()
    assert plan_for(cls) is plan_for(cls, is_new=False) is not None


@pytest.mark.filterwarnings("ignore:.*is being .* implicitly combined:sqlalchemy.exc.SAWarning")
@pytest.mark.parametrize("kind", SESSION)
def test_what_takes_more_is_left_to_the_session(kind: str) -> None:
    cls = SESSION[kind]()
    assert plan_for(cls) is plan_for(cls, is_new=False) is None


class Home(Base):
    __tablename__ = "homes"
    id: Mapped[int] = mapped_column(primary_key=True)
    rooms: Mapped[list[Room]] = relationship(cascade="all, delete-orphan")


class Room(Base):
    __tablename__ = "rooms"
    id: Mapped[int] = mapped_column(primary_key=True)
    home_id: Mapped[int | None] = mapped_column(ForeignKey(Home.id))


def turned_out() -> Room:
    room = Room()
    home = Home(rooms=[room])
    home.rooms.remove(room)
    return room


def written() -> Parent:
    parent = Parent()
    parent.written.add(Child())
    return parent


NEW_BY_SESSION: dict[str, Callable[[], Any]] = {
    "a related object": lambda: Child(parent=Parent()),
    "no related object, said so": lambda: Child(parent=None),
    "a collection": lambda: Parent(children=[Child()]),
    "a collection that is never loaded": written,
    "an expression": lambda: Seat(number=1, row=literal("a")),
    "an attribute that is an expression": lambda: Seat(number=1, row=Seat.name),
    "a missing key": lambda: Seat(number=1),
    "an orphan": turned_out,
}


@pytest.mark.parametrize("kind", NEW_BY_SESSION)
def test_new_objects_on_which_more_hangs_are_left_to_the_session(kind: str) -> None:
    instance = NEW_BY_SESSION[kind]()
    plan = write_plan(instance, is_new=True)
    assert plan is not None
    assert plan.new_row(instance) is None


def loaded(cls: type[Any], *left_out: str, **values: Any) -> Any:
    """An instance as if it had been loaded with these values."""
    instance = cls(**values)
    for name in set(class_mapper(cls).column_attrs.keys()) - set(left_out):
        set_committed_value(instance, name, values.get(name))
    instance_state(instance).committed_state.clear()
    return instance


CHANGED_BY_SESSION: dict[str, Callable[[], Any]] = {
    "nothing": lambda: loaded(Seat, number=1, row="a"),
    "the same value": lambda: changed(loaded(Seat, number=1, row="a"), name=None),
    "the key": lambda: changed(loaded(Seat, number=1, row="a"), row="b"),
    "an expression": lambda: changed(loaded(Seat, number=1, row="a"), name=literal("x")),
    "a related object": lambda: changed(loaded(Child, id=1), parent=Parent()),
    "a related object that is loaded": lambda: changed(
        loaded(Child, id=1, parent=Parent(id=5)), parent_id=6
    ),
    "a key that was left out": lambda: changed(loaded(Seat, "number", row="a"), name="x"),
    "what the database fills in and was left out": lambda: changed(
        loaded(Defaulted, "measured", id=1), name="x"
    ),
    "a deleted value": lambda: without(loaded(Seat, number=1, row="a", name="x"), "name"),
}


def changed(instance: Any, **values: Any) -> Any:
    for name, value in values.items():
        setattr(instance, name, value)
    return instance


def without(instance: Any, name: str) -> Any:
    delattr(instance, name)
    return instance


@pytest.mark.parametrize("kind", CHANGED_BY_SESSION)
def test_changes_of_more_than_a_row_are_left_to_the_session(kind: str) -> None:
    instance = CHANGED_BY_SESSION[kind]()
    plan = write_plan(instance, is_new=False)
    assert plan is not None
    assert plan.changes(instance) is None


OF_NEW = {"before_insert", "after_insert"}
OF_CHANGED = {"before_update", "after_update"}
OF_OBJECTS = {"refresh_flush", "refresh", "expire"}


@pytest.mark.parametrize("name", STORING_EVENTS)
def test_listeners_of_all_sessions_are_noticed(name: str) -> None:
    cls = thing()
    with listening(Session, name):
        assert plan_for(cls) is plan_for(cls, is_new=False) is None
    assert plan_for(cls) is not None


@pytest.mark.parametrize("name", sorted(OF_NEW | OF_CHANGED | OF_OBJECTS))
@pytest.mark.parametrize("target", ["the class", "all classes"])
def test_listeners_of_a_class_are_noticed(name: str, target: str) -> None:
    cls = thing()
    with listening(cls if target == "the class" else Mapper, name):
        assert (plan_for(cls) is None) == (name not in OF_CHANGED)
        assert (plan_for(cls, is_new=False) is None) == (name not in OF_NEW)
    assert plan_for(cls) is plan_for(cls, is_new=False) is not None
