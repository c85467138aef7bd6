"""Mounted applications start inside of the one they are mounted in, and connected."""

from __future__ import annotations

import re

import pytest

from tests.servers.kinds import GRANIAN, GUNICORN, HYPERCORN, UVICORN, Kind, on_each
from tests.servers.watching import assert_nobody_connected, in_order, lives, name_in
from tests.support.postgres import PostgresServer

pytestmark = [pytest.mark.server, pytest.mark.postgres]

MOUNTING = "tests.servers.apps.mounting:app"


@on_each(UVICORN, HYPERCORN, GRANIAN, GUNICORN)
def test_included_applications_start_in_order_and_stop_in_reverse(
    kind: Kind, postgres: PostgresServer, postgres_url: str
) -> None:
    name = name_in(postgres_url)
    with kind.serve({"DATABASE_URL": postgres_url}, app=MOUNTING) as server:
        answers = [server.get(path).text for path in ("/", "/shop/", "/admin/")]
    assert_nobody_connected(postgres, postgres_url)
    assert answers == [
        f"{place} in {name}" for place in ("the main application", "the shop", "the admin")
    ]
    assert re.findall(rf"^(.+ (?:starts|stops)) in {name}$", server.log, re.MULTILINE) == [
        "the main application starts",
        "the shop starts",
        "the admin starts",
        "the admin stops",
        "the shop stops",
        "the main application stops",
    ]
    assert in_order(server.log, " connected", "application starts", "stops", " disconnected: ")
    assert lives(server.log) == ["connected", "disconnected: 1 closed, 0 cancelled, 0 cut"]
