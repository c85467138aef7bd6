"""What fails on the direct way fails just as on the usual one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import (
    Executable,
    Float,
    Integer,
    String,
    TypeDecorator,
    bindparam,
    func,
    select,
    text,
)
from sqlalchemy.engine import Connection
from sqlalchemy.exc import NoResultFound, StatementError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from asgi_dbconn import ConnectionLost, Database, Queryable, QueryTimeout, Registry
from asgi_dbconn.orm.fast_path.execution import execute
from tests.models import make_cast
from tests.support.leftovers import wait_until_async
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.postgres

SLEEP = select(func.pg_sleep(bindparam("seconds", type_=Float)))


class Careful(TypeDecorator[str]):
    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        if value == "refused":
            raise ValueError(value)
        return value


RATIO = select(10 / bindparam("by", type_=Integer))
LENGTH = select(func.length(bindparam("name", type_=Careful)))

# A statement, parameters that work, and some that do not.
FAILING: dict[str, tuple[Executable, dict[str, Any], dict[str, Any]]] = {
    "on the server": (RATIO, {"by": 5}, {"by": 0}),
    "in the driver": (RATIO, {"by": 5}, {"by": 2**40}),
    "of a wrong type": (RATIO, {"by": 5}, {"by": "five"}),
    "in a type": (LENGTH, {"name": "ada"}, {"name": "refused"}),
}


def anatomy(error: BaseException) -> dict[str, Any]:
    names = ("statement", "params", "hide_parameters", "ismulti", "connection_invalidated", "code")
    return {
        "type": type(error),
        "text": str(error),
        "cause": type(error.__cause__),
        **{name: getattr(error, name, None) for name in names},
    }


async def backend_of(database: Database) -> object:
    async with database.connection() as connection:
        return await connection.scalar(text("SELECT pg_backend_pid()"))


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("failing", FAILING)
async def test_errors_are_the_same(postgres_url: str, failing: str, hidden: bool) -> None:
    statement, good, bad = FAILING[failing]
    options = {"hide_parameters": hidden}

    def directly(connection: Connection) -> None:
        execute(connection, statement, bad)

    def usually(connection: Connection) -> None:
        connection.execute(statement, bad)

    async with Database(postgres_url, pool_size=1, engine_options=options) as database:
        await database.run(lambda connection: execute(connection, statement, good), autocommit=True)
        backend = await backend_of(database)
        found, ways = [], []
        for work in (directly, usually):
            with pytest.raises(StatementError) as caught:
                await database.run(work, autocommit=True)
            found.append(anatomy(caught.value))
            ways.append("_execute_clauseelement" in [entry.name for entry in caught.traceback])
            assert await backend_of(database) == backend

    assert ways == [False, True]
    assert found[0] == found[1]


def sleep(connection: Connection, parameters: Mapping[str, Any]) -> None:
    execute(connection, SLEEP, parameters)


async def slept(database: Database, seconds: float) -> None:
    await database.run(lambda connection: sleep(connection, {"seconds": seconds}), autocommit=True)


async def is_asleep(postgres: PostgresServer) -> None:
    await wait_until_async(
        lambda: any(
            "pg_sleep" in session.query and session.state == "active"
            for session in postgres.sessions()
        ),
        5,
    )


async def test_a_cancelled_statement_ends(postgres: PostgresServer, postgres_url: str) -> None:
    async with Database(postgres_url, pool_size=1) as database:
        await slept(database, 0)
        task = asyncio.create_task(slept(database, 60))
        await is_asleep(postgres)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        await database.ping()
        await slept(database, 0)


async def test_a_statement_that_takes_too_long_ends(postgres_url: str) -> None:
    async with Database(postgres_url, pool_size=1, query_timeout=0.3) as database:
        await slept(database, 0)
        with pytest.raises(QueryTimeout, match="query_timeout"):
            await slept(database, 60)
        await slept(database, 0)


async def test_a_lost_connection_says_so(postgres: PostgresServer, postgres_url: str) -> None:
    async with Database(postgres_url, pool_size=1) as database:
        await slept(database, 0)
        task = asyncio.create_task(slept(database, 60))
        await is_asleep(postgres)
        postgres.terminate_sessions(database=postgres_url.rpartition("/")[2])
        with pytest.raises(ConnectionLost, match="not known") as caught:
            await task
        assert isinstance(caught.value.__cause__, Exception)
        await slept(database, 0)


async def test_a_table_that_another_session_altered_is_read_anew(
    postgres: PostgresServer, postgres_url: str
) -> None:
    cast = make_cast(Registry(postgres_url, pool_size=1))
    async with cast.models:
        await cast.models.create_all()
        await cast.User.query.create(name="ada", age=3)
        for _ in range(2):
            await cast.User.query.get(1)
        postgres.execute(
            "ALTER TABLE users ALTER COLUMN age TYPE bigint",
            database=postgres_url.rpartition("/")[2],
        )
        assert (await cast.User.query.get(1)).age == 3
        await cast.User.query.filter(id=1).update(age=2**30)
        assert (await cast.User.query.get(1)).age == 2**30
        assert (await cast.User.query.create(name="bob")).name == "bob"


async def test_a_row_that_the_database_did_not_store_is_missed(postgres_url: str) -> None:
    models = Registry(postgres_url, pool_size=1)

    class Base(Queryable, DeclarativeBase, registry=models):
        pass

    class Thing(Base):
        __tablename__ = "things"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    def refuse_bob(connection: Connection) -> None:
        connection.execute(
            text(
                "CREATE FUNCTION refuse_bob() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                "IF NEW.name = 'bob' THEN RETURN NULL; END IF; RETURN NEW; END $$"
            )
        )
        connection.execute(
            text(
                "CREATE TRIGGER refuse_bob BEFORE INSERT ON things "
                "FOR EACH ROW EXECUTE FUNCTION refuse_bob()"
            )
        )

    async with models:
        await models.create_all()
        await models.database.run(refuse_bob, autocommit=False)
        for _ in range(2):
            with pytest.raises(NoResultFound):
                await Thing.query.create(name="bob")
            assert (await Thing.query.create(name="ada")).name == "ada"
        assert await Thing.query.count() == 2
