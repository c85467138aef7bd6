"""Starlette: `uvicorn examples.starlette_app:app`."""

from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from examples.notes import Note, models


async def notes(request):
    if request.method == "POST":
        await Note.query.create(text=(await request.json())["text"])
    return JSONResponse([note.text for note in await Note.query.order_by("id")])


@asynccontextmanager
async def lifespan(app):
    await models.create_all()  # connected already
    yield
    print(f"{await Note.query.count()} notes at shutdown")  # and still connected


routes = [Route("/notes", notes, methods=["GET", "POST"])]
app = models.asgi(Starlette(routes=routes, lifespan=lifespan))
