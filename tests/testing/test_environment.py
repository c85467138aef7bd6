"""Variables name test databases while pytest runs, and what they named before afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from asgi_dbconn import DatabaseURL
from asgi_dbconn.testing import TestDatabase
from asgi_dbconn.testing.database_names import RUN_VARIABLE
from asgi_dbconn.testing.env_variables import DatabaseVariables
from tests.support.ports import free_port
from tests.testing.left_over import files_in

SHOP = "postgres://ada:p%40ss@db.example/shop?sslmode=require"


def test_they_name_the_test_databases_between_enter_and_leave() -> None:
    environ = {"DATABASE_URL": SHOP, "PATH": "/bin"}
    before = dict(environ)
    environment = DatabaseVariables(["DATABASE_URL", "AUDIT_URL = sqlite://"], environ)
    assert environ == before

    environment.enter()
    assert DatabaseURL(environ["DATABASE_URL"]) == environment.databases["DATABASE_URL"].url
    assert DatabaseURL(environ["AUDIT_URL"]) == environment.databases["AUDIT_URL"].url
    assert environ["PATH"] == "/bin"

    for _ in range(2):
        environment.leave()
        assert environ == before


def test_a_url_is_spelt_as_it_was() -> None:
    environ = {"A": SHOP, "B": "sqlite+aiosqlite:///b.db", "C": "sqlite:///c.db"}
    environment = DatabaseVariables(["A", "B", "C"], environ)
    environment.enter()

    name = environment.databases["A"].name
    assert environ["A"] == f"postgres://ada:p%40ss@db.example/{name}?sslmode=require"
    assert environ["B"].startswith("sqlite+aiosqlite:////")
    assert environ["C"].startswith("sqlite:////")


def test_a_variable_that_is_set_counts_before_the_line() -> None:
    environ = {"A": "sqlite:///a.db", "B": ""}
    databases = DatabaseVariables(["A=sqlite:///x.db", "B=sqlite:///b.db"], environ).databases

    assert [database.original.database for database in databases.values()] == ["a.db", "b.db"]


def test_two_variables_for_one_database_stay_so() -> None:
    environ = {"READ": SHOP, "WRITE": SHOP, "CACHE": "sqlite://", "QUEUE": "sqlite://"}
    databases = DatabaseVariables(list(environ), environ).databases

    assert databases["READ"] is databases["WRITE"]
    assert databases["CACHE"] is not databases["QUEUE"]  # in memory each has its own


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("DATABASE_URL", "DATABASE_URL, but this variable is not set"),
        ("DATABASE_URL = ", "DATABASE_URL, but this variable is not set"),
        ("DATABASE_URL = mysql://ada:hush@db.example/shop", "DATABASE_URL, of .*'mysql'"),
        ("DATABASE_URL = shop", "DATABASE_URL, of .*cannot be read"),
    ],
)
def test_a_variable_without_a_database_is_an_error_of_usage(line: str, words: str) -> None:
    with pytest.raises(pytest.UsageError, match=words) as caught:
        DatabaseVariables([line], {})

    assert "hush" not in str(caught.value)


def test_what_workers_have_left_goes_where_the_server_is_there(temporary: Path) -> None:
    environ = {"A": f"postgresql://127.0.0.1:{free_port()}/shop", "B": "sqlite://"}
    before = dict(environ)
    environment = DatabaseVariables(list(environ), environ)
    environment.enter()
    environment.pass_on()
    inherited = environ.pop(RUN_VARIABLE)
    assert environ == before

    with pytest.MonkeyPatch.context() as worker, TestDatabase("sqlite://") as kept:
        worker.setenv(RUN_VARIABLE, inherited)
        with TestDatabase("sqlite://", drop=False):
            environment.tidy_up()

        assert {name.partition("/")[0] for name in files_in(temporary)} == {
            f"asgi_dbconn-{kept.name}"
        }
    environment.leave()
    assert environ == before


def test_without_workers_there_is_nothing_to_tidy_up(temporary: Path) -> None:
    environment = DatabaseVariables(["A"], {"A": "sqlite://"})
    with TestDatabase("sqlite://"):
        environment.tidy_up()
        assert files_in(temporary)
