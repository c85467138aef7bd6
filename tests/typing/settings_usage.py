"""How type checkers see settings; read by mypy and pyright, never run."""

from __future__ import annotations

from typing import assert_type

from asgi_dbconn import DatabaseURL, Instance, Registry, Settings, monkay


class Shop(Settings):
    database = "sqlite:///shop.db"
    pool_size = 4
    query_timeout = 30.0
    preloads = ("shop.models",)
    page_size: int = 20


class Small(Registry):
    pass


def reading() -> None:
    settings = Settings(database="sqlite://", extra={"audit": "sqlite:///audit.db"}, pool_size=2)
    assert_type(settings.database, DatabaseURL | str | None)
    assert_type(settings.pool_size, int)
    assert_type(settings.schema, str | None)
    assert_type(Shop(database="sqlite://", password="x", page_size=5).page_size, int)


def using() -> None:
    assert_type(Registry.from_settings(), Registry)
    assert_type(Small.from_settings(Shop()), Small)
    Registry.from_settings("sqlite://")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(monkay.settings, Settings)
    assert_type(monkay.instance, Instance | None)
    with monkay.with_settings(Shop()), monkay.with_instance(None):
        monkay.evaluate_settings(ignore_import_errors=False)
