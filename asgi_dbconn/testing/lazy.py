"""Names that the fixtures need and pytest's start must not pay for; imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from monkay import Monkay

if TYPE_CHECKING:
    from asgi_dbconn.instance import monkay as monkay
    from asgi_dbconn.loops.run_sync import run_sync as run_sync
    from asgi_dbconn.registry.registry import Registry as Registry
    from asgi_dbconn.testing.app_under_test import isolated as isolated
    from asgi_dbconn.testing.app_under_test import served as served
    from asgi_dbconn.testing.database import TestDatabase as TestDatabase
    from asgi_dbconn.testing.env_variables import EnvironmentForTests as EnvironmentForTests

__all__ = ()  # nothing is defined here

_lazy: Final[Monkay[None, None]] = Monkay(
    globals(),
    lazy_imports={
        "EnvironmentForTests": "asgi_dbconn.testing.env_variables:EnvironmentForTests",
        "Registry": "asgi_dbconn.registry.registry:Registry",
        "TestDatabase": "asgi_dbconn.testing.database:TestDatabase",
        "isolated": "asgi_dbconn.testing.app_under_test:isolated",
        "monkay": "asgi_dbconn.instance:monkay",
        "run_sync": "asgi_dbconn.loops.run_sync:run_sync",
        "served": "asgi_dbconn.testing.app_under_test:served",
    },
    skip_all_update=True,
)
