"""The pytest plugin of asgi-dbconn: fixtures named ``dbconn_``; none of them is automatic."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from asgi_dbconn.testing import lazy_imports
from asgi_dbconn.testing.config import ENVIRONMENT

if TYPE_CHECKING:
    from asgi_dbconn.testing.env_variables import DatabaseVariables

__all__ = [
    "pytest_addoption",
    "pytest_configure",
    "pytest_load_initial_conftests",
    "pytest_sessionfinish",
    "pytest_xdist_setupnodes",
]

pytest_plugins = ["asgi_dbconn.testing.fixtures"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add three ini options; without them the plugin does nothing."""
    parser.addini(
        "dbconn_environment",
        "environment variables that name test databases while pytest runs: NAME or NAME=url",
        type="linelist",
    )
    parser.addini("dbconn_registry", "the registry of dbconn_registry: package.module:attribute")
    parser.addini("dbconn_app", "the application of dbconn_app: package.module:attribute")


def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Set the variables of the test databases before a conftest.py imports the application."""
    lines = early_config.getini("dbconn_environment")
    if lines:
        environment = lazy_imports.DatabaseVariables(lines, os.environ)
        environment.enter()
        early_config.add_cleanup(environment.leave)
        early_config.stash[ENVIRONMENT] = environment


def pytest_configure(config: pytest.Config) -> None:
    """Load the fixtures that need pytest-asyncio, if it is installed."""
    if config.pluginmanager.has_plugin("asyncio"):
        config.pluginmanager.import_plugin("asgi_dbconn.testing.pytest_asyncio_fixtures")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Restore the variables for workers that are about to start with databases of their own."""
    if (environment := _environment(config)) is not None:
        environment.pass_on()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Drop the databases that ended workers have left."""
    if (environment := _environment(session.config)) is not None:
        environment.tidy_up()


def _environment(config: pytest.Config) -> DatabaseVariables | None:
    return config.stash.get(ENVIRONMENT, None)
