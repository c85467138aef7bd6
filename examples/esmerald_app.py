"""Esmerald (with `lilya<0.24`): `uvicorn examples.esmerald_app:app`."""

from contextlib import asynccontextmanager
from typing import Any

from esmerald import Esmerald, Gateway, get, post

from examples.notes import Note, models


@get("/notes")
async def read() -> list[str]:
    return [note.text for note in await Note.query.order_by("id")]


@post("/notes", status_code=200)
async def write(data: dict[str, Any]) -> list[str]:
    await Note.query.create(text=data["text"])
    return [note.text for note in await Note.query.order_by("id")]


@asynccontextmanager
async def lifespan(app: Esmerald):
    await models.create_all()  # connected already
    yield
    print(f"{await Note.query.count()} notes at shutdown")  # and still connected


app = models.asgi(
    Esmerald(routes=[Gateway(handler=read), Gateway(handler=write)], lifespan=lifespan)
)
