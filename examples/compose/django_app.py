"""Django in one file, under gunicorn: the same as flask_app.py."""

import os

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path

import sse_fast

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="change me")
django.setup()
events = sse_fast.connect(os.environ["EVENTS_URL"], key=os.environ["EVENTS_KEY"])


def submit(_request, name):
    stream = events.stream(f"jobs/{name}")
    stream.publish({"status": "QUEUED", "worker": os.getpid()}, event="QUEUED")
    last = stream.publish({"status": "DONE"}, event="DONE")
    return JsonResponse({"stream": f"/streams/jobs/{name}", "id": last})


urlpatterns = [path("jobs/<str:name>", submit)]
app = get_wsgi_application()
