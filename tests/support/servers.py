"""An ASGI application in a real server, which is a process of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ClassVar, Self

import httpx

from tests.support.guardian import Guardian
from tests.support.ports import LOOPBACK
from tests.support.server_ports import listening_ports
from tests.support.waiting import wait_until

# The server leads a process group of its own, in which its workers are too.
_NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Instead of all that the system knows, which would take longer to load than a request does."""
_CLEAN_UP = 'kill -s KILL -- "-$1"'


class ServerExited(Exception):
    """The server ended before it could answer."""

    def __init__(self, returncode: int, log: str) -> None:
        super().__init__(f"the server ended with {returncode} before it could answer:\n{log}")
        self.returncode = returncode
        self.log = log


class ServerProcess(ABC):
    """Runs from entering its context, which waits for the server, to leaving it.

    A server that ends while it starts raises `ServerExited`, with its exit code and its log. One
    that does not end within `shutdown_timeout` after SIGTERM, when the context is left, is killed
    and raises TimeoutError.
    """

    # Finds the port in what the server writes when it listens.
    listening: ClassVar[re.Pattern[str]] = re.compile(rf"https?://{re.escape(LOOPBACK)}:(\d+)")

    def __init__(
        self,
        app: str,
        *,
        cwd: Path | str,
        env: Mapping[str, str] | None = None,
        args: Sequence[str] = (),
        startup_timeout: float = 30.0,
        shutdown_timeout: float = 15.0,
    ) -> None:
        self.app = app
        self.args = tuple(args)
        self._cwd = cwd
        self._env = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        self._startup_timeout = startup_timeout
        self._shutdown_timeout = shutdown_timeout
        self._started: subprocess.Popen[bytes] | None = None
        self._guardian: Guardian | None = None
        self._output: IO[bytes] | None = None
        self._log = ""
        self._port: int | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """The command that serves `app` on a free port of the loopback address, with `args`."""

    def __enter__(self) -> Self:
        try:
            self.start()
            self.wait_started()
        except BaseException:
            self.kill()
            self._release()
            raise
        return self

    @contextmanager
    def starting(self) -> Iterator[Self]:
        """Like the context itself, for a server that may never listen: nothing is waited for.

        Whatever is left of it when the context is left is killed.
        """
        try:
            self.start()
            yield self
        finally:
            self.kill()
            self._release()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self.returncode is None:
                self.terminate()
                try:
                    self.wait(self._shutdown_timeout)
                except TimeoutError:
                    # The error of the test itself is the more interesting one.
                    if error is None:
                        raise
        finally:
            self.kill()
            self._release()

    def start(self) -> None:
        """Start the process without waiting for it to listen; entering the context does both."""
        if self._started is not None:
            raise RuntimeError("this server has been started already")
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by _release
        self._started = subprocess.Popen(
            self.command(),
            cwd=self._cwd,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,
        )
        self._guardian = Guardian(_CLEAN_UP, str(self._started.pid))

    def wait_started(self) -> None:
        """Return when the server accepts connections."""
        wait_until(
            lambda: self._process.poll() is not None or self._accepts(),
            self._startup_timeout,
            message=lambda: f"the server listens:\n{self.log}",
        )
        if self._process.returncode is not None:
            raise ServerExited(self._process.returncode, self.log)

    def find_port(self) -> int | None:
        """The port, as soon as the server has said that it listens."""
        found = self.listening.search(self.log)
        return int(found[1]) if found else None

    def ports(self) -> set[int]:
        """Where the server or one of its workers listens, announced or not; Linux only."""
        return listening_ports(self.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """How the process ended (the negative number of a signal), or None while it runs."""
        return self._process.poll()

    @property
    def port(self) -> int:
        if self._port is None:
            raise RuntimeError("the server does not listen yet")
        return self._port

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def log(self) -> str:
        """What the server and the application have written so far to either output."""
        if self._output is not None:
            # Read without moving the position at which the server writes.
            file = self._output.fileno()
            self._log = os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")
        return self._log

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, json: object = None, **options: Any) -> httpx.Response:
        return self.request("POST", path, json=json, **options)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask with a connection of its own, so that none is left to delay a shutdown.

        And with a client of its own: threads that share one close each other's connections.
        """
        with httpx.Client(
            base_url=self.url, timeout=30, trust_env=False, verify=_NO_CERTIFICATES
        ) as client:
            return client.request(method, path, **options)

    def terminate(self) -> None:
        """Send SIGTERM and return at once."""
        self._process.send_signal(signal.SIGTERM)

    def interrupt(self) -> None:
        """Send SIGINT and return at once."""
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """Kill the process and its workers, if it still runs."""
        if self._started is not None and self._started.poll() is None:
            os.killpg(self._started.pid, signal.SIGKILL)
            self._started.wait()

    def wait(self, timeout: float) -> int:
        """The exit code, once the process has ended."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the server runs on after {timeout} s:\n{self.log}") from None

    @property
    def _process(self) -> subprocess.Popen[bytes]:
        if self._started is None:
            raise RuntimeError("the server has not been started")
        return self._started

    def _accepts(self) -> bool:
        port = self.find_port()
        if port is None:
            return False
        # Some servers announce the port before a worker of theirs listens.
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex((LOOPBACK, port)):
                return False
        self._port = port
        return True

    def _release(self) -> None:
        if self._guardian is not None:
            self._guardian.release()
        if self._output is not None:
            # The log outlives the file.
            self._log = self.log
            self._output.close()
            self._output = None


class UvicornProcess(ServerProcess):
    """Uvicorn, of which the log level must be `info` or lower, because its log tells the port."""

    def command(self) -> list[str]:
        uvicorn = [sys.executable, "-m", "uvicorn", self.app]
        return [*uvicorn, "--host", LOOPBACK, "--port", "0", *self.args]
