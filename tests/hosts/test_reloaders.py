"""Flask's and Django's reloaders, which load an application in a parent that watches files and in a child that serves.

Guards that the documented way has one engine, that its port passes on to the next edition, and that who starts one
in both is told so.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from support.deadline import until
from support.host import Host, documented
from support.ports import free_ports
from support.reader import Reader, fetch

pytestmark = pytest.mark.timeout(180)

#: A project: its engine is started where GUARD holds.
DJANGO = {
    "manage.py": """
import os, sys, django.core.management
os.environ["DJANGO_SETTINGS_MODULE"] = "project"
django.core.management.execute_from_command_line(sys.argv)
""",
    "project.py": """
DEBUG, SECRET_KEY, USE_TZ = True, "-", True
ROOT_URLCONF, INSTALLED_APPS, ALLOWED_HOSTS = "jobs", ["jobs.Jobs"], ["*"]
""",
    "jobs.py": """
import os, django.apps, django.http, django.urls, sse_fast

class Jobs(django.apps.AppConfig):
    name = "jobs"
    def ready(self):
        if GUARD:
            self.engine = sse_fast.serve(8080)

def submit(request, name):
    stream = django.apps.apps.get_app_config("jobs").engine.stream(f"jobs/{name}", start="all")
    return django.http.HttpResponse(stream.publish("first"))

urlpatterns = [django.urls.path("jobs/<name>", submit)]
""",
}


def flask(folder: Path, port: int) -> Host:
    return Host("-m", "flask", "--app", "app", "run", "--debug", "--port", port, cwd=folder)


def test_flask_s_reloader_as_documented(tmp_path: Path) -> None:
    port, engine = free_ports(2)
    file = documented("reloader/app.py", tmp_path, {"8080": engine})
    with flask(tmp_path, port) as host:
        for before, after in (("first", "second"), ("second", "third")):
            host.listens(engine, port)
            until(lambda: fetch(port, "/jobs/7", method="POST")[0].status == 200)
            with Reader(engine, "/streams/jobs/7") as reader:
                assert reader.open().next().data == before
                file.write_text(file.read_text().replace(f'"{before}"', f'"{after}"'))
                reader.read_eof()  # However the reloader ends its child, readers hear of it.
            until(lambda after=after: published(port, engine) == after)  # type: ignore[misc]
        assert "AddressInUse" not in host.output
        host.terminate(signal.SIGINT)
        host.assert_gone(port, engine)


def published(port: int, engine: int) -> str:
    """What the application that answers now publishes."""
    try:
        fetch(port, "/jobs/8", method="POST")
        with Reader(engine, "/streams/jobs/8") as reader:
            return reader.open().next().data
    except (OSError, AssertionError):  # It is being replaced.
        return ""


def test_an_engine_in_flask_s_parent_as_well_is_refused_with_why(tmp_path: Path) -> None:
    port, engine = free_ports(2)
    file = documented("reloader/app.py", tmp_path, {"8080": engine})
    file.write_text(file.read_text().replace('os.environ.get("WERKZEUG_RUN_MAIN") == "true"', "True"))
    with flask(tmp_path, port) as host:
        host.says("AddressInUse")
        host.says("reloader", deadline=10)
        host.terminate(signal.SIGINT)
        host.assert_gone(port, engine)


@pytest.mark.parametrize("both", [False, True], ids=["in the child", "in both"])
def test_django_s_runserver(tmp_path: Path, *, both: bool) -> None:
    port, engine = free_ports(2)
    guard = "True" if both else "os.environ.get('RUN_MAIN') == 'true'"
    for name, text in DJANGO.items():
        (tmp_path / name).write_text(text.replace("GUARD", guard).replace("8080", str(engine)))
    with Host("manage.py", "runserver", f"127.0.0.1:{port}", cwd=tmp_path) as host:
        if both:
            host.says("AddressInUse")
            host.says("reloader", deadline=10)
        else:
            host.listens(engine, port)
            assert fetch(port, "/jobs/7")[0].status == 200
            with Reader(engine, "/streams/jobs/7") as reader:
                assert reader.open().next().data == "first"
        host.terminate(signal.SIGINT)
        host.assert_gone(port, engine)
