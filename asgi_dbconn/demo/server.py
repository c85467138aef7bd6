"""The demo's server, on SQLite files that are deleted when it ends."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn

__all__ = ["serve"]


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.started:
            return
        # Imported here, after the environment variables with the databases' URLs are set.
        from asgi_dbconn.demo.app import TRY_THIS

        host, port = self.servers[0].sockets[0].getsockname()[:2]
        url = f"http://{host}:{port}"
        print(f"\nNotes are served at {url}  (Ctrl-C ends it)\n\n{TRY_THIS.format(url=url)}")
        sys.stdout.flush()


def serve(host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve until Ctrl-C or SIGTERM.

    NOTES_DATABASE_URL and AUDIT_DATABASE_URL name databases to use instead of the temporary ones.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s:     %(name)s: %(message)s")
    # uvicorn shuts down first and then raises the signal again. By default that would end the
    # process immediately, and leave the files behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with TemporaryDirectory(prefix="asgi-dbconn-demo-") as folder:
        for name in ("notes", "audit"):
            path = Path(folder, f"{name}.sqlite")
            os.environ.setdefault(f"{name.upper()}_DATABASE_URL", f"sqlite:///{path}")
        server = _Server(uvicorn.Config("asgi_dbconn.demo.app:app", host=host, port=port))
        # The terminal was closed: uvicorn does not handle this signal, so it is a shutdown here.
        signal.signal(signal.SIGHUP, lambda *_: setattr(server, "should_exit", True))
        try:
            server.run()
        except KeyboardInterrupt:
            print("Bye.")
        if not server.started:
            print(f"Not served. If port {port} is taken, choose another: --port 8001")
            sys.exit(3)
