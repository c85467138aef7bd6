"""The runner of a test: anyio's plugin, pytest-asyncio in one of its loops, or pytest itself.

An async fixture is run by one plugin, on a loop that this plugin chooses. So what a test asks for
is a plain fixture, which looks at what runs the test, and asks for the fixture that belongs there.
"""

from __future__ import annotations

from typing import Final, Literal

import pytest

__all__ = ["LOOP_SCOPES", "LoopScope", "fixture_name", "fixture_of_runner"]

What = Literal["rollback", "client"]
LoopScope = Literal["function", "class", "module", "package", "session"]

LOOP_SCOPES: Final[tuple[LoopScope, ...]] = ("function", "class", "module", "package", "session")
"""Scopes of pytest-asyncio: a loop for each test, or one for all tests of a class, and so on."""


def fixture_of_runner(what: What, request: pytest.FixtureRequest) -> str:
    """Return the name of the fixture that does it on the loop of the test that asks."""
    marker = request.node.get_closest_marker("asyncio")
    if marker is not None and request.config.pluginmanager.has_plugin("asyncio"):
        default = request.config.getini("asyncio_default_test_loop_scope")
        return fixture_name(what, f"loop_of_{marker.kwargs.get('loop_scope') or default}")
    if "anyio_backend" in request.fixturenames:
        return fixture_name(what, "anyio")
    return fixture_name(what, "no_loop")


def fixture_name(what: What, runner: str) -> str:
    """Return a hidden name: pytest does not list what begins with an underscore."""
    return f"_dbconn_{what}_with_{runner}"
