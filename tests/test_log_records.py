"""What a client can make of the log: nothing but text inside of records.

Guards that no line end of a path, a header, a name or an exception's text begins a line that looks like a record, and
that a traceback without such texts is logged as Python writes it.
"""

from __future__ import annotations

import builtins
import io
import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

import sse_fast
from conftest import Serve
from support.deadline import until
from support.reader import Reader, fetch, request

#: Every character that a line ends at, for Python or a reader of logs, and what it would begin.
LINE_ENDS = ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1e", "\x85", "\u2028", "\u2029"]
FORGED = "RECORD forged"


class Log:
    """What a handler with a plain formatter writes; every record begins with RECORD."""

    def __init__(self) -> None:
        self.stream = io.StringIO(newline="")
        self.handler = logging.StreamHandler(self.stream)
        self.handler.setFormatter(logging.Formatter("RECORD %(levelname)s %(name)s %(message)s"))

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def begun(self) -> list[str]:
        """The lines that look like the beginning of a record."""
        return [line for line in self.text.splitlines() if line.startswith("RECORD")]


@pytest.fixture(name="log")
def _log() -> Iterator[Log]:
    log, logger = Log(), logging.getLogger("sse_fast")
    logger.addHandler(log.handler)
    before = logger.level
    logger.setLevel(logging.DEBUG)
    yield log
    logger.setLevel(before)
    logger.removeHandler(log.handler)


def _several_lines(text: str) -> None:
    raise ValueError(text)


def _as_cause(text: str) -> None:
    try:
        _ = dict[str, int]()["missing"]
    except KeyError as error:
        raise RuntimeError(f"outer: {text}") from error


def _in_context(text: str) -> None:
    try:
        _several_lines(text)
    except ValueError:
        int(f"x{text}")


def _in_syntax(text: str) -> None:
    raise SyntaxError(text, ("file", 1, 1, f"x{text}", 1, 2))


def _with_notes(text: str) -> None:
    error = ValueError("noted")
    error.__notes__ = [text, "Traceback (most recent call last):\nRECORD forged", "RECORD forged"]  # type: ignore[attr-defined]
    raise error


def _in_group(text: str) -> None:
    if sys.version_info < (3, 11):
        pytest.skip("this Python has no exception groups")
    group: Any = vars(builtins)["ExceptionGroup"]
    raise group(text, [ValueError(text), RuntimeError(text)])


WAYS = [_several_lines, _as_cause, _in_context, _in_syntax, _with_notes, _in_group]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("end", LINE_ENDS, ids=ascii)
def test_an_exception_s_text_begins_no_record(
    server: sse_fast.Server, log: Log, way: Callable[[str], None], end: str
) -> None:
    server.get("/{text}")(lambda request: way(request.params["text"]))
    text = f"told{end}{FORGED}{end}{end}{FORGED}"
    assert fetch(server.port, f"/{quote(text, safe='')}")[0].status == 500
    until(lambda: "handler" in log.text)
    assert log.begun == [f"RECORD ERROR sse_fast.handler the handler of GET {'/' + text!r} failed"]
    assert "Traceback (most recent call last):\n" in log.text
    assert ", in _" in log.text, "where it was raised"
    assert FORGED in log.text, "the text is there"


@pytest.mark.parametrize("text", ["", "one line", "two\n  lines, the second indented"], ids=repr)
def test_other_tracebacks_are_logged_as_python_writes_them(server: sse_fast.Server, log: Log, text: str) -> None:
    caught: list[str] = []

    @server.get("/fail")
    def fail(_req: sse_fast.Request) -> None:
        try:
            _as_cause(text)
        except RuntimeError:
            caught.append(traceback.format_exc())
            raise

    fetch(server.port, "/fail")
    until(lambda: "handler" in log.text and caught != [])
    # But for the server's own frame.
    first, second = caught[0].split("\nDuring")[0].split("\n\nThe above")
    assert first in log.text
    assert second.split("Traceback")[0] in log.text
    assert log.text.endswith(second.split("in fail\n")[1])
    assert "\nThe above exception was the direct cause" in log.text


@pytest.mark.parametrize("end", LINE_ENDS, ids=ascii)
def test_what_a_request_says_begins_no_record(serve: Serve, log: Log, end: str) -> None:
    """In a path, a stream's name, a refused host and origin."""
    server = serve(settle=60.0)
    server.route("/api/{id}", "workflow/{id}", wait=0.05)
    server.post("/jobs")(lambda _req: None)
    text = quote(f"a{end}{FORGED}", safe="")
    for path in (f"/api/{text}", f"/streams/{text}", f"/{text}"):
        fetch(server.port, path)
        with Reader(server.port, path, headers=[("Accept", "text/event-stream")]) as reader:
            reader.read_head()
    raw = f"a{end}{FORGED}".encode().replace(b"\r", b"\x85").replace(b"\n", b"\x85")
    asked = request("/streams/s", server.port, host="HOST")
    for refused in (
        asked.replace(b"HOST", raw),
        b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nOrigin: " + raw + b"\r\n\r\n",
    ):
        with Reader(server.port, raw=refused) as reader:
            assert reader.read_head().status in (400, 403)
    server.close()
    assert not any(line.startswith(FORGED) for line in log.text.splitlines())
    assert len(log.text.splitlines()) == len(log.begun) >= 1


@pytest.mark.parametrize("end", LINE_ENDS, ids=ascii)
def test_neither_a_child_s_line_nor_its_stream_s_name_begins_a_record(
    server: sse_fast.Server, log: Log, end: str
) -> None:
    said = f"told{end}{FORGED}".encode()
    name = f"run{end}{FORGED}" if end in "\u2028\u2029" else "run"  # A name has no control characters.
    code = f"import sys; sys.stdout.buffer.write({said!r} + b'\\n')"
    assert server.run([sys.executable, "-c", code], stream=name).wait(20) == 0
    server.close()
    assert "told" in log.text
    assert all(line.split()[1] in {"DEBUG", "INFO"} for line in log.begun)
    assert len(log.text.splitlines()) == len(log.begun)


def test_a_watch_and_callbacks_log_their_exceptions_so_too(server: sse_fast.Server, log: Log) -> None:
    def fail(*_arguments: object) -> None:
        _several_lines(f"told\n{FORGED}")

    server.on_join(fail)
    server.watch(fail, every=0.01, stream="s", until=(), max_failures=1).wait(20)
    server.run(["true"], stream="run", on_event=fail).wait(20)
    with Reader(server.port, "/streams/s") as reader:
        reader.open()
        until(lambda: all(name in log.text for name in ("sse_fast.watch", "sse_fast.run", "sse_fast.presence")))
    server.close()
    assert log.text.count(FORGED) >= 3
    assert not any(line.startswith(FORGED) for line in log.text.splitlines())
