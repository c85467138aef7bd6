"""The state of this process: its settings, and the registry and application for tools."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from monkay import Monkay, load

from asgi_dbconn.errors import ConfigurationError
from asgi_dbconn.settings import Settings
from asgi_dbconn.settings_variables import SETTINGS_MODULE, level_of_users_line

if TYPE_CHECKING:
    from asgi_dbconn.registry.registry import Registry

__all__ = ["Instance", "monkay"]


@dataclass(frozen=True, init=False)
class Instance:
    """The registry and the application that the command line and the shell find.

    Set them by ``monkay.set_instance(Instance(registry=models))``. They stay until others are set.
    Setting them connects nothing.
    """

    registry: Registry
    app: Any | None

    def __init__(self, *, registry: Registry, app: Any | None = None) -> None:
        if isinstance(registry, type) or not hasattr(registry, "databases"):
            given = type(registry).__name__
            del registry  # probably a URL, with its password
            raise ConfigurationError(
                "registry is the Registry that your models belong to, as in "
                f"Instance(registry=models), not a {given}."
            )
        object.__setattr__(self, "registry", registry)
        object.__setattr__(self, "app", app)

    def __repr__(self) -> str:
        # Only the attributes that exist: while __init__ raises, error reporters call our repr.
        return f"Instance({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


class _SettingsNotFound(ConfigurationError, ImportError):
    """An error about the settings module; an ImportError for ``ignore_import_errors=True``."""


def _settings() -> type[Settings] | Settings:
    # Read when settings are first needed, not at import, so that tests and scripts can set it.
    path = os.environ.get(SETTINGS_MODULE)
    if not path:
        return Settings
    try:
        found = load(path)
    except (ImportError, ValueError) as error:
        raise _SettingsNotFound(
            f"{SETTINGS_MODULE} is {path!r}, which cannot be imported: {error}. Name a class or an "
            "object of a module that Python finds, as package.module.Class or package.module:Class."
        ) from error
    if isinstance(found, Settings) or (isinstance(found, type) and issubclass(found, Settings)):
        return found
    raise ConfigurationError(
        f"{SETTINGS_MODULE} is {path!r}, which is a {type(found).__name__}. It has to name a class "
        "derived from asgi_dbconn.Settings, or an object of one."
    )


class _Process(Monkay[Instance, Settings]):
    """Monkay, with errors and warnings for mistakes about which the library itself is silent."""

    def set_instance(self, instance: Instance | None, **extensions: bool) -> Instance | None:
        if not (instance is None or isinstance(instance, Instance)):
            raise ConfigurationError(
                f"set_instance takes an Instance(registry=..., app=...) or None, not a "
                f"{type(instance).__name__}."
            )
        return super().set_instance(instance, **extensions)

    def evaluate_preloads(
        self,
        preloads: Iterable[str],
        *,
        ignore_import_errors: bool = True,
        package: str | None = None,
    ) -> bool:
        found = True
        for preload in preloads:
            module = preload.partition(":")[0]
            try:
                import_module(module, package or self.package)
            except ImportError as error:
                if not ignore_import_errors:
                    raise
                found = False
                warnings.warn(
                    f"The preload {preload!r} is left out, as {module!r} cannot be imported: "
                    f"{error}. Correct its name in `preloads`, or what it imports.",
                    stacklevel=level_of_users_line(sys._getframe()),
                )
                continue
            super().evaluate_preloads((preload,), ignore_import_errors=False, package=package)
        return found


monkay: Monkay[Instance, Settings] = _Process(
    globals(),
    with_instance="asgi_dbconn_instance",
    settings_path=_settings,
    settings_preloads_name="preloads",
    settings_ctx_name="asgi_dbconn_settings",
)
"""The process's Monkay: ``evaluate_settings()``, ``settings``, ``set_instance()``, ``instance``."""
