"""Flask: each user reads streams of their own, on the application's port and behind its authentication."""

import flask

import sse_fast
from sse_fast.wsgi import EventSourceResponse

USERS = {"secret of ann": "ann", "secret of bob": "bob"}  # Your authentication in its place.

server = sse_fast.serve(0)  # Its own port is not used here: any free one of the loopback.
# Streams without a name: no URL leads to them but the application's own.
streams = {name: server.stream(None) for name in USERS.values()}
app = flask.Flask(__name__)


def user():
    name = USERS.get(flask.request.cookies.get("session", ""))
    return name or flask.abort(401)


@app.get("/notifications")
def notifications():
    return EventSourceResponse(streams[user()])


@app.post("/notify/<name>")
def notify(name):
    return {"id": streams[name].publish({"from": user()}, event="notification")}
