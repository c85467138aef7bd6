"""Flask whose module uses the database while it is imported: with --preload, before the fork."""

from __future__ import annotations

from asgi_dbconn import run_sync
from tests.wsgi.apps import bank
from tests.wsgi.apps.bank import models
from tests.wsgi.apps.flask_bank import create_app

app = create_app()
app.wsgi_app = models.wsgi(app.wsgi_app)  # type: ignore[method-assign]

assert app.test_client().get("/names").status_code == 200  # a request, in the parent

with models.with_async_env():
    run_sync(models.create_all())
    bank.names()
