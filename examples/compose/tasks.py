"""Celery: a task publishes from whichever process of the pool it runs in."""

import os

import celery

import sse_fast

events = sse_fast.connect(os.environ["EVENTS_URL"], key=os.environ["EVENTS_KEY"])
app = celery.Celery("tasks", broker=os.environ["CELERY_BROKER"])


@app.task
def build(name):
    stream = events.stream(f"jobs/{name}")
    for status in ("COMPILING", "TESTED"):
        stream.publish({"status": status, "worker": os.getpid()}, event=status)
