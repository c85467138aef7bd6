"""The pytest configuration: the registry and application, or else those of ``monkay.instance``."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn, cast

import pytest

from asgi_dbconn.testing import lazy_imports

if TYPE_CHECKING:
    from asgi_dbconn.registry.registry import Registry
    from asgi_dbconn.testing.database import TestDatabase
    from asgi_dbconn.testing.env_variables import DatabaseVariables  # noqa: F401 - in a string
    from asgi_dbconn.types import ASGIApp

__all__ = ["ENVIRONMENT", "databases_of_environment", "find_app", "find_registry"]

ENVIRONMENT = pytest.StashKey["DatabaseVariables"]()


def databases_of_environment(config: pytest.Config) -> Mapping[str, TestDatabase]:
    """Return the test databases of ``dbconn_environment``, by variable."""
    environment = config.stash.get(ENVIRONMENT, None)
    return {} if environment is None else environment.databases


def find_registry(config: pytest.Config) -> Registry:
    """Return the registry. Fails the test if none is configured, or if it is not a Registry."""
    registry = _read_option(config, "dbconn_registry") or _of_instance("registry")
    if registry is None:
        _fail("registry", "dbconn_registry = shop.models:models", "registry=models")
    if not isinstance(registry, lazy_imports.Registry):
        pytest.fail(f"dbconn_registry is a Registry, not {registry!r}.", pytrace=False)
    return registry


def find_app(config: pytest.Config) -> ASGIApp:
    """Return the application. Fails the test if none is configured, or it cannot be called."""
    app = _read_option(config, "dbconn_app") or _of_instance("app")
    if app is None:
        _fail("application", "dbconn_app = shop.main:app", "..., app=app")
    if not callable(app):
        pytest.fail(f"dbconn_app is an ASGI application, not {app!r}.", pytrace=False)
    return cast("ASGIApp", app)


def _read_option(config: pytest.Config, name: str) -> Any:
    path: str = config.getini(name)
    if not path:
        return None
    try:
        return pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        pytest.fail(f"{name} = {path} cannot be imported: {type(error).__name__}: {error}")


def _of_instance(attribute: str) -> Any:
    return getattr(lazy_imports.monkay.instance, attribute, None)


def _fail(what: str, line: str, argument: str) -> NoReturn:
    name = line.partition(" ")[0]
    pytest.fail(
        f"No {what} is configured. Write `{line}` into the configuration of pytest, or a fixture "
        f"{name} with scope='session', or call monkay.set_instance(Instance({argument})) where "
        "the application is created.",
        pytrace=False,
    )
