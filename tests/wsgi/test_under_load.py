"""Synchronous views of real applications, in real servers, for fifty clients at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.servers.watching import ENDED_BY_SIGTERM, lives, who_stays
from tests.support.postgres import PostgresServer, Session
from tests.support.servers import ServerProcess
from tests.wsgi.customers import Day, books, errands, expected_books, open_the_bank, serve
from tests.wsgi.servers import FLASK, POOL_SIZE, WORKERS, asgi, gunicorn, waitress

pytestmark = [pytest.mark.server, pytest.mark.postgres]

ERRANDS = 300
INSIDE = "tests.wsgi.apps.flask_bank:inside"
WARM = "tests.wsgi.apps.flask_warm:app"
DJANGO = "tests.wsgi.apps.django_bank"
FASTAPI = "tests.wsgi.apps.fastapi_bank:app"

Serve = Callable[[str], ServerProcess]


@dataclass(frozen=True)
class Kind:
    """An application in a server."""

    serve: Serve
    workers: int = 1
    views: tuple[str, ...] = ("",)
    """Where its synchronous views are, and its asynchronous ones."""
    loop_threads: tuple[str, ...] = ("asgi-dbconn wsgi",)
    pools: int | None = 1
    """In each process; None where each asynchronous view has a loop of its own."""
    parents: int = 0
    """Processes that use the database and serve nobody, each with one connection."""
    ends_with: int = 0


BOTH = ("", "/async")
KINDS = {
    "flask-gunicorn": Kind(lambda url: gunicorn(FLASK, url), WORKERS),
    "flask-gunicorn-preload": Kind(lambda url: gunicorn(FLASK, url, "--preload"), WORKERS),
    "flask-gunicorn-used-before-fork": Kind(
        lambda url: gunicorn(WARM, url, "--preload"), WORKERS, parents=1
    ),
    "flask-wsgi_app-gunicorn": Kind(lambda url: gunicorn(INSIDE, url), WORKERS),
    "flask-wsgi_app-waitress": Kind(lambda url: waitress(INSIDE, url)),
    "django-wsgi-gunicorn": Kind(
        lambda url: gunicorn(f"{DJANGO}:wsgi", url, MAX_CONNECTIONS=str(POOL_SIZE)),
        WORKERS,
        BOTH,
        pools=None,
    ),
    "django-asgi-uvicorn": Kind(
        lambda url: asgi(f"{DJANGO}:asgi", url), 1, BOTH, (), ends_with=ENDED_BY_SIGTERM
    ),
    "fastapi-uvicorn": Kind(
        lambda url: asgi(FASTAPI, url), 1, BOTH, (), ends_with=ENDED_BY_SIGTERM
    ),
}


@dataclass(frozen=True)
class Life:
    """One server from its start to its end, and what was seen of it."""

    kind: Kind
    day: Day
    books: dict[str, int]
    returncode: int
    left: list[Session]
    log: str


@pytest.fixture(scope="module", params=KINDS)
def life(request: pytest.FixtureRequest, postgres: PostgresServer) -> Iterator[Life]:
    kind = KINDS[request.param]
    with postgres.database() as url:
        open_the_bank(postgres, url)
        with kind.serve(url) as server:
            day = serve(server, postgres, url, errands(ERRANDS, kind.views), kind.workers)
            server.terminate()
            returncode = server.wait(10)
            left = who_stays(postgres, url)
        yield Life(kind, day, books(postgres, url), returncode, left, server.log)


def test_every_answer_is_right(life: Life) -> None:
    assert life.day.wrong == []


def test_what_was_answered_is_in_the_database_and_nothing_else(life: Life) -> None:
    assert life.books == expected_books(errands(ERRANDS, life.kind.views))


def test_every_process_has_one_loop_for_its_synchronous_views(life: Life) -> None:
    assert len(life.day.values("worker")) == life.kind.workers
    assert life.day.values("loop_threads") == [list(life.kind.loop_threads)]


def test_every_process_has_one_pool(life: Life) -> None:
    if life.kind.pools is None:
        assert 1 in life.day.values("pools")  # all synchronous views together
    else:
        assert life.day.values("pools") == [life.kind.pools]


def test_there_are_never_more_connections_than_allowed(life: Life) -> None:
    # Where views have loops of their own, connections come and go with them.
    most = life.day.most if life.kind.pools is not None else life.day.most_staying
    assert 0 < most <= life.kind.workers * POOL_SIZE + life.kind.parents


def test_no_query_is_unconnected_and_nothing_is_complained_about(life: Life) -> None:
    assert life.day.values("transient_uses") == [0]
    assert "Traceback" not in life.log
    assert "DatabaseNotConnectedWarning" not in life.log
    assert "UnclosedDatabaseWarning" not in life.log
    assert "unclosed connection" not in life.log


def test_every_process_disconnects_in_order_and_nobody_stays(life: Life) -> None:
    """Scenario 52, and the same for every other server."""
    assert life.left == []
    assert life.returncode == life.kind.ends_with, life.log
    ends = [live for live in lives(life.log) if live != "connected"]
    assert len(ends) == life.kind.workers + life.kind.parents
    assert all("0 cancelled, 0 cut" in end for end in ends), ends
