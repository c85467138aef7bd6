"""Which models take the fast path of reading, what it asks the database, and what it costs."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    ForeignKey,
    Integer,
    String,
    func,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Mapper,
    Session,
    aliased,
    backref,
    class_mapper,
    column_property,
    composite,
    deferred,
    mapped_column,
    query_expression,
    relationship,
    synonym,
)

from asgi_dbconn.orm.fast_path.hydration import LOADING_EVENTS
from asgi_dbconn.orm.fast_path.read_plans import ReadPlan, read_plan
from asgi_dbconn.orm.query import Query
from tests.orm.models_special import (
    Pair,
    declared,
    doubled,
    inherited,
    listening,
    many_related,
    mutable,
    related,
    remembered,
    thing,
    thing_with,
)

PLAIN: dict[str, Callable[[], type[Any]]] = {
    "a table": thing,
    "a lazy relation": lambda: related("select"),
    "a lazy relation, as True": lambda: related(True),
    "a relation that raises": lambda: related("raise"),
    "a relation that raises on SQL": lambda: related("raise_on_sql"),
    "a dynamic relation": lambda: many_related("dynamic"),
    "a write-only relation": lambda: many_related("write_only"),
    "a synonym": lambda: thing(lambda cls, c: {"title": synonym("name")}),
    "a column with active history": lambda: thing_with(mapped_column(Integer, active_history=True)),
    "other names": lambda: thing(lambda cls, c: {"label": c.name}, column_prefix="_"),
    "columns left out": lambda: thing(exclude_properties=["x", "y"]),
    "always refreshed": lambda: thing(always_refresh=True),
}
SESSION: dict[str, Callable[[], type[Any]]] = {
    "a joined relation": lambda: related("joined"),
    "a joined relation, as False": lambda: related(False),
    "a selectin relation": lambda: related("selectin"),
    "a subquery relation": lambda: many_related("subquery"),
    "an immediate relation": lambda: related("immediate"),
    "a deferred column": lambda: thing(lambda cls, c: {"name": deferred(c.name)}),
    "a deferred column that raises": lambda: thing(
        lambda cls, c: {"name": deferred(c.name, raiseload=True)}
    ),
    "a deferred group": lambda: thing_with(mapped_column(Integer, deferred_group="others")),
    "an expression": lambda: thing(lambda cls, c: {"sum": column_property(c.x + c.y)}),
    "a column of another name": lambda: thing(
        lambda cls, c: {"label": column_property(c.name.label("label"))},
        exclude_properties=["name"],
    ),
    "a subquery": lambda: thing(
        lambda cls, c: {"count": column_property(select(func.count(c.id)).scalar_subquery())}
    ),
    "an expression of the query's": lambda: thing(lambda cls, c: {"sum": query_expression()}),
    "a composite": lambda: thing(lambda cls, c: {"pair": composite(Pair, c.x, c.y)}),
    "two attributes of one column": doubled,
    "a reconstructor": remembered,
    "a mutable type": mutable,
    "an alias": lambda: thing(of=lambda table: table.alias()),
    "a select": lambda: thing(of=lambda table: select(table).subquery()),
    "a joined parent": lambda: inherited("children", "kind")[0],
    "a joined child": lambda: inherited("children", "kind")[1],
    "a parent of one table": lambda: inherited(None, "kind")[0],
    "a child of one table": lambda: inherited(None, "kind")[1],
    "a parent without discriminator": lambda: inherited("children", None)[0],
    "a concrete child": lambda: inherited("children", None, concrete=True)[1],
}


@pytest.mark.parametrize("kind", PLAIN)
def test_a_table_of_plain_columns_needs_no_session(kind: str) -> None:
    mapper = class_mapper(PLAIN[kind]())
    plan = read_plan(mapper)
    assert plan is not None
    assert read_plan(mapper) is plan
    assert {column.name for column in plan.columns} == {
        column.name for attribute in mapper.column_attrs for column in attribute.columns
    }


@pytest.mark.filterwarnings("ignore:.*is being .* implicitly combined:sqlalchemy.exc.SAWarning")
@pytest.mark.parametrize("kind", SESSION)
def test_what_loads_more_takes_the_session(kind: str) -> None:
    mapper = class_mapper(SESSION[kind]())
    assert read_plan(mapper) is None
    assert read_plan(mapper) is None  # nor when asked again


LISTENED_TO: dict[str, Callable[[type[Any]], Any]] = {
    "the class": lambda cls: cls,
    "the mapper": class_mapper,
    "all mappers": lambda cls: Mapper,
}


@pytest.mark.parametrize("target", LISTENED_TO)
def test_listeners_are_noticed_when_they_come_and_when_they_go(target: str) -> None:
    cls = thing()
    mapper = class_mapper(cls)
    plan = read_plan(mapper)
    with listening(LISTENED_TO[target](cls), "load"):
        assert read_plan(mapper) is None
    assert read_plan(mapper) is plan is not None


def test_listeners_of_a_base_are_noticed() -> None:
    class Base(DeclarativeBase):
        pass

    with listening(Base, "load", propagate=True):

        class Thing(Base):
            __tablename__ = "things"
            id: Mapped[int] = mapped_column(primary_key=True)

        assert read_plan(class_mapper(Thing)) is None


@pytest.mark.parametrize("name", LOADING_EVENTS)
def test_listeners_of_all_sessions_are_noticed(name: str) -> None:
    mapper = class_mapper(thing())
    with listening(Session, name):
        assert read_plan(mapper) is None
    assert read_plan(mapper) is not None


def test_listeners_of_other_sessions_and_of_other_events_change_nothing() -> None:
    class Other(Session):
        pass

    mapper = class_mapper(thing())
    with listening(Other, "do_orm_execute"), listening(Session, "before_flush"):
        assert read_plan(mapper) is not None


def test_properties_that_are_added_are_noticed() -> None:
    _, Thing = declared()
    mapper = class_mapper(Thing)
    assert read_plan(mapper) is not None
    Thing.name = mapped_column(String)
    wider = read_plan(mapper)
    assert wider is not None
    assert [column.name for column in wider.columns] == ["id", "name"]
    Thing.loud = column_property(func.upper(Thing.__table__.c.name))
    assert read_plan(mapper) is None


def test_a_relation_that_is_added_from_the_other_side_is_noticed() -> None:
    Base, Thing = declared()
    assert read_plan(class_mapper(Thing)) is not None

    class Part(Base):  # type: ignore[misc, valid-type]
        __tablename__ = "parts"
        id: Mapped[int] = mapped_column(primary_key=True)
        thing_id: Mapped[int] = mapped_column(ForeignKey("things.id"))
        thing = relationship(Thing, backref=backref("parts", lazy="selectin"))

    assert read_plan(class_mapper(Thing)) is None
    assert read_plan(class_mapper(Part)) is not None


def test_a_subclass_that_is_added_is_noticed() -> None:
    _, Thing = declared()
    assert read_plan(class_mapper(Thing)) is not None

    class Part(Thing):  # type: ignore[misc, valid-type]
        pass

    assert read_plan(class_mapper(Thing)) is None
    assert read_plan(class_mapper(Part)) is None


def test_a_plan_keeps_no_class_alive() -> None:
    cls = thing()
    assert read_plan(class_mapper(cls)) is not None
    mapped = weakref.ref(cls)
    del cls
    gc.collect()
    assert mapped() is None


def test_an_object_by_its_key_is_always_the_same_statement() -> None:
    plan = plan_for(seat())
    first, parameters = plan.by_key((1, "a"))
    again, others = plan.by_key((2, "b"))
    assert again is first
    # In the order of the table's key, whatever the order of the attributes.
    assert [list(mapping.values()) for mapping in (parameters, others)] == [[1, "a"], [2, "b"]]
    assert "seats.number = 1 AND seats.row = 'a'" in in_full(first.params(parameters))
    with pytest.raises(ValueError, match="zip"):
        plan.by_key((1,))


def seat() -> type[Any]:
    class Base(DeclarativeBase):
        pass

    class Seat(Base):
        __tablename__ = "seats"
        number: Mapped[int] = mapped_column(primary_key=True)
        row: Mapped[str] = mapped_column(primary_key=True)
        name: Mapped[str | None]
        owner_id: Mapped[int | None] = mapped_column(ForeignKey("owners.id"))
        owner: Mapped[Owner | None] = relationship(back_populates="seats")

        @hybrid_property
        def place(self) -> str:
            return self.row + "!"

    class Owner(Base):
        __tablename__ = "owners"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        seats: Mapped[list[Seat]] = relationship(back_populates="owner")

    return Seat


# With the class: its owners, and another name for itself.
CONDITIONS: dict[str, Callable[[Any], tuple[list[Any], list[Any]]]] = {
    "nothing": lambda seat: ([], []),
    "a column": lambda seat: ([seat.name == "x"], [seat.name]),
    "several": lambda seat: ([seat.name == "x", seat.number > 3], [seat.name.desc(), seat.row]),
    "a column of the table": lambda seat: ([seat.__table__.c.name == "x"], []),
    "a hybrid": lambda seat: ([seat.place.contains("x")], [seat.place]),
    "a list": lambda seat: ([seat.name.in_(["x", "y"])], []),
    "a relation's existence": lambda seat: ([seat.owner.has(name="x")], []),
    "a relation of a relation": lambda seat: (
        [seat.owner.has(owner_of(seat).seats.any(seat.number == 1))],
        [],
    ),
    "an object of a relation": lambda seat: ([seat.owner == owner_of(seat)(id=5)], []),
    "a subquery of itself": lambda seat: (
        [seat.number == select(func.max(seat.number)).scalar_subquery()],
        [],
    ),
    "a correlated subquery": lambda seat: (
        [exists_a_better(seat, aliased(seat))],
        [],
    ),
    "another table": lambda seat: ([owner_of(seat).id == seat.owner_id], [owner_of(seat).name]),
}


@pytest.mark.parametrize("what", CONDITIONS)
def test_conditions_mean_what_they_mean_to_the_session(what: str) -> None:
    cls = seat()
    where, order = CONDITIONS[what](cls)
    description = Query(cls, tuple(where), tuple(order), limit=3, offset=4)
    plainly = description.apply_to(plan_for(cls).selection)
    expected = select(cls).where(*where).order_by(*order).limit(3).offset(4)
    assert in_full(plainly) == in_full(expected)


def owner_of(seat: Any) -> Any:
    return class_mapper(seat).relationships["owner"].mapper.class_


def exists_a_better(seat: Any, other: Any) -> Any:
    return select(other.number).where(other.number < seat.number, other.row == seat.row).exists()


def plan_for(cls: type[Any]) -> ReadPlan[Any]:
    plan = read_plan(class_mapper(cls))
    assert plan is not None
    return plan


def in_full(statement: Any) -> str:
    literally = {"literal_binds": True}
    dialect = postgresql.asyncpg.dialect()  # type: ignore[no-untyped-call]
    return str(statement.compile(dialect=dialect, compile_kwargs=literally))
