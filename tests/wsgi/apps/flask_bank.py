"""Flask around the bank, in both forms that a Flask application can be wrapped in."""

from __future__ import annotations

from flask import Flask

from tests.wsgi.apps import bank
from tests.wsgi.apps.bank import Answer, models


def create_app() -> Flask:
    app = Flask("bank")

    @app.get("/alive")
    def alive() -> str:
        return "alive"

    @app.get("/names")
    def names() -> Answer:
        return bank.names()

    @app.get("/balance/<int:account>")
    def balance(account: int) -> Answer:
        return bank.balance(account)

    @app.post("/open/<name>")
    def open_account(name: str) -> Answer:
        return bank.open_account(name)

    @app.post("/transfer/<int:giver>/<int:taker>/<int:amount>")
    def transfer(giver: int, taker: int, amount: int) -> Answer:
        return bank.transfer(giver, taker, amount)

    return app


app = models.wsgi(create_app())

inside = create_app()
inside.wsgi_app = models.wsgi(inside.wsgi_app)  # type: ignore[method-assign]
