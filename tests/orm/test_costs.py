"""What the verbs of everyday cost in function calls, so that nobody makes them dearer unnoticed."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import pytest
from sqlalchemy import Connection, String, create_engine, insert, select
from sqlalchemy.orm import Session, class_mapper, mapped_column
from sqlalchemy.pool import StaticPool

from asgi_dbconn import Registry
from asgi_dbconn.orm.fast_path.read_plans import read_plan
from tests.models import Cast, make_cast
from tests.orm.counting import calls, calls_of_ours
from tests.orm.models_special import thing, thing_with

numbers = itertools.count(1)
ROWS = 50


def changed(instance: Any) -> Any:
    instance.age = next(numbers)
    return instance


# Counted, and rounded up: SQLAlchemy's included, so that a release which makes one dearer is
# noticed. Python 3.12 and later have fewer.
COSTS: Final[dict[str, tuple[Callable[[Cast, Any], Awaitable[Any]], int]]] = {
    "get": (lambda cast, _: cast.User.query.get(1), 167),
    "get by a name": (lambda cast, _: cast.User.query.get(id=1), 189),
    "first": (lambda cast, _: cast.User.query.filter(id=1).first(), 206),
    "a page": (lambda cast, _: cast.User.query.order_by("id").limit(ROWS), 286),
    "values_list": (lambda cast, _: cast.User.query.filter(id=1).values_list("name"), 207),
    "count": (lambda cast, _: cast.User.query.count(), 152),
    "exists": (lambda cast, _: cast.User.query.filter(id=1).exists(), 168),
    "create": (lambda cast, _: cast.User.query.create(name=str(next(numbers)), age=1), 197),
    "save, new": (lambda cast, _: cast.User(name=str(next(numbers)), age=1).save(), 199),
    "save, changed": (lambda cast, user: changed(user).save(), 181),
    "update": (lambda cast, _: cast.User.query.filter(id=1).update(age=next(numbers)), 188),
    "delete": (lambda cast, _: cast.User.query.filter(id=0).delete(), 184),
}


@pytest.mark.postgres
@pytest.mark.parametrize("verb", COSTS)
async def test_what_a_verb_costs_in_calls(postgres_url: str, verb: str) -> None:
    cast = make_cast(Registry(postgres_url, pool_size=1))
    run, at_most = COSTS[verb]
    async with cast.models:
        await cast.models.create_all()
        await cast.User.query.bulk_create([{"name": f"user {number}"} for number in range(ROWS)])
        user = await cast.User.query.get(1)
        assert await calls_of_ours(lambda: run(cast, user)) <= at_most


# Python functions, SQLAlchemy's own included, so that a release which makes a read dearer is
# noticed. Python 3.12 and later have fewer.
CALLS_OF_A_GET = 60
CALLS_FOR_EACH_ROW = 3  # new_instance(), and what that calls


def test_what_a_read_costs_in_calls() -> None:
    cls = thing_with(mapped_column("name", String))
    mapper = class_mapper(cls)
    engine = create_engine("sqlite://", poolclass=StaticPool)
    rows = 50

    def get(connection: Connection) -> list[Any]:
        plan = read_plan(mapper)
        assert plan is not None
        statement, parameters = plan.by_key((5,))
        return plan.load(connection, statement, parameters, None)

    def all_rows(connection: Connection) -> list[Any]:
        plan = read_plan(mapper)
        assert plan is not None
        return plan.load(connection, plan.selection, None, None)

    def through_a_session(connection: Connection) -> list[Any]:
        with Session(connection) as session:
            return list(session.scalars(select(cls).where(cls.id == 5)))

    with engine.connect() as connection:
        cls.metadata.create_all(connection)
        connection.execute(insert(cls), [{"other": "x"}] * rows)
        reads = (get, all_rows, through_a_session)
        costs = [calls(partial(read, connection)) for read in reads]
    engine.dispose()

    of_get, of_all, of_session = costs
    assert of_get <= CALLS_OF_A_GET
    assert of_all <= CALLS_OF_A_GET + CALLS_FOR_EACH_ROW * rows
    assert of_get * 3 < of_session


def test_asking_for_the_plan_costs_next_to_nothing() -> None:
    mapper = class_mapper(thing())
    read_plan(mapper)
    assert calls(lambda: read_plan(mapper)) <= 4
