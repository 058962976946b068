"""Completions as OpenAI's API streams them, from a model whose prefill may take minutes inside one call.

Owns: the routes, a completion's three phases of prefill, its tokens, the form of errors. Must not know: when a
heartbeat is due. `stream.heartbeat` says where there are any; the engine's clock sends them, whatever Python does.

    POST /v1/completions        {"prompt", "stream": true}: `data: {…}` chunks without ids, then `data: [DONE]`
    POST /v1/chat/completions   {"messages", "tools", "stream": true}: the same for a chat
    GET  /v1/slots              how many completions are at work, and what became of the others
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sse_fast

from .model import TOOLS, Faults, Model, Pace, Prefixes, Stopped, words_of, written

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOTS = 8  # Completions at work at a time, as an inference server has places in its batch.
CONTEXT = 8192  # Words of a prompt.
MAX_TOKENS = 2048
# Clients of this API would take a gap for a chunk, so a stream retains all that one completion can publish.
_RETAINED: dict[str, Any] = {"history": 2 * MAX_TOKENS, "max_lag": 2 * MAX_TOKENS, "history_bytes": 4 << 20}

log = logging.getLogger(__name__)


def install(server: sse_fast.Server, pace: Pace | None = None, *, may_hold: bool = True) -> None:
    """Adds the routes to `server`. With `may_hold` a request may have the interpreter held, which stops all Python."""
    Completions(server, pace or Pace(), may_hold=may_hold)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was checked."""

    words: list[str]
    chat: bool
    tools: bool
    progress: bool
    max_tokens: int
    model: str
    faults: Faults

    @classmethod
    def parse(cls, request: sse_fast.Request, *, chat: bool, may_hold: bool) -> Asked:
        """Raises `HttpError` in OpenAI's form, which names the field; no head was sent by then."""
        try:
            body = request.json()
        except sse_fast.HttpError as error:
            raise refusal(error.detail) from None
        if not isinstance(body, dict):
            raise refusal("the body must be a JSON object")
        if body.get("stream") is not True:
            raise refusal("it must be true: the answer is a stream", "stream")
        where, text = ("messages", chat_text(body.get("messages"))) if chat else ("prompt", body.get("prompt"))
        if not isinstance(text, str) or not words_of(text):
            raise refusal("there must be text in it", where)
        if len(words := words_of(text)) > CONTEXT:
            raise refusal(f"it has {len(words)} words, and the model reads {CONTEXT}", where, "context_length_exceeded")
        max_tokens = body.get("max_tokens", body.get("max_completion_tokens", 40))
        if not isinstance(max_tokens, int) or not 1 <= max_tokens <= MAX_TOKENS:
            raise refusal(f"it must be a whole number from 1 to {MAX_TOKENS}", "max_tokens")
        try:
            faults = Faults.parse(body.get("faults") or {}, may_hold=may_hold)
        except ValueError as error:
            raise refusal(str(error), "faults") from None
        tools, progress = bool(body.get("tools")), bool(body.get("return_progress"))
        return cls(words, chat, tools, progress, max_tokens, str(body.get("model", "demo")), faults)


class Completions:
    """The application: a server, and what its completions share."""

    def __init__(self, server: sse_fast.Server, pace: Pace, *, may_hold: bool) -> None:
        """See `install`."""
        self._server, self._pace, self._may_hold = server, pace, may_hold
        self._prefixes = Prefixes()
        self._free = threading.BoundedSemaphore(SLOTS)
        self._lock = threading.Lock()  # Protects the counts.
        self._counts = Counter(begun=0, done=0, failed=0, hung_up=0)
        # While a completion holds the interpreter no handler runs: the engine sends new clients head and heartbeats.
        early: dict[str, Any] = {"early_head": True, "heartbeat": pace.heartbeat, "ids": False}
        server.post("/v1/completions", **early)(lambda request: self.complete(request, chat=False))
        server.post("/v1/chat/completions", **early)(lambda request: self.complete(request, chat=True))
        server.get("/v1/slots")(self.slots)

    def complete(self, request: sse_fast.Request, *, chat: bool) -> sse_fast.Stream:
        """Starts the work; the response is its stream, whose head goes out at once."""
        asked = Asked.parse(request, chat=chat, may_hold=self._may_hold)
        if not self._free.acquire(blocking=False):
            raise refusal(f"all {SLOTS} slots are at work", status=429, kind="rate_limit_error")
        stream = self._server.stream(None, start="all", ids=False, **_RETAINED)
        work = Work(asked, stream, self._pace, self._prefixes)
        threading.Thread(target=self._run, args=[work], name="completion", daemon=True).start()
        return stream

    def slots(self, _request: sse_fast.Request) -> dict[str, float]:
        """What has become of every completion, and what a client may expect."""
        with self._lock:
            busy = 2 * self._counts["begun"] - self._counts.total()
            pace = {"heartbeat": self._pace.heartbeat, "may_hold": self._may_hold}
            return {"slots": SLOTS, "busy": busy, **self._counts, **pace}

    def _run(self, work: Work) -> None:
        self._count("begun")
        outcome = "failed"
        try:
            work.run()
            outcome = "done"
        except (Stopped, sse_fast.StreamEnded, sse_fast.ServerClosed):
            outcome = "hung_up"
            log.info("the client hung up, and the work was stopped after %d tokens", work.tokens)
            work.stream.remove()
        except Exception as error:
            log.exception("a completion failed")
            with contextlib.suppress(sse_fast.SseFastError):  # Its client, or the server, may have gone as well.
                work.fail(error)
        finally:
            self._free.release()
            self._count(outcome)

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1


