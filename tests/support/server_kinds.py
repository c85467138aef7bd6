"""The other servers besides Uvicorn, each a process that says on which port it listens."""

from __future__ import annotations

import re
import sys

from tests.support.ports import LOOPBACK
from tests.support.servers import ServerProcess


class HypercornProcess(ServerProcess):
    """Hypercorn, which serves from a child process unless `args` say `--workers 0`."""

    def command(self) -> list[str]:
        hypercorn = [sys.executable, "-m", "hypercorn", self.app]
        return [*hypercorn, "--bind", f"{LOOPBACK}:0", *self.args]


class GranianProcess(ServerProcess):
    """Granian, which announces the port it was asked for, and not the one it listens on."""

    def command(self) -> list[str]:
        granian = [sys.executable, "-m", "granian", self.app, "--interface", "asgi"]
        return [*granian, "--host", LOOPBACK, "--port", "0", *self.args]

    def find_port(self) -> int | None:
        if "Started worker-" not in self.log:
            return None
        return next(iter(self.ports()), None)


class GunicornProcess(ServerProcess):
    """Gunicorn with its own ASGI worker; its arbiter listens before a worker can answer."""

    listening = re.compile(rf"ASGI server listening on http://{re.escape(LOOPBACK)}:(\d+)")

    def command(self) -> list[str]:
        gunicorn = [sys.executable, "-m", "gunicorn", self.app, "--worker-class", "asgi"]
        return [*gunicorn, "--no-control-socket", "--bind", f"{LOOPBACK}:0", *self.args]


class DaphneProcess(ServerProcess):
    """Daphne, which knows no lifespan."""

    listening = re.compile(rf"Listening on TCP address {re.escape(LOOPBACK)}:(\d+)")

    def command(self) -> list[str]:
        daphne = [sys.executable, "-m", "daphne", self.app]
        return [*daphne, "--bind", LOOPBACK, "--port", "0", *self.args]
