"""The test suites of other projects, and how each is run on the plain thing and on ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["REQUIREMENTS", "SUITES", "Kind", "Part", "Suite"]

Kind = Literal["postgresql", "sqlite"]
Part = Literal["fixed", "all"]


@dataclass(frozen=True, slots=True)
class Suite:
    """Some test files of a project, run twice: as they are, and with our part in place."""

    name: str
    project: str
    """The distribution whose sdist has the tests; the installed version."""
    paths: Sequence[str]
    variable: tuple[str, str]
    """The environment variable that puts our part in place, and its value."""
    proof: str
    """The note of the run that counts how often our part was used."""
    plugin: str
    options: Sequence[str] = ()
    interpreter_options: Sequence[str] = ()
    database: Kind | None = None
    """The database that the tests want; None if they want none."""

    def paths_of(self, part: Part) -> Sequence[str]:
        """Return the patterns of the paths; none if the suite is left out of the part."""
        return _FIXED.get(self.name, self.paths) if part == "fixed" else self.paths


_SQLALCHEMY: Final[Mapping[str, Sequence[str]]] = {
    "asyncio": ["test/ext/asyncio"],
    "transactions": ["test/engine/test_transaction.py"],
    "execution": ["test/engine/test_execute.py"],
    "orm": [
        "test/orm/test_transaction.py",
        "test/orm/test_versioning.py",
        "test/orm/test_unitofwork.py",
        "test/orm/test_unitofworkv2.py",
        "test/orm/test_session.py",
    ],
    "dialect": ["test/dialect/test_suite.py"],
}
_FIXED: Final[Mapping[str, Sequence[str]]] = {
    "sqlalchemy-orm-postgresql": ["test/orm/test_transaction.py", "test/orm/test_versioning.py"],
    "sqlalchemy-orm-sqlite": ["test/orm/test_transaction.py", "test/orm/test_versioning.py"],
    # SQLite's is where they differ most.
    "sqlalchemy-dialect-postgresql": [],
    "fastapi": [
        "tests/test_dependency_*.py",
        "tests/test_router_*.py",
        "tests/test_stream_*.py",
        "tests/test_ws_*.py",
        "tests/test_tutorial/test_async_tests",
        "tests/test_tutorial/test_background_tasks",
        "tests/test_tutorial/test_dependencies",
        "tests/test_tutorial/test_events",
        "tests/test_tutorial/test_server_sent_events",
        "tests/test_tutorial/test_sub_applications",
        "tests/test_tutorial/test_websockets",
    ],
}
"""The paths of the fixed part, of the suites that are not run whole in it."""
# Their own options start plugins that are not there, and end a run after 250 failures.
_SQLALCHEMY_OPTIONS: Final = (
    *("-o", "addopts=", "-p", "warnings", "-p", "logging", "-p", "no:anyio", "-p", "no:xdist"),
    *("--timeout", "60"),
)
# Ours is for asyncio. Errors while collecting are of packages that are not installed.
_WRAPPED_OPTIONS: Final = ("-k", "not trio", "--continue-on-collection-errors")


def _sqlalchemy(name: str, paths: Sequence[str], database: Kind) -> Suite:
    return Suite(
        f"sqlalchemy-{name}-{database}",
        "sqlalchemy",
        paths,
        variable=("SUITES_ENGINES", "ours"),
        proof="engines",
        plugin="engines",
        options=_SQLALCHEMY_OPTIONS,
        # Otherwise their conftest.py puts the sources before the installed package.
        interpreter_options=["-s"],
        database=database,
    )


def _wrapped(project: str) -> Suite:
    return Suite(
        project,
        project,
        ["tests"],
        variable=("SUITES_APPLICATIONS", "wrapped"),
        proof="applications",
        plugin="applications",
        options=_WRAPPED_OPTIONS,
    )


SUITES: Final[Mapping[str, Suite]] = {
    suite.name: suite
    for suite in (
        *(
            _sqlalchemy(name, paths, database)
            for name, paths in _SQLALCHEMY.items()
            for database in ("postgresql", "sqlite")
        ),
        _wrapped("starlette"),
        _wrapped("fastapi"),
    )
}
"""By name, in the order in which they run."""

REQUIREMENTS: Final[Sequence[str]] = (
    *("pytest>=9,<9.2", "pytest-timeout>=2.4", "pytest-xdist>=3.8", "pytest-codspeed>=4.3"),
    *("anyio[trio]>=4.11", "httpx>=0.28", "httpx2[zstd]>=2.16", "blockbuster>=1.5", "uvicorn"),
    *("itsdangerous", "jinja2", "python-multipart", "pyyaml", "email-validator", "orjson"),
    *("dirty-equals>=0.9", "inline-snapshot>=0.21", "flask>=3", "a2wsgi>=1.9", "pyjwt>=2.9"),
    *("pwdlib[argon2]>=0.2", "pydantic-extra-types", "typer", "sqlmodel", "strawberry-graphql"),
    "opentelemetry-sdk>=1.44",
)
"""What the tests need beside this package and the projects themselves."""
