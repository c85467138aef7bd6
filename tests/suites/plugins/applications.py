"""A pytest plugin that wraps every application under test in ``models.asgi(app)``.

With ``SUITES_APPLICATIONS=wrapped`` this is what Starlette's TestClient and the ASGI transports of
httpx and httpx2 get. Without it they get the applications as they are.

Without a lifespan the database is connected at the first request: most of these tests run none, and
their projects turn every warning into an error.
"""

from __future__ import annotations

import functools
import importlib
import os
import tempfile
from typing import Any, Final

import pytest

__all__: list[str] = []

_CLIENTS: Final = (
    ("starlette.testclient", "TestClient"),
    ("httpx", "ASGITransport"),
    ("httpx2", "ASGITransport"),
)
_wrapped = 0

if os.environ.get("SUITES_APPLICATIONS") == "wrapped":
    from asgi_dbconn import Registry

    models = Registry(f"sqlite:///{tempfile.mkdtemp(prefix='suites-')}/database.sqlite")

    def _wrap(client: Any) -> None:
        original = client.__init__

        @functools.wraps(original)
        def initialise(self: Any, app: Any, *args: Any, **options: Any) -> None:
            global _wrapped
            _wrapped += 1
            original(self, models.asgi(app, without_lifespan="connect"), *args, **options)

        client.__init__ = initialise

    for _module, _name in _CLIENTS:
        _wrap(getattr(importlib.import_module(_module), _name))

    def pytest_sessionfinish(session: pytest.Session) -> None:
        recorder: Any = session.config.pluginmanager.get_plugin("recorder")
        notes = recorder.notes
        notes["applications"] = _wrapped
        notes["connected at the end"] = models.is_connected
