"""Django: it raises at a lifespan; the project around it is the one of the page's samples."""

from __future__ import annotations

from typing import Any

from django.core.asgi import get_asgi_application

from tests.connection_page import django_project  # one process has one Django project
from tests.frameworks.parts import Framework, Parts


class DjangoAdapter(Framework):
    name = "django"
    has_lifespan = False

    def app(self, parts: Parts) -> Any:
        django_project.User = parts.User
        return get_asgi_application()
