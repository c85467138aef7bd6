"""Django, which has no lifespan of its own: `uvicorn examples.django_app:application`."""

import json

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import JsonResponse
from django.urls import path

from examples.notes import Note, models


async def notes(request):
    await models.create_all()
    if request.method == "POST":
        await Note.query.create(text=json.loads(request.body)["text"])
    return JsonResponse([note.text for note in await Note.query.order_by("id")], safe=False)


urlpatterns = [path("notes", notes)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"], SECRET_KEY="an example")

application = models.asgi(handle_lifespan=True)(get_asgi_application())
