"""FastAPI around the bank, with endpoints that run in its threadpool and some that do not."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from tests.wsgi.apps import bank
from tests.wsgi.apps.bank import Answer, models

api = FastAPI()


def respond(answer: Answer) -> Response:
    said, status = answer
    return JSONResponse(said, status)


@api.get("/names")
def names() -> Response:
    return respond(bank.names())


@api.get("/balance/{account}")
def balance(account: int) -> Response:
    return respond(bank.balance(account))


@api.post("/open/{name}")
def open_account(name: str) -> Response:
    return respond(bank.open_account(name))


@api.post("/transfer/{giver}/{taker}/{amount}")
def transfer(giver: int, taker: int, amount: int) -> Response:
    return respond(bank.transfer(giver, taker, amount))


@api.get("/async/names")
async def names_async() -> Response:
    return respond(await bank.names_async())


@api.post("/async/transfer/{giver}/{taker}/{amount}")
async def transfer_async(giver: int, taker: int, amount: int) -> Response:
    return respond(await bank.transfer_async(giver, taker, amount))


app = models.asgi(api)
