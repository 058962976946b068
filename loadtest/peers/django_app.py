"""django-eventstream behind Redis, on uvicorn: `python django_app.py PORT REDIS_PORT`.

Owns: how its documentation puts several processes together: `EVENTSTREAM_REDIS`, an ASGI server, `send_event` in any of
them. Must not know: who measures it. It keeps no history here, which it would write into Django's database.
"""

import sys

import django
import uvicorn
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import include, path

settings.configure(
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["django_eventstream"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of this comparison alone",  # noqa: S106
    EVENTSTREAM_REDIS={"host": "127.0.0.1", "port": int(sys.argv[2]), "db": 0},
)
django.setup()

import django_eventstream  # noqa: E402 - it reads the settings when it is imported


def _publish(request):  # noqa: ANN001, ANN202
    django_eventstream.send_event("load", "message", request.body.decode(), json_encode=False)
    return HttpResponse()


urlpatterns = [
    path("events", include(django_eventstream.urls), {"channels": ["load"]}),
    path("publish", _publish),
]

if __name__ == "__main__":
    options = {"loop": "uvloop", "http": "httptools", "backlog": 4096, "log_level": "error", "access_log": False}
    uvicorn.run(get_asgi_application(), port=int(sys.argv[1]), **options)
