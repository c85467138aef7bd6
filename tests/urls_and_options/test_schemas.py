"""Names of schemas that are refused, and why; that the others are used exactly is shown in
tests/tenants."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.sql import quoted_name

from asgi_dbconn import ConfigurationError, InvalidSchemaName
from asgi_dbconn.schema_names import check_schema

REFUSED: dict[str, tuple[Any, str]] = {
    "nothing": ("", "a string that is not empty"),
    "bytes": (b"tenant", "a string that is not empty"),
    "a number": (7, "a string that is not empty"),
    "True": (True, "a string that is not empty"),
    "NUL": ("a\0b", "control character"),
    "a newline": ("a\nb", "control character"),
    "a delete": ("a\x7fb", "control character"),
    "a C1 control": ("a\x85b", "control character"),
    "half a character": ("a\ud800", "half of a surrogate pair"),
    "64 bytes": ("a" * 64, "has 64 bytes"),
    "64 bytes in 32 letters": ("ä" * 32, "has 64 bytes"),
    "65 bytes in 17 letters": ("𐀀" * 16 + "a", "has 65 bytes"),
    "a name of the system": ("pg_tenant", "belongs to PostgreSQL"),
    "the information schema": ("information_schema", "belongs to PostgreSQL"),
    "SQLAlchemy's placeholder": ("__[SCHEMA_x]", "SQLAlchemy changes or"),
    "a format": ("%s", "SQLAlchemy changes or"),
    "a quote": ("x')||(SELECT 1)||('", "SQLAlchemy changes or"),
    "a parameter": ("a $1", "SQLAlchemy changes or"),
    "SQLAlchemy's word": ("__EXECMANY_TOKEN__", "SQLAlchemy changes or"),
    "two per cent signs": ("a%%b", "SQLAlchemy changes or"),
}
USED = [
    None,
    "a",
    " ",
    "a" * 63,
    "ä" * 31 + "a",
    "PG_TENANT",
    "pg",
    "Information_Schema",
    "public",
    'quo"te',
    "select",
    "$user",
    "1$",
    "a.b",
    ":p",
    "שכר",
    "\u202egnp",
]


@pytest.mark.parametrize("case", REFUSED)
def test_a_name_that_cannot_be_used_exactly_is_refused(case: str) -> None:
    name, why = REFUSED[case]
    with pytest.raises(InvalidSchemaName, match=why) as caught:
        check_schema(name)
    assert isinstance(caught.value, ConfigurationError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", USED, ids=ascii)
def test_any_other_name_stays_as_it_is(name: str | None) -> None:
    assert check_schema(name) == name


def test_names_that_postgresql_would_cut_off_alike_are_refused_both() -> None:
    for tenant in ("a" * 63 + "1", "a" * 63 + "2"):
        with pytest.raises(InvalidSchemaName, match="cut it off after 63"):
            check_schema(tenant)


def test_what_looks_alike_stays_two() -> None:
    assert check_schema("caf\u00e9") != check_schema("cafe\u0301")


def test_a_name_that_says_how_it_is_quoted_is_quoted_by_need_all_the_same() -> None:
    name = check_schema(quoted_name('a" b', quote=False))
    assert type(name) is str
