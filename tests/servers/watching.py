"""Where the served applications find things, and what PostgreSQL sees of them."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from tests.support.postgres import PostgresServer, Session
from tests.support.servers import ServerExited, UvicornProcess
from tests.support.waiting import wait_until

ROOT: Final = Path(__file__).parents[2]

# Uvicorn's own configuration leaves all other loggers silent below WARNING.
SHOW_OUR_LOG: Final = ("--log-config", str(Path(__file__).with_name("logging.json")))

# Uvicorn shuts down in order and then raises the signal again; its command line takes Ctrl-C for
# an ordinary end.
ENDED_BY_SIGTERM: Final = -signal.SIGTERM
ENDED_BY_CTRL_C: Final = 0
FAILED_TO_START: Final = 3

PASSWORD: Final = "hunter2"


def uvicorn(app: str, env: Mapping[str, str], *args: str) -> UvicornProcess:
    """The application ``app`` of this project, with our log lines in its log."""
    return UvicornProcess(app, cwd=ROOT, env=env, args=[*SHOW_OUR_LOG, *args])


def failed_start(app: str, env: Mapping[str, str]) -> ServerExited:
    """How the server ended that could not start; raises AssertionError if it could."""
    try:
        with uvicorn(app, env):
            pass
    except ServerExited as error:
        return error
    raise AssertionError("the server has started")


def with_password(url: str, password: str = PASSWORD) -> str:
    """The same URL with a password in it, which a server that trusts us does not look at."""
    parts = urlsplit(url)
    if parts.password is not None:
        return url
    user, at, place = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}:{password}{at}{place}"))


def sessions(postgres: PostgresServer, url: str) -> list[Session]:
    """Who is connected to the database that ``url`` names."""
    return postgres.sessions(database=name_in(url))


def who_stays(postgres: PostgresServer, *urls: str) -> list[Session]:
    """Who is still connected to one of the databases after a second."""

    def connected() -> list[Session]:
        return [session for url in urls for session in sessions(postgres, url)]

    with suppress(AssertionError):
        wait_until(lambda: not connected(), 1.0)
    return connected()


def assert_nobody_connected(postgres: PostgresServer, *urls: str) -> None:
    """Raise AssertionError if anybody is connected to one of the databases after a second."""
    assert who_stays(postgres, *urls) == []


def sleeping(postgres: PostgresServer, url: str) -> list[Session]:
    """Who lets the database sleep at this moment."""
    return [
        session
        for session in sessions(postgres, url)
        if session.state == "active" and "pg_sleep" in session.query
    ]


def name_in(url: str) -> str:
    """The name of the database."""
    return urlsplit(url).path.removeprefix("/")


def in_order(log: str, *texts: str) -> bool:
    """Whether each of `texts` is in `log`, and each after the one before it."""
    position = 0
    for text in texts:
        position = log.find(text, position) + len(text)
        if position < len(text):
            return False
    return True


def lives(log: str) -> list[str]:
    """What our log says of the databases' lives, one word for each line."""
    return re.findall(r"INFO asgi_dbconn: .+ (connected|disconnected: .+)$", log, re.MULTILINE)
