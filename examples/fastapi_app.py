"""FastAPI: `uvicorn examples.fastapi_app:app`."""

from contextlib import asynccontextmanager

from fastapi import Body, FastAPI

from examples.notes import Note, models


@asynccontextmanager
async def lifespan(app):
    await models.create_all()  # connected already
    yield
    print(f"{await Note.query.count()} notes at shutdown")  # and still connected


api = FastAPI(lifespan=lifespan)


@api.get("/notes")
async def read() -> list[str]:
    return [note.text for note in await Note.query.order_by("id")]


@api.post("/notes")
async def write(text: str = Body(embed=True)) -> list[str]:
    await Note.query.create(text=text)
    return await read()


app = models.asgi(api)
