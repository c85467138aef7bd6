"""The servers as users start them, with a lifespan and without one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import pytest

from tests.servers.watching import ROOT
from tests.support.server_kinds import (
    DaphneProcess,
    GranianProcess,
    GunicornProcess,
    HypercornProcess,
)
from tests.support.servers import ServerProcess, UvicornProcess

OBSERVED: Final = "tests.servers.apps.observed:app"


@dataclass(frozen=True)
class Kind:
    """A server, and the arguments that make it what the name says."""

    name: str
    process: type[ServerProcess]
    args: tuple[str, ...] = ()

    def serve(self, env: Mapping[str, str], *args: str, app: str = OBSERVED) -> ServerProcess:
        """The application in this server."""
        return self.process(app, cwd=ROOT, env=env, args=[*self.args, *args])

    def __str__(self) -> str:
        return self.name


UVICORN: Final = Kind("uvicorn", UvicornProcess)
HYPERCORN: Final = Kind("hypercorn", HypercornProcess)
GRANIAN: Final = Kind("granian", GranianProcess)
GUNICORN: Final = Kind("gunicorn", GunicornProcess)
DAPHNE: Final = Kind("daphne", DaphneProcess)

WITH_LIFESPAN: Final = (
    UVICORN,
    Kind("uvicorn --lifespan on", UvicornProcess, ("--lifespan", "on")),
    HYPERCORN,
    GRANIAN,
    GUNICORN,
)
WITHOUT_LIFESPAN: Final = (
    Kind("uvicorn --lifespan off", UvicornProcess, ("--lifespan", "off")),
    Kind("granian asginl", GranianProcess, ("--interface", "asginl")),
    Kind("gunicorn --asgi-lifespan off", GunicornProcess, ("--asgi-lifespan", "off")),
    DAPHNE,
)


# Its issue 308: before it looks at its graceful timeout, it waits for the listening socket to
# close, which since Python 3.12.1 means all connections too.
hypercorn_loses_patience = pytest.mark.skipif(
    sys.version_info >= (3, 12, 1), reason="hypercorn waits for its clients without a limit here"
)


def on_each(*kinds: Kind) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("kind", kinds, ids=str)
