"""WSGI servers as processes, as users start them, and strict about our warnings."""

from __future__ import annotations

import sys
from typing import Final

from tests.servers.watching import ROOT, uvicorn
from tests.support.ports import LOOPBACK
from tests.support.servers import ServerProcess, UvicornProcess

FLASK: Final = "tests.wsgi.apps.flask_bank:app"
WORKERS: Final = 2
THREADS: Final = 4
POOL_SIZE: Final = 2


class GthreadProcess(ServerProcess):
    """Gunicorn with processes of several threads each."""

    def command(self) -> list[str]:
        gunicorn = [sys.executable, "-m", "gunicorn", self.app, "--worker-class", "gthread"]
        size = ["--workers", str(WORKERS), "--threads", str(THREADS)]
        return [*gunicorn, *size, "--no-control-socket", "--bind", f"{LOOPBACK}:0", *self.args]


class WaitressProcess(ServerProcess):
    """Waitress: one process of several threads."""

    def command(self) -> list[str]:
        waitress = [sys.executable, "-m", "waitress", f"--threads={THREADS}"]
        return [*waitress, f"--listen={LOOPBACK}:0", *self.args, self.app]

    def terminate(self) -> None:
        """Press Ctrl-C: SIGTERM would end it on the spot."""
        self.interrupt()


def gunicorn(app: str, url: str, *args: str, **env: str) -> GthreadProcess:
    return GthreadProcess(app, cwd=ROOT, env=_environment(url, env), args=args)


def waitress(app: str, url: str, *args: str, **env: str) -> WaitressProcess:
    return WaitressProcess(app, cwd=ROOT, env=_environment(url, env), args=args)


def asgi(app: str, url: str, *args: str, **env: str) -> UvicornProcess:
    return uvicorn(app, _environment(url, env), *args)


def _environment(url: str, more: dict[str, str]) -> dict[str, str]:
    # DatabaseNotConnectedWarning is one of these; as an error, it fails the request.
    strict = "error::UserWarning,always::ResourceWarning"
    here = {"DATABASE_URL": url, "POOL_SIZE": str(POOL_SIZE), "PYTHONWARNINGS": strict}
    return {**here, **more}
