"""A PostgreSQL data directory of our own and the server process that serves it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Literal

from tests.support.guardian import Guardian
from tests.support.ports import LOOPBACK, free_port
from tests.support.postgres_directory import data_directory, program_directory
from tests.support.postgres_install import (
    copy_install,
    find_install,
    is_reachable,
    server_account,
)
from tests.support.waiting import wait_until

StopMode = Literal["smart", "fast", "immediate"]

SUPERUSER = "postgres"
SECRET_USER = "secret_user"

_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    # Nothing has to survive a crash of the machine.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    # No background work that would make one run differ from another.
    "autovacuum": "off",
    "jit": "off",
    "io_method": "sync",
    # Shared memory as files of the data directory, which are removed together with it.
    "dynamic_shared_memory_type": "mmap",
    "log_line_prefix": "%m [%p] %a ",
}

# The first line that fits decides.
_ACCESS = f"""\
host all {SECRET_USER} {LOOPBACK}/32 scram-sha-256
host all all {LOOPBACK}/32 trust
"""

# The process id is read from the server's own file, which exists only while the server runs.
_CLEAN_UP = """\
pid=$(head -n 1 "$1/data/postmaster.pid") && kill -QUIT "$pid"
tries=0
while [ -e "$1/data/postmaster.pid" ] && [ "$tries" -lt 100 ]; do
    tries=$((tries + 1)); sleep 0.05
done
rm -rf "$@"
"""


class PostgresCluster:
    """Creates the data directory at once; `start` and `stop` may follow each other any number
    of times, always with the same port; `remove` leaves nothing behind."""

    def __init__(self, install: Path | None = None) -> None:
        self._account = server_account()
        self._process: subprocess.Popen[bytes] | None = None
        install = install or find_install()
        self._directory = data_directory(self._account)
        self._copied: Path | None = None
        if not is_reachable(install, self._account):
            self._copied = program_directory(self._account)
        self._directories = [path for path in (self._directory, self._copied) if path]
        self._guardian = Guardian(_CLEAN_UP, *map(str, self._directories))
        self._data = self._directory / "data"
        self._log = self._directory / "log"
        self.port = free_port()
        try:
            if self._copied is not None:
                install = copy_install(install, self._copied)
            self._programs = install / "bin"
            self._initialise()
        except BaseException:
            self.remove()
            raise

    @property
    def directory(self) -> Path:
        return self._directory

    @property
    def programs(self) -> Path:
        """The directory with the programs that are run."""
        return self._programs

    @property
    def pid(self) -> int | None:
        """The process id of the server while it runs."""
        return None if self._process is None else self._process.pid

    @property
    def log(self) -> str:
        """What the server has written so far, over all its starts."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def start(self) -> None:
        """Return when the server accepts connections."""
        if self._process is not None:
            raise RuntimeError("the server runs already")
        # Between the choice of a port and its use another process may have taken it. That is
        # repaired only before anybody can know the port.
        attempts = 1 if self._log.exists() else 5
        for left in reversed(range(attempts)):
            if self._launch():
                return
            if not left or "could not create any TCP/IP sockets" not in self.log:
                raise RuntimeError(f"PostgreSQL did not start:\n{self.log}")
            self.port = free_port()

    def stop(self, mode: StopMode = "fast", timeout: float = 30.0) -> None:
        """Return when the server has ended; `smart` waits until its clients have gone."""
        if self._process is None:
            raise RuntimeError("the server does not run")
        self._process.send_signal(_SIGNALS[mode])
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"PostgreSQL did not stop ({mode}) within {timeout} s") from None
        self._process = None

    def remove(self) -> None:
        """End the server, if it runs, and delete its files."""
        if self._process is not None:
            # The data is deleted next, so that no time is spent on writing it.
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        for directory in self._directories:
            shutil.rmtree(directory, ignore_errors=True)
        self._guardian.release()

    def _initialise(self) -> None:
        command = [
            *(str(self._programs / "initdb"), "--pgdata", str(self._data)),
            *("--username", SUPERUSER, "--auth=trust", "--no-sync", "--no-instructions"),
            *("--encoding=UTF8", "--locale=C"),
        ]
        ran = subprocess.run(
            command,
            cwd=self._directory,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            **self._account,
        )
        if ran.returncode:
            raise RuntimeError(f"initdb failed with {ran.returncode}:\n{ran.stdout}")
        lines = [f"{name} = '{value}'\n" for name, value in _SETTINGS.items()]
        (self._data / "postgresql.auto.conf").write_text("".join(lines))
        (self._data / "pg_hba.conf").write_text(_ACCESS)

    def _launch(self) -> bool:
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, "-p", str(self.port)],
                cwd=self._directory,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # An interrupt typed at the terminal is for the tests, which then end the server.
                start_new_session=True,
                **self._account,
            )
        self._process = process
        wait_until(
            lambda: process.poll() is not None or self._is_ready(process.pid),
            timeout=60,
            message=lambda: f"PostgreSQL accepts connections:\n{self.log}",
        )
        if process.returncode is None:
            return True
        self._process = None
        return False

    def _is_ready(self, pid: int) -> bool:
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        # The first line tells a file that a killed server left from the one of this start.
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _environment() -> dict[str, str]:
    # Nothing of the caller's: variables such as PGDATA and PGPORT would change what is started.
    return {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath}