class Work:
    """One completion, computed on a thread of its own into the stream that its client reads."""

    def __init__(self, asked: Asked, stream: sse_fast.Stream, pace: Pace, prefixes: Prefixes) -> None:
        """The work is stopped as soon as the client has hung up."""
        self._asked, self.stream, self._beat, self._prefixes = asked, stream, pace.heartbeat, prefixes
        self._hung_up = threading.Event()
        stream.on_empty(self._hung_up.set, after=0.0)
        self._model = Model(pace, asked.faults, self._hung_up)
        kind = "chat.completion.chunk" if asked.chat else "text_completion"
        self._base = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": asked.model,
        }
        self.tokens = 0

    def run(self) -> None:
        """Prefill, then tokens, then the end.

        Raises:
            Stopped: the client hung up.
        """
        self._wait_for_the_client()
        words = self._asked.words
        prefix, rest = words[: len(words) // 2], words[len(words) // 2 :]
        with self._phase("prefill"):
            if self._prefixes.has(prefix):
                self._model.learn(prefix)
            else:
                with self._phase("cold_prefix"):
                    self._read("cold_prefix", prefix)
                self._prefixes.add(prefix)
            self._read("prefill", rest)
        if self._asked.tools:
            self._rebuild_tool_checkpoint()
        for token in self._model.tokens(words[-1], self._asked.max_tokens):
            self._publish(written(token))
            self.tokens += 1
        self._publish("", finish_reason="length")
        self.stream.end("[DONE]", event="")

    def _wait_for_the_client(self) -> None:
        """A chunk that holds the interpreter before the handler has answered would keep its answer from the client."""
        while not self.stream.subscribers:
            if self._hung_up.wait(0.001):  # Far less than a chunk takes.
                raise Stopped

    def _rebuild_tool_checkpoint(self) -> None:
        try:
            with self._phase("tool_checkpoint"):
                self._read("tool_checkpoint", TOOLS)
        except ArithmeticError as error:
            log.warning("the tool checkpoint could not be rebuilt; going on without: %s", error)

    @contextlib.contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        """While `name` computes, the client hears of it by the clock. Leaving, also by an exception, restores what was
        in force outside.
        """
        beats = self.stream.heartbeat(every=self._beat, comment="prefill")
        with beats if self._asked.faults.heartbeats else contextlib.nullcontext():
            self._progress(name, 0, 0)
            yield

    def _read(self, phase: str, words: list[str]) -> None:
        for count in self._model.read(phase, words):
            self._progress(phase, count, len(words))

    def _progress(self, phase: str, processed: int, total: int) -> None:
        """A chunk without choices, for clients that asked for it: what a progress callback can tell."""
        if self._asked.progress:
            about = {"phase": phase, "processed": processed, "total": total}
            self.stream.publish({**self._base, "choices": [], "prompt_progress": about})

    def _publish(self, text: str, finish_reason: str | None = None) -> None:
        said: dict[str, Any] = {"delta": {"content": text} if text else {}} if self._asked.chat else {"text": text}
        self.stream.publish({**self._base, "choices": [{"index": 0, "finish_reason": finish_reason, **said}]})

    def fail(self, error: Exception) -> None:
        """An error after the head: a chunk from which clients of this API raise."""
        self.stream.publish(error_body(f"the model failed: {error}", "server_error"))
        self.stream.end("[DONE]", event="")


def chat_text(messages: object) -> str | None:
    """The text of a chat; None where it is no chat."""
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
        return None
    return " ".join(one["content"] for one in messages if isinstance(one.get("content"), str))


def error_body(detail: str, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error as OpenAI's API writes it."""
    return {"error": {"message": f"{param}: {detail}" if param else detail, "type": kind, "param": param, "code": code}}


def refusal(
    detail: str,
    param: str | None = None,
    code: str | None = None,
    status: int = 400,
    kind: str = "invalid_request_error",
) -> sse_fast.HttpError:
    """An error before the head. A client that was told 429 comes back after a second."""
    headers = {"Retry-After": "1"} if status == 429 else {}  # noqa: PLR2004 - too many requests
    return sse_fast.HttpError(status, detail, headers=headers, body=error_body(detail, kind, param, code))
