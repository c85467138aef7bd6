from __future__ import annotations

from collections.abc import Iterator

import pytest
from shop.main import app
from shop.models import Order, models
from shop.wsgi import wsgi_app
from starlette.testclient import TestClient

from asgi_dbconn import LifespanMiddleware, run_sync


@pytest.fixture
def client(dbconn_tables: None) -> Iterator[TestClient]:
    with TestClient(LifespanMiddleware(app, models.rollback)) as client:
        yield client


@pytest.mark.parametrize("number", range(3))
def test_the_synchronous_client_is_rolled_back_too(client: TestClient, number: int) -> None:
    assert client.get("/orders").json() == []
    assert client.post("/orders?customer=ada").status_code == 201
    assert run_sync(Order.query.count()) == 1
    assert client.get("/orders").json() == ["ada"]


@pytest.mark.parametrize("number", range(3))
def test_synchronous_code_is_rolled_back_too(dbconn_rollback: None, number: int) -> None:
    assert run_sync(Order.query.count()) == 0
    run_sync(Order.query.create(customer="ada"))
    assert run_sync(Order.query.count()) == 1


@pytest.mark.parametrize("number", range(3))
def test_a_wsgi_application_is_rolled_back_too(dbconn_rollback: None, number: int) -> None:
    client = wsgi_app.test_client()
    assert client.post("/orders/ada").text == "1"
    assert run_sync(Order.query.count()) == 1
