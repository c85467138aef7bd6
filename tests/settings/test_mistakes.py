"""A wrong setting is refused by the name it was written under, and never printed if secret."""

from __future__ import annotations

import pickle
import traceback
import warnings
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError, field_validator

from asgi_dbconn import ConfigurationError, InvalidSchemaName, Settings, UnsupportedURL
from tests.settings.conftest import Write

SECRET = "hush-9f3a"


@pytest.mark.parametrize(
    ("name", "written", "kind", "remedy"),
    [
        ("POOL_SIZE", "0", ConfigurationError, "at least 1, not 0"),
        ("POOL_SIZE", "ten", ConfigurationError, "at least 1, not 'ten'"),
        ("ACQUIRE_TIMEOUT", "5s", ConfigurationError, "seconds, more than 0, not '5s'"),
        ("MAX_LIFETIME", "inf", ConfigurationError, "number of seconds"),
        ("RESET", "hard", ConfigurationError, "'rollback' or 'full', not 'hard'"),
        ("PGBOUNCER", "maybe", ConfigurationError, "True or False, not 'maybe'"),
        ("ECHO", "loud", ConfigurationError, "True, False or 'debug', not 'loud'"),
        ("DATABASE", "postgresql+psycopg2://u@h/d", UnsupportedURL, "postgresql+asyncpg://"),
        ("DATABASE", "mysql://u@h/d", UnsupportedURL, "Use postgresql://"),
        ("EXTRA__AUDIT", "sqlite+pysqlite:///x", UnsupportedURL, "sqlite+aiosqlite://"),
        ("EXTRA", "sqlite:///audit", ConfigurationError, 'JSON, for example {"name": "value"}'),
        ("EXTRA", "[1]", ConfigurationError, "valid dictionary"),
        ("CONNECT_ARGS", "x=1", ConfigurationError, "JSON"),
        ("ENGINE_OPTIONS", '{"poolclass": 1}', ConfigurationError, "the pool is ours"),
        ("PRELOADS", "[shop", ConfigurationError, "separated by commas"),
        ("SCHEMA", "pg_shop", InvalidSchemaName, "Choose another name"),
    ],
)
@pytest.mark.parametrize("place", ["environment", ".env"])
def test_a_wrong_value_names_its_variable_and_the_remedy(
    name: str,
    written: str,
    kind: type[ConfigurationError],
    remedy: str,
    place: str,
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if place == ".env":
        write(".env", f"ASGI_DBCONN_{name}='{written}'\n")
    else:
        monkeypatch.setenv(f"ASGI_DBCONN_{name}", written)

    with pytest.raises(kind) as caught:
        Settings()

    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"ASGI_DBCONN_{name} ({place}): ")
    assert remedy in str(caught.value)


def test_the_name_of_a_platform_is_named_if_the_value_came_from_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://u@h/d")

    with pytest.raises(UnsupportedURL, match=r"DATABASE_URL \(environment\): "):
        Settings()


def test_an_entry_of_a_json_object_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_DBCONN_EXTRA", '{"audit": "mysql://u@h/d", "old": "sqlite://"}')

    with pytest.raises(UnsupportedURL, match=r"ASGI_DBCONN_EXTRA\['audit'\] \(environment\): "):
        Settings()
    with pytest.raises(UnsupportedURL, match=r"Settings\(extra=\{'audit': ...\}\): "):
        Settings(extra={"audit": "mysql://u@h/d"})


def test_another_file_is_named(write: Write) -> None:
    write("production.env", "ASGI_DBCONN_POOL_SIZE=0\n")

    with pytest.raises(ConfigurationError, match=r"ASGI_DBCONN_POOL_SIZE \(production.env\): "):
        Settings(_env_file="production.env")


def test_all_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASGI_DBCONN_POOL_SIZE", "0")

    with pytest.raises(ConfigurationError) as caught:
        Settings(echo="loud", schema="")

    assert str(caught.value).startswith("3 settings are wrong:\n- Settings(schema=...): ")
    assert "\n- ASGI_DBCONN_POOL_SIZE (environment): " in str(caught.value)
    assert "\n- Settings(echo=...): " in str(caught.value)


