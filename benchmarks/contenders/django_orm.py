"""Django's asynchronous ORM, on psycopg's pool.

Its queries run in threads. Under ASGI every request has a thread of its own for them, and a
connection, which goes back to the pool when the request ends; here a task stands for a request.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import django
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.conf import settings
from django.db import connections, models

from benchmarks.contenders.serving import serve
from benchmarks.contenders.work import CONNECTIONS, PAGE

_url = urlsplit(sys.argv[1])
settings.configure(
    USE_TZ=True,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": _url.path[1:],
            "USER": unquote(_url.username or ""),
            "PASSWORD": unquote(_url.password or ""),
            "HOST": _url.hostname,
            "PORT": _url.port,
            "OPTIONS": {"pool": {"min_size": CONNECTIONS, "max_size": CONNECTIONS}},
        }
    },
)
django.setup()


class User(models.Model):  # type: ignore[misc]
    id = models.AutoField(primary_key=True)
    name = models.TextField()
    email = models.TextField(unique=True)
    is_active = models.BooleanField()
    age = models.IntegerField()
    score = models.FloatField()
    joined_at = models.DateTimeField()
    about = models.TextField()

    class Meta:
        app_label = "benchmarks"
        db_table = "users"


class _Models:
    async def get(self, key: int) -> Any:
        return await User.objects.aget(pk=key)

    async def page(self) -> Sequence[Any]:
        return [user async for user in User.objects.order_by("pk")[:PAGE]]

    async def create(self, values: dict[str, Any]) -> int:
        key: int = (await User.objects.acreate(**values)).pk
        return key

    async def update(self, key: int, age: int) -> object:
        return await User.objects.filter(pk=key).aupdate(age=age)

    async def count(self) -> int:
        total: int = await User.objects.acount()
        return total


@asynccontextmanager
async def _opened(_: str) -> AsyncIterator[_Models]:
    try:
        yield _Models()
    finally:
        await sync_to_async(connections["default"].close_pool)()


@asynccontextmanager
async def _request() -> AsyncIterator[None]:
    async with ThreadSensitiveContext():
        try:
            yield
        finally:
            await sync_to_async(connections.close_all)()


if __name__ == "__main__":
    serve(_opened, ["django", "psycopg", "psycopg-pool", "asgiref"], request=_request)
