"""The arguments of a registry, read from settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import NamedTuple, cast

from asgi_dbconn.errors import ConfigurationError
from asgi_dbconn.instance import monkay
from asgi_dbconn.options import DatabaseOptions, OptionArguments
from asgi_dbconn.settings import Settings
from asgi_dbconn.settings_variables import how_to_set
from asgi_dbconn.urls import DatabaseURL

__all__ = ["RegistryArguments", "read_settings"]


class RegistryArguments(NamedTuple):
    """The arguments that ``Registry(...)`` is called with."""

    database: DatabaseURL | str
    extra: Mapping[str, DatabaseURL | str]
    schema: str | None
    options: OptionArguments


def read_settings(settings: Settings | None) -> RegistryArguments:
    """Return the arguments from ``settings``, or else from the settings of the process.

    Raises ConfigurationError, naming the variables that were read, if no database is set.
    """
    chosen = monkay.settings if settings is None else settings
    if not isinstance(chosen, Settings):
        raise ConfigurationError(
            "settings is an object of asgi_dbconn.Settings or of a class derived from it, not "
            f"{type(chosen).__name__}."
        )
    if chosen.database is None:
        raise ConfigurationError(
            f"No database is configured. {how_to_set(type(chosen), 'database')}"
        )
    return RegistryArguments(chosen.database, chosen.extra, chosen.schema, _options(chosen))


def _options(settings: Settings) -> OptionArguments:
    # Only what the user has set: a subclass of Registry may have defaults of its own.
    defaults = DatabaseOptions()
    names = (field.name for field in fields(defaults))
    chosen = {
        name: getattr(settings, name)
        for name in names
        if name in settings.model_fields_set or getattr(settings, name) != getattr(defaults, name)
    }
    return cast("OptionArguments", chosen)
