"""Settings from the environment, as far as everything above agrees on them."""

from __future__ import annotations

from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["Settings"]


class Settings(BaseSettings):
    """Read from variables that start with ``ASGI_DBCONN_`` and from a ``.env`` file.

    Derive your own class and name it in ``ASGI_DBCONN_SETTINGS_MODULE``: ``package.module.Class``.
    """

    model_config = SettingsConfigDict(
        env_prefix="ASGI_DBCONN_", env_file=".env", extra="ignore", hide_input_in_errors=True
    )

    preloads: tuple[str, ...] = ()
    """Modules that ``monkay.evaluate_settings()`` imports, as ``module`` or ``module:function``."""
