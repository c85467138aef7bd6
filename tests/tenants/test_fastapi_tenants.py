"""FastAPI: a tenant for each request, by a header."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Header, HTTPException, Response
from starlette.datastructures import Headers

from asgi_dbconn import ConfigurationError, Registry, run_sync
from asgi_dbconn.testing import LifespanDriver
from tests.support.postgres import PostgresServer
from tests.tenants.http import client
from tests.tenants.models import Letting, build_each, letting, rows


class TenantMiddleware:
    """Pure ASGI: the whole request is in the schema, its background tasks included."""

    def __init__(self, app: Any, models: Registry, tenants: set[str]) -> None:
        self.app = app
        self.models = models
        self.tenants = tenants

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        tenant = Headers(scope=scope).get("x-tenant", "")
        if tenant not in self.tenants:
            await Response("No such tenant.", 404)(scope, receive, send)
            return
        with self.models.with_schema(tenant):
            await self.app(scope, receive, send)


def houses(made: Letting, **options: Any) -> FastAPI:
    api = FastAPI(**options)

    async def build_later(name: str) -> None:
        await made.House.query.create(tenant=made.models.current_schema(), name=name)

    @api.get("/houses")
    async def names() -> list[str]:
        return [house.name for house in await made.House.query]

    @api.get("/in-a-thread")
    def in_a_thread() -> list[str]:
        return [house.name for house in run_sync(made.House.query.all())]

    @api.post("/houses")
    async def later(name: str, tasks: BackgroundTasks) -> None:
        tasks.add_task(build_later, name)

    return api


@pytest.mark.postgres
async def test_a_middleware_chooses_the_tenant(postgres: PostgresServer, postgres_url: str) -> None:
    async with letting(postgres_url, "a", "b") as made:
        await build_each(made, "a", "b")
        api = houses(made)
        api.add_middleware(TenantMiddleware, models=made.models, tenants={"a", "b"})
        driver = LifespanDriver(made.models.asgi(api))

        async with driver, client(driver.app) as http:
            for tenant in ("a", "b"):
                headers = {"x-tenant": tenant}
                for path in ("/houses", "/in-a-thread"):
                    assert (await http.get(path, headers=headers)).json() == [f"of {tenant}"]
                await http.post("/houses?name=later", headers=headers)
            for headers in ({}, {"x-tenant": "public"}, {"x-tenant": 'a"; DROP SCHEMA a'}):
                assert (await http.get("/houses", headers=headers)).status_code == 404
    assert rows(postgres, postgres_url, "a") == ["later", "of a"]
    assert rows(postgres, postgres_url, "b") == ["later", "of b"]
    assert rows(postgres, postgres_url, "public") == []


@pytest.mark.postgres
async def test_a_dependency_chooses_the_tenant(postgres_url: str) -> None:
    async with letting(postgres_url, "a", "b") as made:
        await build_each(made, "a", "b")

        async def tenant(x_tenant: Annotated[str, Header()]) -> AsyncIterator[None]:
            if x_tenant not in {"a", "b"}:
                raise HTTPException(404)
            with made.models.with_schema(x_tenant):
                yield

        async with client(houses(made, dependencies=[Depends(tenant)])) as http:
            for name in ("a", "b"):
                for path in ("/houses", "/in-a-thread"):
                    answer = await http.get(path, headers={"x-tenant": name})
                    assert answer.json() == [f"of {name}"]
            assert (await http.get("/houses", headers={"x-tenant": "c"})).status_code == 404
        assert made.models.current_schema() is None


@pytest.mark.postgres
async def test_a_synchronous_dependency_is_refused(postgres_url: str) -> None:
    """FastAPI runs it in a thread, whose context variables nobody else sees."""
    async with letting(postgres_url, "a") as made:

        def tenant() -> Any:
            with made.models.with_schema("a"):
                yield

        api = houses(made, dependencies=[Depends(tenant, scope="function")])
        async with client(api) as http:
            with pytest.raises(ConfigurationError, match="has to be `async def`"):
                await http.get("/houses")
