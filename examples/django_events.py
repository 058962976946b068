"""Django in one file: each user reads streams of their own, on the application's port."""

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse, JsonResponse
from django.urls import path

import sse_fast
from sse_fast.asgi import django_response

USERS = {"secret of ann": "ann", "secret of bob": "bob"}  # Your authentication in its place.

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="change me")
django.setup()
server = sse_fast.serve(0)  # Its own port is not used here: any free one of the loopback.
# Streams without a name: no URL leads to them but the application's own.
streams = {name: server.stream(None) for name in USERS.values()}


async def notifications(request):
    name = USERS.get(request.COOKIES.get("session", ""))
    if name is None:
        return HttpResponse(status=401)
    return django_response(request, streams[name])


async def notify(request, name):
    sender = USERS.get(request.COOKIES.get("session", ""))
    if sender is None:
        return HttpResponse(status=401)
    return JsonResponse({"id": await streams[name].apublish({"from": sender}, event="notification")})


urlpatterns = [path("notifications", notifications), path("notify/<str:name>", notify)]
app = get_asgi_application()
