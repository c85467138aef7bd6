"""FastAPI: what an endpoint may return, pages, and a transaction for each request."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Query, Response
from fastapi.exceptions import ResponseValidationError
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from sqlalchemy import ForeignKey
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from asgi_dbconn import Queryable, QuerySet, Registry
from tests.models import Cast, make_cast
from tests.tenants.http import client


@asynccontextmanager
async def people(url: str, number: int = 1) -> AsyncIterator[Cast]:
    cast = make_cast(Registry(url))
    async with cast.models:
        await cast.models.create_all()
        for index in range(number):
            await cast.User.query.create(
                name=f"user {index}", posts=[cast.Post(title=f"post {index}")]
            )
        yield cast


class PostOut(BaseModel):
    title: str


class UserOut(BaseModel):
    id: int
    name: str


class UserWithPosts(UserOut):
    posts: list[PostOut]


# -- answers


async def test_detached_objects_are_answers(database_url: str) -> None:
    async with people(database_url) as cast:
        api = FastAPI()

        @api.get("/users", response_model=list[UserOut])
        async def users() -> Any:
            return await cast.User.query

        @api.get("/users/{key}", response_model=UserWithPosts)
        async def user(key: int) -> Any:
            return await cast.User.query.prefetch_related("posts").get(key)

        async with client(api) as http:
            assert (await http.get("/users")).json() == [{"id": 1, "name": "user 0"}]
            assert (await http.get("/users/1")).json() == {
                "id": 1,
                "name": "user 0",
                "posts": [{"title": "post 0"}],
            }


async def test_a_relation_that_was_not_loaded_is_a_clear_error(database_url: str) -> None:
    async with people(database_url) as cast:
        api = FastAPI()

        @api.get("/users", response_model=list[UserWithPosts])
        async def users() -> Any:
            return await cast.User.query

        async with client(api, raising=False) as http:
            assert (await http.get("/users")).status_code == 500
        async with client(api) as http:
            with pytest.raises(ResponseValidationError) as caught:
                await http.get("/users")
        (error,) = caught.value.errors()
        assert error["loc"] == ("response", 0, "posts")
        assert "'posts' cannot proceed" in error["msg"]
        assert cast.models.database.stats().in_use == 0


# -- pages


class Page(BaseModel):
    items: list[UserOut]
    total: int


class Paging:
    def __init__(
        self,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        offset: Annotated[int, Query(ge=0)] = 0,
    ) -> None:
        self.limit = limit
        self.offset = offset

    async def page(self, query: QuerySet[Any]) -> dict[str, Any]:
        items = await query.limit(self.limit).offset(self.offset)
        return {"items": items, "total": await query.count()}


async def test_pages_are_a_small_dependency(database_url: str) -> None:
    async with people(database_url, 5) as cast:
        api = FastAPI()

        @api.get("/users", response_model=Page)
        async def users(paging: Annotated[Paging, Depends()]) -> Any:
            return await paging.page(cast.User.query.order_by("id"))

        async with client(api) as http:
            page = (await http.get("/users?limit=2&offset=3")).json()
            assert [order["id"] for order in page["items"]] == [4, 5]
            assert page["total"] == 5
            assert (await http.get("/users?limit=2&offset=9")).json() == {"items": [], "total": 5}
            assert (await http.get("/users?limit=0")).status_code == 422


# -- a transaction for each request


class Accounts:
    """Entries that refer to their account, which PostgreSQL checks at COMMIT only."""

    def __init__(self, models: Registry) -> None:
        class Base(Queryable, DeclarativeBase, registry=models):
            pass

        class Account(Base):
            __tablename__ = "accounts"
            id: Mapped[int] = mapped_column(primary_key=True)

        class Entry(Base):
            __tablename__ = "entries"
            id: Mapped[int] = mapped_column(primary_key=True)
            account: Mapped[int] = mapped_column(
                ForeignKey("accounts.id", deferrable=True, initially="DEFERRED")
            )

        self.models = models
        self.Entry: Any = Entry
        self.Account: Any = Account


def in_transaction(accounts: Accounts, **when: Any) -> FastAPI:
    async def transaction() -> AsyncIterator[None]:
        async with accounts.models.transaction():
            yield

    api = FastAPI()

    @api.post("/entries", status_code=201, dependencies=[Depends(transaction, **when)])
    async def enter(account: int, answer: int = 201) -> Response:
        await accounts.Entry.query.create(account=account)
        if answer >= 400:
            raise HTTPException(answer)
        return Response(status_code=answer)

    return api


async def test_a_commit_that_fails_is_no_success(database_url: str) -> None:
    """``scope="function"``: the dependency ends before the response begins."""
    accounts = Accounts(Registry(database_url))
    async with accounts.models as models:
        await models.create_all()
        await accounts.Account.query.create(id=1)
        api = in_transaction(accounts, scope="function")

        async with client(api, raising=False) as http:
            assert (await http.post("/entries?account=1")).status_code == 201
            assert (await http.post("/entries?account=2")).status_code == 500
        async with client(api) as http:
            with pytest.raises(IntegrityError):
                await http.post("/entries?account=2")

        assert await accounts.Entry.query.values_list("account", flat=True) == [1]
        assert models.database.stats().in_use == 0


async def test_why_the_scope_of_the_dependency_matters(database_url: str) -> None:
    """By default FastAPI ends it after the response: the client was told of a success."""
    accounts = Accounts(Registry(database_url))
    async with accounts.models as models:
        await models.create_all()
        async with client(in_transaction(accounts), raising=False) as http:
            assert (await http.post("/entries?account=2")).status_code == 201
        assert await accounts.Entry.query.count() == 0


async def test_an_endpoint_that_raises_rolls_back(database_url: str) -> None:
    accounts = Accounts(Registry(database_url))
    async with accounts.models as models:
        await models.create_all()
        await accounts.Account.query.create(id=1)
        async with client(in_transaction(accounts, scope="function")) as http:
            assert (await http.post("/entries?account=1&answer=409")).status_code == 409
            assert await accounts.Entry.query.count() == 0
            assert (await http.post("/entries?account=1&answer=204")).status_code == 204
        assert await accounts.Entry.query.count() == 1


async def test_what_comes_after_the_transaction_is_committed_by_itself(database_url: str) -> None:
    async with people(database_url) as cast:
        api = FastAPI()

        async def transaction() -> AsyncIterator[None]:
            async with cast.models.transaction():
                yield

        async def later() -> None:
            await cast.User.query.create(name="by the background task")

        @api.get("/users", dependencies=[Depends(transaction, scope="function")])
        async def users(tasks: BackgroundTasks) -> StreamingResponse:
            tasks.add_task(later)
            await cast.User.query.create(name="by the endpoint")

            async def lines() -> AsyncIterator[str]:
                async with cast.User.query.order_by("id").stream(1) as users:
                    async for user in users:
                        yield f"{user.name}\n"

            return StreamingResponse(lines(), background=tasks)

        async with client(api) as http:
            assert (await http.get("/users")).text == "user 0\nby the endpoint\n"
        assert await cast.User.query.count() == 3
        assert cast.models.database.stats().in_use == 0
