"""The demo's routes, and the line that connects the databases for the application's lifespan."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from asgi_dbconn.demo.models import Entry, Note, models

__all__ = ["TRY_THIS", "app"]

_log = logging.getLogger("asgi_dbconn.demo")

_BEYOND = 2**31  # the first number that does not fit into an INTEGER column
_TIME = "%Y-%m-%dT%H:%M:%SZ"

TRY_THIS = """\
curl {url}/notes --json '{{"text": "buy milk"}}'   write a note
curl {url}/notes                                 read them all
curl "{url}/notes?search=milk"                   read some
curl {url}/notes/1                               read one
curl -X DELETE {url}/notes/1                     forget it
curl {url}/audit                                 what happened, from the other database
"""


async def index(request: Request) -> Response:
    url = str(request.base_url).rstrip("/")
    return PlainTextResponse(f"Notes, kept by asgi-dbconn. Try:\n\n{TRY_THIS.format(url=url)}")


async def list_notes(request: Request) -> Response:
    query = Note.query.order_by("-id").limit(100)
    if search := request.query_params.get("search"):
        query = query.filter(Note.text.icontains(search, autoescape=True))
    return JSONResponse([_as_json(note) for note in await query])


async def write_note(request: Request) -> Response:
    try:
        text = (await request.json())["text"]
        text.encode()  # half a surrogate pair is valid JSON, but no database stores it
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        text = ""
    if not text.strip():
        return JSONResponse({"error": 'send a JSON object like {"text": "buy milk"}'}, 422)
    note = await Note.query.create(text=text)
    await Entry.query.create(event="written", note_id=note.id)
    return JSONResponse(_as_json(note), 201)


async def read_note(request: Request) -> Response:
    number = request.path_params["id"]
    note = await Note.query.get_or_none(number) if number < _BEYOND else None
    if note is None:
        return JSONResponse({"error": "there is no such note"}, 404)
    return JSONResponse(_as_json(note))


async def delete_note(request: Request) -> Response:
    number = request.path_params["id"]
    if number >= _BEYOND or not await Note.query.filter(Note.id == number).delete():
        return JSONResponse({"error": "there is no such note"}, 404)
    await Entry.query.create(event="deleted", note_id=number)
    return Response(status_code=204)


async def audit(_: Request) -> Response:
    entries = await Entry.query.order_by("id").limit(100)
    return JSONResponse(
        [
            {"event": entry.event, "note": entry.note_id, "at": f"{entry.happened_at:{_TIME}}"}
            for entry in entries
        ]
    )


def _as_json(note: Note) -> dict[str, Any]:
    return {"id": note.id, "text": note.text, "written_at": f"{note.written_at:{_TIME}}"}


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    # The application's own startup and shutdown run while the databases are connected.
    await models.create_all()
    yield
    _log.info("notes at the end: %d", await Note.query.count())


app = models.asgi(
    Starlette(
        routes=[
            Route("/", index),
            Route("/notes", list_notes),
            Route("/notes", write_note, methods=["POST"]),
            Route("/notes/{id:int}", read_note),
            Route("/notes/{id:int}", delete_note, methods=["DELETE"]),
            Route("/audit", audit),
        ],
        lifespan=lifespan,
    )
)
