"""WebSockets that nobody closes do not keep a server, or its databases, from ending."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.servers.kinds import (
    GRANIAN,
    GUNICORN,
    HYPERCORN,
    UVICORN,
    Kind,
    hypercorn_loses_patience,
    on_each,
)
from tests.servers.watching import assert_nobody_connected, in_order, lives, name_in
from tests.support.ports import LOOPBACK
from tests.support.postgres import PostgresServer
from tests.support.servers import ServerProcess

pytestmark = [pytest.mark.server, pytest.mark.postgres]

# Seconds in which each server has to end: all have smaller timeouts of their own.
PATIENCE = 10


@contextmanager
def socket(server: ServerProcess, path: str, database: str) -> Iterator[ClientConnection]:
    """A WebSocket on which the application has answered from its database."""
    url = f"ws://{LOOPBACK}:{server.port}{path}"
    with connect(url, proxy=None, close_timeout=0.1) as connection:
        assert connection.recv(10) == database
        yield connection


@pytest.mark.parametrize("path", ["/idle", "/holding"])
@on_each(UVICORN, GRANIAN)
def test_the_databases_disconnect_although_a_socket_is_open(
    kind: Kind, path: str, postgres: PostgresServer, postgres_url: str
) -> None:
    """Scenario 41: also where the socket holds a connection in a transaction."""
    env = {"DATABASE_URL": postgres_url, "SHUTDOWN_TIMEOUT": "1"}
    with kind.serve(env) as server:
        with socket(server, path, name_in(postgres_url)):
            server.terminate()
            server.wait(PATIENCE)
            assert_nobody_connected(postgres, postgres_url)
        assert in_order(server.log, "the inner application stops", "disconnected: ")
        assert len(lives(server.log)) == 2


@hypercorn_loses_patience
@pytest.mark.parametrize("path", ["/idle", "/holding"])
def test_the_databases_disconnect_once_hypercorn_has_lost_its_patience(
    path: str, postgres: PostgresServer, postgres_url: str
) -> None:
    """Scenario 41: after its graceful timeout it cancels what the socket waits for."""
    env = {"DATABASE_URL": postgres_url, "SHUTDOWN_TIMEOUT": "1"}
    with HYPERCORN.serve(env, "--graceful-timeout", "1") as server:
        with socket(server, path, name_in(postgres_url)):
            server.terminate()
            server.wait(PATIENCE)
            assert_nobody_connected(postgres, postgres_url)
    assert in_order(server.log, "a socket ends", "the inner application stops", "disconnected: ")


@on_each(HYPERCORN, GUNICORN)
def test_the_databases_disconnect_once_the_client_has_gone(
    kind: Kind, postgres: PostgresServer, postgres_url: str
) -> None:
    """Scenario 41: the server waits for the client, and shuts the application down after that."""
    with kind.serve({"DATABASE_URL": postgres_url}) as server:
        with socket(server, "/holding", name_in(postgres_url)):
            server.terminate()
        server.wait(PATIENCE)
        assert_nobody_connected(postgres, postgres_url)
    assert in_order(server.log, "a socket ends", "the inner application stops", "disconnected: ")


def test_gunicorn_kills_its_worker_and_leaves_no_session(
    postgres: PostgresServer, postgres_url: str
) -> None:
    """Scenario 41: a client that stays costs the application its shutdown.

    Gunicorn's arbiter and its worker both count the graceful timeout, and the arbiter began first:
    it kills the worker, which no application survives in order.
    """
    with GUNICORN.serve({"DATABASE_URL": postgres_url}, "--graceful-timeout", "1") as server:
        with socket(server, "/holding", name_in(postgres_url)):
            server.terminate()
            server.wait(PATIENCE)
            assert_nobody_connected(postgres, postgres_url)
