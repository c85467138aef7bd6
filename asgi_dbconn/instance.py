"""What belongs to this process: its settings, and what tools look at: registry, application."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from monkay import Monkay

from asgi_dbconn.settings import Settings

if TYPE_CHECKING:
    from asgi_dbconn.registry.registry import Registry

__all__ = ["Instance", "monkay"]


@dataclass(frozen=True, kw_only=True)
class Instance:
    """What the command line and the shell find: ``monkay.set_instance(Instance(registry=models))``.

    Lives until another one is set; setting it connects nothing.
    """

    registry: Registry
    app: Any | None = None


def _settings() -> str | type[Settings]:
    # Asked for when settings are first needed, not at import, so that tests and scripts can set it.
    return os.environ.get("ASGI_DBCONN_SETTINGS_MODULE") or Settings


monkay: Monkay[Instance, Settings] = Monkay(
    globals(),
    with_instance="asgi_dbconn_instance",
    settings_path=_settings,
    settings_preloads_name="preloads",
    settings_ctx_name="asgi_dbconn_settings",
)
"""``evaluate_settings()``, ``settings``, ``set_instance()`` and ``instance``: the library's own."""
