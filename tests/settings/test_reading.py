"""Where settings come from, and which of two counts."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest
from pydantic import SecretStr

from asgi_dbconn import DatabaseURL, Settings
from asgi_dbconn.options import DatabaseOptions, OptionArguments
from tests.settings.conftest import Write

SAMPLES = {
    "pool_size": "7",
    "acquire_timeout": "1.5",
    "query_timeout": "30",
    "max_waiting": "100",
    "connect_timeout": "2",
    "startup_timeout": "0",
    "shutdown_timeout": "3",
    "max_lifetime": "60",
    "idle_check_after": "0",
    "leak_after": "10",
    "max_connections": "50",
    "reset": "full",
    "pgbouncer": "true",
    "optional": "yes",
    "password": "hush",
    "echo": "debug",
    "connect_args": '{"server_settings": {"application_name": "shop"}}',
    "engine_options": '{"query_cache_size": 50}',
}


def test_without_anything_there_is_no_database_and_every_option_is_its_own_default() -> None:
    settings = Settings()

    assert settings.database is None
    assert settings.extra == {}
    assert settings.schema is None
    assert settings.app is None
    assert settings.preloads == ()
    assert settings.migration_directory == Path("migrations")
    for field in fields(DatabaseOptions()):
        assert getattr(settings, field.name) == getattr(DatabaseOptions(), field.name), field.name


def test_every_database_option_is_a_setting_of_the_same_name_and_type() -> None:
    options, own = OptionArguments.__annotations__, Settings.__annotations__

    assert {name: own[name] for name in options} == {
        name: getattr(kind, "__forward_arg__", kind) for name, kind in options.items()
    }
    assert SAMPLES.keys() == options.keys()


def test_every_option_is_read_from_the_variable_of_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, written in SAMPLES.items():
        monkeypatch.setenv(f"ASGI_DBCONN_{name.upper()}", written)

    settings = Settings()

    assert settings.model_fields_set == SAMPLES.keys()
    read = DatabaseOptions(**{name: getattr(settings, name) for name in SAMPLES})
    assert read == DatabaseOptions(
        pool_size=7,
        acquire_timeout=1.5,
        query_timeout=30.0,
        max_waiting=100,
        connect_timeout=2.0,
        startup_timeout=0.0,
        shutdown_timeout=3.0,
        max_lifetime=60.0,
        idle_check_after=0.0,
        leak_after=10.0,
        max_connections=50,
        reset="full",
        pgbouncer=True,
        optional=True,
        password=SecretStr("hush"),
        echo="debug",
        connect_args={"server_settings": {"application_name": "shop"}},
        engine_options={"query_cache_size": 50},
    )


def test_arguments_count_before_the_environment_and_that_before_the_file(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(".env", "ASGI_DBCONN_POOL_SIZE=1\nASGI_DBCONN_MAX_WAITING=1\nASGI_DBCONN_SCHEMA=one\n")
    monkeypatch.setenv("ASGI_DBCONN_POOL_SIZE", "2")
    monkeypatch.setenv("ASGI_DBCONN_MAX_WAITING", "2")

    settings = Settings(pool_size=3)

    assert (settings.pool_size, settings.max_waiting, settings.schema) == (3, 2, "one")


@pytest.mark.parametrize(
    ("environment", "file", "counts"),
    [
        ("ASGI_DBCONN_DATABASE DATABASE_URL", "ASGI_DBCONN_DATABASE", "ASGI_DBCONN_DATABASE"),
        ("DATABASE_URL", "ASGI_DBCONN_DATABASE DATABASE_URL", "DATABASE_URL"),
        ("", "DATABASE_URL ASGI_DBCONN_DATABASE", "ASGI_DBCONN_DATABASE (file)"),
        ("", "DATABASE_URL", "DATABASE_URL (file)"),
    ],
)
def test_of_the_two_names_of_the_database_ours_counts_in_each_place(
    environment: str, file: str, counts: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in environment.split():
        monkeypatch.setenv(name, f"sqlite:///{name}")
    write(".env", "".join(f"{name}='sqlite:///{name} (file)'\n" for name in file.split()))

    assert DatabaseURL(Settings().database or "").database == counts
    assert Settings(database="sqlite:///mine").database == DatabaseURL("sqlite:///mine")


def test_more_databases_come_from_json_and_from_a_variable_each(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(".env", "ASGI_DBCONN_EXTRA__AUDIT=sqlite:///file\nASGI_DBCONN_EXTRA__OLD=sqlite:///old\n")
    monkeypatch.setenv(
        "ASGI_DBCONN_EXTRA", '{"Reports": "sqlite:///reports", "audit": "sqlite://"}'
    )
    monkeypatch.setenv("ASGI_DBCONN_EXTRA__AUDIT", "sqlite:///audit")

    assert Settings(extra={"mine": "sqlite:///mine"}).extra == {
        "Reports": DatabaseURL("sqlite:///reports"),  # JSON keeps capital letters
        "audit": DatabaseURL("sqlite:///audit"),
        "old": DatabaseURL("sqlite:///old"),
        "mine": DatabaseURL("sqlite:///mine"),
    }


@pytest.mark.parametrize(
    "written", ["shop.models, shop.signals:connect", '["shop.models", "shop.signals:connect"]']
)
def test_preloads_are_separated_by_commas_or_written_in_json(
    written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASGI_DBCONN_PRELOADS", written)

    assert Settings().preloads == ("shop.models", "shop.signals:connect")


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_DBCONN_DATABASE", "")
    monkeypatch.setenv("ASGI_DBCONN_POOL_SIZE", "")
    monkeypatch.setenv("DATABASE_URL", "sqlite:///app")

    assert Settings().database == DatabaseURL("sqlite:///app")
    assert Settings().pool_size == 10


def test_the_names_of_variables_may_be_written_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("asgi_dbconn_pool_size", "4")

    assert Settings().pool_size == 4


def test_another_file_or_none_can_be_read(write: Write) -> None:
    write("production.env", "ASGI_DBCONN_APP=shop:app\n")
    write(".env", "ASGI_DBCONN_APP=dev:app\n")

    assert Settings().app == "dev:app"
    assert Settings(_env_file="production.env").app == "shop:app"
    assert Settings(_env_file=None).app is None


def test_what_is_not_ours_in_the_file_is_left_alone(write: Write) -> None:
    write(".env", "SECRET_KEY=x\nPOOL_SIZE=99\nASGI_DBCONN_TEST_POSTGRES=postgresql://x\n")

    assert Settings() == Settings(_env_file=None)


def test_settings_do_not_change_once_they_are_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().pool_size = 3


def test_written_out_as_json_they_keep_the_secrets() -> None:
    settings = Settings(database="postgresql://app:hush@db/shop", password="hush")

    shown = settings.model_dump_json()

    assert json.loads(shown)["database"] == "postgresql+asyncpg://app:***@db/shop"
    assert "hush" not in shown
    assert "password" in Settings(password=lambda: "hush").model_dump_json()
