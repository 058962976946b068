"""Publishing from elsewhere, as a program without the package does it: over one kept connection."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any

#: Long enough to be a key.
KEY = "k1-of-the-tests-0123456789abcdefghij"


@dataclass(frozen=True)
class Answer:
    """What came back; `body` is the JSON, or None where there is none."""

    status: int
    body: Any
    headers: dict[str, str]

    @property
    def error(self) -> str | None:
        return self.body.get("error") if isinstance(self.body, dict) else None


class Elsewhere:
    """One connection of a publisher's; what is None in its headers is left out."""

    def __init__(self, port: int, key: str | None = KEY) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20.0)
        self._key = key

    def __enter__(self) -> Elsewhere:  # noqa: PYI034 - typing has no Self before Python 3.11
        return self

    def __exit__(self, *_error: object) -> None:
        self._connection.close()

    def ask(self, method: str, path: str, body: object = None, **headers: str | None) -> Answer:
        """Sends a body of bytes as it is, and anything else as JSON."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        usual = {
            "Authorization": None if self._key is None else f"Bearer {self._key}",
            "Content-Type": None if body is None else "application/json",
        }
        sent = {name: value for name, value in {**usual, **given}.items() if value is not None}
        raw = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        self._connection.request(method, path, raw, sent)
        response = self._connection.getresponse()
        read = response.read()
        return Answer(response.status, json.loads(read) if read else None, dict(response.getheaders()))

    def post(self, body: object, name: str = "s", **headers: str | None) -> Answer:
        return self.ask("POST", f"/streams/{name}", body, **headers)

    def delete(self, name: str = "s", **headers: str | None) -> Answer:
        return self.ask("DELETE", f"/streams/{name}", **headers)

    def waits(self, body: object, key: str, name: str = "s") -> bool:
        """Whether the request with this body and key waits to be appended; asking publishes nothing."""
        # More than the stream keeps: refused, unless the key is known; then the right body is only looked up.
        is_known = self.post([body] * 1000, name, Idempotency_Key=key).error == "key_reused"
        return is_known and self.post(body, name, Idempotency_Key=key).error == "in_progress"
