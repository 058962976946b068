"""Flask under gunicorn: whichever worker publishes, every reader gets it, at whichever engine it reads."""

import os

import flask

import sse_fast

events = sse_fast.connect(os.environ["EVENTS_URL"], key=os.environ["EVENTS_KEY"])  # Connects when it publishes.
app = flask.Flask(__name__)


@app.post("/jobs/<name>")
def submit(name):
    stream = events.stream(f"jobs/{name}")
    stream.publish({"status": "QUEUED", "worker": os.getpid()}, event="QUEUED")
    return {"stream": f"/streams/jobs/{name}", "id": stream.publish({"status": "DONE"}, event="DONE")}
