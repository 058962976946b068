"""A web server that gives a key set, or whatever a test has it give."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class KeySetServer:
    """Serves `body` with `status` at any path and counts; while `flowing` is cleared it does not answer.

    At ``/elsewhere``, where a redirect may lead, it gives the keys in `elsewhere`.
    """

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.asked = 0
        self.status = 200
        self.headers: dict[str, str] = {}
        self.flowing = threading.Event()
        self.flowing.set()
        self.give(*keys)
        self.elsewhere: list[dict[str, Any]] = []
        key_set = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                key_set.asked += 1
                key_set.flowing.wait()
                status, body, headers = key_set.status, key_set.body, key_set.headers
                if self.path == "/elsewhere":
                    status, body, headers = 200, json.dumps({"keys": key_set.elsewhere}).encode(), {}
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/keys"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def give(self, *keys: dict[str, Any]) -> None:
        """From now on it gives these keys."""
        self.body = json.dumps({"keys": keys}).encode()

    def __enter__(self) -> KeySetServer:  # noqa: PYI034 - typing has no Self before Python 3.11
        return self

    def __exit__(self, *_error: object) -> None:
        self.flowing.set()
        self._server.shutdown()
        self._server.server_close()
