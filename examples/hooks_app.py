"""Startup and shutdown hooks instead of a wrapper: `uvicorn examples.hooks_app:app`."""

from fastapi import Body, FastAPI

from examples.notes import Note, models


async def last_words():
    print(f"{await Note.query.count()} notes at shutdown")


app = FastAPI(
    on_startup=[models.__aenter__, models.create_all],
    on_shutdown=[last_words, models.__aexit__],
)


@app.get("/notes")
async def read() -> list[str]:
    return [note.text for note in await Note.query.order_by("id")]


@app.post("/notes")
async def write(text: str = Body(embed=True)) -> list[str]:
    await Note.query.create(text=text)
    return await read()
