"""Private streams: every user reads streams of their own, by a cookie or a ticket; logging out ends what is open."""

import sse_fast

SESSIONS = {"secret-of-ann": "ann", "secret-of-bob": "bob"}  # Your sessions in their place.

server = sse_fast.serve()
for name in SESSIONS.values():
    server.stream(f"users/{name}/inbox")


def user_of(request: sse_fast.Request) -> str | None:
    return SESSIONS.get(request.cookies.get("session", ""))


@server.authorize
def may_read(request: sse_fast.Request, names: tuple[str, ...]) -> sse_fast.Grant | None:
    user = user_of(request)
    if user is None or not all(name.startswith(f"users/{user}/") for name in names):
        return None
    return sse_fast.Grant(user, ttl=12 * 3600.0)


@server.post("/ticket")
def ticket(request: sse_fast.Request) -> dict[str, str]:
    """For pages of another origin, where EventSource sends no header: /streams/users/ann/inbox?ticket=..."""
    user = user_of(request)
    if user is None:
        raise sse_fast.HttpError(401, "log in first")
    return {"ticket": server.ticket([f"users/{user}/*"], reader=user, ttl=600.0)}


@server.post("/notify/{user}")
def notify(request: sse_fast.Request) -> None:
    if user_of(request) is None:
        raise sse_fast.HttpError(401, "log in first")
    server.stream(f"users/{request.params['user']}/inbox").publish(request.json(), event="notification")


@server.post("/logout")
def logout(request: sse_fast.Request) -> dict[str, int]:
    user = user_of(request)
    if user is None:
        raise sse_fast.HttpError(401, "log in first")
    return {"ended": server.disconnect(user)}  # A program of yours would forget the session first.


print(f"curl -N -H 'Cookie: session=secret-of-ann' {server.url}/streams/users/ann/inbox", flush=True)
server.wait()
