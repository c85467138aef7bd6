"""One Django project with synchronous and asynchronous views, served by ASGI and by WSGI."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from tests.wsgi.apps import bank
from tests.wsgi.apps.bank import Answer, models


def respond(answer: Answer) -> HttpResponse:
    said, status = answer
    return JsonResponse(said, status=status)


def names(request: HttpRequest) -> HttpResponse:
    return respond(bank.names())


def balance(request: HttpRequest, account: int) -> HttpResponse:
    return respond(bank.balance(account))


def open_account(request: HttpRequest, name: str) -> HttpResponse:
    return respond(bank.open_account(name))


def transfer(request: HttpRequest, **accounts: Any) -> HttpResponse:
    return respond(bank.transfer(**accounts))


async def names_async(request: HttpRequest) -> HttpResponse:
    return respond(await bank.names_async())


async def transfer_async(request: HttpRequest, **accounts: Any) -> HttpResponse:
    return respond(await bank.transfer_async(**accounts))


TRANSFER = "transfer/<int:giver>/<int:taker>/<int:amount>"

urlpatterns = [
    path("names", names),
    path("balance/<int:account>", balance),
    path("open/<name>", open_account),
    path(TRANSFER, transfer),
    path("async/names", names_async),
    path(f"async/{TRANSFER}", transfer_async),
]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="a test")

asgi = models.asgi(get_asgi_application(), handle_lifespan=True)
wsgi = models.wsgi(get_wsgi_application())
