"""Celery: a task publishes from whichever process of the pool it runs in."""

import os

import celery

import sse_fast

events = sse_fast.connect(os.environ["EVENTS_URL"], key=os.environ["EVENTS_KEY"])
app = celery.Celery("tasks", broker=os.environ["CELERY_BROKER"])


# A task whose process is killed runs again; under its own id, what it has published by then is not published twice.
@app.task(bind=True, acks_late=True, reject_on_worker_lost=True)
def build(self, name):
    stream = events.stream(f"jobs/{name}")
    for status in ("COMPILING", "TESTED"):
        stream.publish({"status": status}, event=status, idempotency_key=f"{self.request.id}-{status}")
