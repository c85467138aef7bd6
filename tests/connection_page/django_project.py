"""The Django project around the page's Django sample: one asynchronous view."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.urls import path

User: Any = None

if not settings.configured:
    settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="a test")


async def users(request: HttpRequest) -> JsonResponse:
    return JsonResponse([user.name for user in await User.query.all()], safe=False)


urlpatterns = [path("users", users)]