@pytest.mark.parametrize("given", [{"pool_sise": 3}, {"databse": f"postgresql://u:{SECRET}@h/d"}])
def test_a_misspelt_argument_is_refused(given: Mapping[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"Did you mean '(pool_size|database)'") as caught:
        Settings(**given)
    _shows_no_secret(caught.value)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("ASGI_DBCONN_POOLSIZE", "ASGI_DBCONN_POOL_SIZE"),
        ("ASGI_DBCONN_ACQUIRE_TIMOUT", "ASGI_DBCONN_ACQUIRE_TIMEOUT"),
        ("ASGI_DBCONN_DATABASES", "ASGI_DBCONN_DATABASE"),
        ("ASGI_DBCONN_EXTRA_AUDIT", "ASGI_DBCONN_EXTRA__AUDIT"),
    ],
)
@pytest.mark.parametrize("place", ["environment", ".env"])
def test_a_misspelt_variable_is_warned_of_at_the_line_that_reads_settings(
    written: str, meant: str, place: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == ".env":
        write(".env", f"{written}=3\n")
    else:
        monkeypatch.setenv(written, "3")

    with pytest.warns(UserWarning, match="is ignored") as caught:
        Settings()

    assert [str(warning.message) for warning in caught] == [
        f"{written} ({place}) is no setting, and is ignored. Did you mean {meant}?"
    ]
    assert caught[0].filename == __file__


def test_variables_of_others_are_not_taken_for_misspelt_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("TEST_POSTGRES", "PAGE_SIZE", "SETTINGS_MODULE", "EXTRA__AUDIT", "X"):
        monkeypatch.setenv(f"ASGI_DBCONN_{name}", "sqlite://")
    monkeypatch.setenv("ASGI_DBCON_POOL_SIZE", "3")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Settings()


@pytest.mark.parametrize(
    "given",
    [
        {"database": f"postgresql+psycopg2://app:{SECRET}@db/shop"},
        {"database": f"postgresql://app:{SECRET}@db:port/shop"},
        {"extra": {"audit": f"postgresql+psycopg2://app:{SECRET}@db/shop"}},
        {"extra": f"postgresql://app:{SECRET}@db/shop"},
        {"password": SECRET, "database": f"postgresql://app:{SECRET}@db/shop", "pool_size": 0},
        {"connect_args": SECRET},
    ],
)
@pytest.mark.parametrize("place", ["arguments", "environment", ".env"])
def test_no_secret_is_in_an_error_or_the_variables_of_its_frames(
    given: Mapping[str, Any], place: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {
        f"ASGI_DBCONN_{name.upper()}": str(value).replace("'", '"') for name, value in given.items()
    }
    if place == ".env":
        write(".env", "".join(f"{name}='{variable}'\n" for name, variable in variables.items()))
    elif place == "environment":
        for name, variable in variables.items():
            monkeypatch.setenv(name, variable)
    with pytest.raises(ConfigurationError) as caught:
        Settings(**(given if place == "arguments" else {}))

    _shows_no_secret(caught.value)


def test_no_secret_is_in_what_settings_print() -> None:
    settings = Settings(
        database=f"postgresql://app:{SECRET}@db/shop?sslpassword={SECRET}",
        extra={"audit": f"postgresql://app:{SECRET}@db/audit"},
        password=SECRET,
        connect_args={"password": SECRET},
        engine_options={"x": SECRET},
    )

    for shown in (repr(settings), str(settings), f"{settings}", settings.model_dump_json()):
        assert "postgresql+asyncpg://app:***@db/shop" in shown
    for shown in (repr(settings), str(settings), f"{settings}"):
        assert SECRET not in shown
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_inside_another_model_it_is_that_models_validation_error() -> None:
    class Whole(BaseModel):
        settings: Settings

    with pytest.raises(ValidationError, match=r"Settings\(pool_size=...\): pool_size is a whole"):
        Whole.model_validate({"settings": {"pool_size": 0}})


def test_a_check_of_an_own_class_speaks_for_itself() -> None:
    class Shop(Settings):
        currency: str = "EUR"

        @field_validator("currency")
        @classmethod
        def _three_letters(cls, value: str) -> str:
            if len(value) != 3:
                raise ValueError("a currency has three letters")
            return value

    with pytest.raises(ConfigurationError) as caught:
        Shop(currency="€")
    assert str(caught.value) == "Shop(currency=...): a currency has three letters. [DBC100]"


def _shows_no_secret(error: BaseException) -> None:
    assert error.__traceback__ is not None
    assert error.__cause__ is None
    assert error.__context__ is None
    ours = error.__traceback__.tb_next  # below the test, which has the secret itself
    assert ours is not None
    shown = traceback.TracebackException(type(error), error, ours, capture_locals=True)
    assert SECRET not in "".join(shown.format())
