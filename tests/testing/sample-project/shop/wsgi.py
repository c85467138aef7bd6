from __future__ import annotations

from flask import Flask

from asgi_dbconn import run_sync
from shop.models import Order, models

wsgi_app = Flask("shop")


@wsgi_app.post("/orders/<customer>")
def place(customer: str) -> str:
    run_sync(Order.query.create(customer=customer))
    return str(run_sync(Order.query.count()))


wsgi_app.wsgi_app = models.wsgi(wsgi_app.wsgi_app)  # type: ignore[method-assign]
