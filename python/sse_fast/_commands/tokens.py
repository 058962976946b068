"""`sse-fast token`: makes a token that a server with an HS256 key takes, or shows what one says.

Owns: its arguments, the form of a token, what is shown of one.
Must not know: how a token is verified; the engine does that.
Changes together with: `sse_fast.testing.token`, which makes them for tests.
"""

from __future__ import annotations

import argparse
import base64
import hmac
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from sse_fast._settings import seconds_of

from .credentials import secret_in
from .usage import UsageError

DESCRIPTION = """\
Makes a JSON Web Token for a server whose tokens= has an HS256 key, and prints it; with --show it prints what a token
says, without verifying it.
"""
EPILOG = """\
examples:
  export SSE_FAST_TOKEN_KEY=...                  the secret of Key("HS256", secret), 32 bytes or more
  sse-fast token --subscribe 'users/7/**' --reader ann --ttl 1h
  export SSE_FAST_TOKEN=$(sse-fast token --publish 'runs/*' --ttl 12h)
  sse-fast token --show - <<< "$SSE_FAST_TOKEN"

Patterns: * is one whole segment, a trailing /** everything below. A ticket for a page's URL is made by the server
itself: Server.ticket.
"""

KEY = "SSE_FAST_TOKEN_KEY"
_SECRET = 32  # Bytes: servers take no shorter one.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `token`."""
    parser.add_argument("--show", metavar="TOKEN", help="print what this token says; - reads standard input")
    made = parser.add_argument_group("what the token says")
    made.add_argument("--subscribe", action="append", metavar="PATTERN", help="streams to read; may be repeated")
    made.add_argument("--publish", action="append", metavar="PATTERN", help="streams to publish into; may be repeated")
    made.add_argument("--reader", metavar="NAME", help="who it is: sub")
    made.add_argument("--ttl", default="1h", metavar="TIME", help="how long it is valid: 30s, 15m, 12h (default 1h)")
    made.add_argument("--issuer", metavar="TEXT", help="iss")
    made.add_argument("--audience", metavar="TEXT", help="aud")
    made.add_argument("--kid", metavar="ID", help="the id of the key")
    made.add_argument("--secret-file", type=Path, metavar="FILE", help=f"a file with the secret (default: {KEY})")


def run(options: argparse.Namespace) -> int:
    """Prints a token, or what one says."""
    if options.show is not None:
        _show(sys.stdin.read().strip() if options.show == "-" else options.show)
        return 0
    rights = {name: getattr(options, name) for name in ("subscribe", "publish") if getattr(options, name)}
    if not rights:
        raise UsageError("a token without --subscribe and --publish lets nobody do anything")
    now = time.time()
    claims = {
        "iat": int(now),
        "exp": int(now + seconds_of(options.ttl, "--ttl")),
        "sub": options.reader,
        "iss": options.issuer,
        "aud": options.audience,
        "sse": rights,
    }
    print(signed({"alg": "HS256", "typ": "JWT", "kid": options.kid}, claims, _secret(options)))
    return 0


def signed(head: dict[str, Any], claims: dict[str, Any], secret: bytes) -> str:
    """A token; what is None is left out."""
    parts = [{name: value for name, value in part.items() if value is not None} for part in (head, claims)]
    text = ".".join(_encoded(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
    return f"{text}.{_encoded(hmac.digest(secret, text.encode(), 'sha256'))}"


def _secret(options: argparse.Namespace) -> bytes:
    text = secret_in(options.secret_file) if options.secret_file else os.environ.get(KEY, "")
    if not text:
        raise ValueError(f"there is no secret to sign with: set {KEY}, or give --secret-file")
    if len(text.encode()) < _SECRET:
        raise ValueError(f"the secret is shorter than {_SECRET} bytes: no server takes it")
    return text.encode()


def _show(token: str) -> None:
    try:
        first, second, _signature = token.split(".")
        head, claims = (json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in (first, second))
    except ValueError:
        raise ValueError("that is no JSON Web Token: it has not three parts of base64url with JSON in two") from None
    print(json.dumps({"head": head, "claims": claims}, indent=2, ensure_ascii=False))
    expires = claims.get("exp") if isinstance(claims, dict) else None
    if isinstance(expires, (int, float)):
        left = expires - time.time()
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(expires))
        print(f"{'expires' if left > 0 else 'expired'}: {when}", file=sys.stderr)
    print("not verified", file=sys.stderr)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
