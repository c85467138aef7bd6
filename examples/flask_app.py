"""Flask, without `async`: `gunicorn --threads 8 examples.flask_app:app`."""

from flask import Flask, request

from asgi_dbconn import run_sync
from examples.notes import Note, models

app = Flask("notes")
app.wsgi_app = models.wsgi(app.wsgi_app)  # connected from the first request on


@app.get("/notes")
def read():
    return [note.text for note in run_sync(Note.query.order_by("id"))]


@app.post("/notes")
def write():
    run_sync(Note.query.create(text=request.json["text"]))
    return read()


@app.cli.command("create-tables")  # before: `flask --app examples.flask_app create-tables`
def create_tables():
    with models.with_async_env():
        run_sync(models.create_all())
