"""Database options: checked when they are written, with a sentence for each mistake."""

from __future__ import annotations

import math
from typing import Any

import pytest

from asgi_dbconn import ConfigurationError, Database, Registry
from asgi_dbconn.options import DatabaseOptions


def test_an_unknown_option_names_what_was_meant() -> None:
    with pytest.raises(ConfigurationError, match=r"no database option 'pool_sise'.*'pool_size'"):
        Registry("sqlite://", pool_sise=5)  # type: ignore[call-arg]


def test_an_option_that_resembles_none_lists_them_all() -> None:
    with pytest.raises(ConfigurationError, match="pool_size, acquire_timeout, "):
        Database("sqlite://", zzz=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("value", [0, -1, 1.5, "5", True, None])
def test_a_pool_has_a_whole_number_of_connections(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="pool_size is a whole number"):
        DatabaseOptions(pool_size=value)


@pytest.mark.parametrize("name", ["acquire_timeout", "connect_timeout"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "5", True, None])
def test_a_deadline_is_a_finite_number_of_seconds(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} is a number of seconds, more than 0"):
        DatabaseOptions(**{name: value})


@pytest.mark.parametrize("name", ["startup_timeout", "shutdown_timeout"])
def test_a_budget_may_be_zero_but_not_less(name: str) -> None:
    DatabaseOptions(**{name: 0})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="0 or more"):
        DatabaseOptions(**{name: -0.1})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["poolclass", "max_overflow", "creator", "isolation_level"])
def test_engine_options_may_not_undo_what_is_ours(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"must not contain '{name}'.*use|ours"):
        DatabaseOptions(engine_options={name: 1})


@pytest.mark.parametrize(
    "options",
    [{"echo": "loud"}, {"password": 5}, {"connect_args": 1}, {"engine_options": []}],
)
def test_other_wrong_values_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Database("sqlite://", **options)


def test_options_do_not_show_a_password() -> None:
    database = Database("postgresql://u@h/d", password="hush", connect_args={"x": "hush"})

    assert "hush" not in repr(database.options)


def test_options_go_to_every_database_named_by_a_url() -> None:
    own = Database("sqlite://", pool_size=3)

    models = Registry("sqlite://", extra={"a": "sqlite://", "b": own}, pool_size=7)

    sizes = {name: database.options.pool_size for name, database in models.databases.items()}
    assert sizes == {None: 7, "a": 7, "b": 3}
