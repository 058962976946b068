"""Programs that know nothing of sse_fast: what they read from standard input, and their plain lines as events.

Guards `run(stdin=...)`: all of it or what the child wants, without holding anything up; and `run(lines=...)`: every
line of both pipes as an event in its order, bounded, never the run's status; without it lines stay in the log.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import sse_fast
from sse_fast.testing import events_of
from support.deadline import until
from support.ids import named

MEBIBYTE = 1 << 20


def python(source: str) -> list[str]:
    return [sys.executable, "-u", "-c", textwrap.dedent(source)]


def told(server: sse_fast.Server, argv: list[str], **options: Any) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """The events of a run, name and data; and the terminal one's data."""
    run = server.run(argv, stream=f"runs/{len(server.streams())}", history=100_000, history_bytes=64 << 20, **options)
    run.wait(60)
    *events, end = events_of(run.stream, timeout=60)
    assert end.event == "end"
    return [(event.event, event.data) for event in events], end.json()


# ---- Standard input ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stdin", "read"),
    [
        (b"bytes\0\xff", b"bytes\0\xff"),
        ("text ü\n", "text ü\n".encode()),
        ("", b""),
        (bytearray(b"array"), b"array"),
        (memoryview(b"view"), b"view"),
        (None, b""),
    ],
    ids=named,
)
def test_the_child_reads_what_it_is_given_and_then_its_end(server: sse_fast.Server, stdin: Any, read: bytes) -> None:
    events, _ = told(server, python("import sys; print(sys.stdin.buffer.read().hex())"), stdin=stdin, lines="log")
    assert events == [("log", read.hex())]


def test_an_input_larger_than_a_pipe_arrives_whole_while_its_output_is_read(server: sse_fast.Server) -> None:
    data = bytes(range(256)) * (4 * MEBIBYTE // 256)
    source = """
    import hashlib, sys
    whole = hashlib.sha256()
    while piece := sys.stdin.buffer.read1(10_000):
        whole.update(piece)
        print(len(piece))
    print(whole.hexdigest())
    """
    events, end = told(server, python(source), stdin=data, lines="log")
    assert events[-1][1] == hashlib.sha256(data).hexdigest()
    assert end["exit_code"] == 0


def test_a_child_that_does_not_read_it_all_is_no_error(
    server: sse_fast.Server, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "sse_fast"):
        _, end = told(server, python("pass"), stdin=b"x" * MEBIBYTE)
    assert end["exit_code"] == 0
    assert not caplog.records


def test_a_grandchild_that_keeps_the_pipe_and_reads_nothing_holds_nothing_back(server: sse_fast.Server) -> None:
    source = """
    import subprocess, sys
    print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdout=2).pid)
    """
    run = server.run(python(source), stream="s", stdin=b"x" * MEBIBYTE, drain=0.1, lines="log")
    run.wait(60)
    grandchild = int(events_of(run.stream)[0].data)
    os.kill(grandchild, signal.SIGKILL)


def test_a_child_that_reads_nothing_is_still_ended_in_time(server: sse_fast.Server) -> None:
    source = "import time; time.sleep(600)"
    _, end = told(server, python(source), stdin=b"x" * MEBIBYTE, timeout=0.2, grace=0.1)
    assert end["signal"] == "SIGTERM"
    assert end["timeout"] is True


# ---- Lines ---------------------------------------------------------------------------------


def test_plain_lines_are_events_of_that_name_in_their_order_among_marked_ones(
    server: sse_fast.Server, caplog: pytest.LogCaptureFixture
) -> None:
    source = r"""
    import sys
    from sse_fast.runner import emit
    print("first")
    emit("STEP", {"n": 1})
    print("  indented\n\n\u00fc\u2028: data: x")
    sys.stdout.buffer.write(b"10%\r20%\rnot \xff UTF-8\n")
    emit("DONE", 5)
    print("after it")
    print("no newline at the end", end="")
    """
    with caplog.at_level(logging.INFO, "sse_fast"):
        events, end = told(server, python(source), lines="log")
    assert events == [
        ("log", "first"),
        ("STEP", '{"n":1}'),
        ("log", "  indented"),
        ("log", ""),
        ("log", "ü\u2028: data: x"),
        ("log", "10%"),
        ("log", "20%"),
        ("log", "not \ufffd UTF-8"),
        ("DONE", "5"),
        ("log", "after it"),
        ("log", "no newline at the end"),
    ]
    assert (end["status"], end["result"]) == ("DONE", 5), "a line says nothing about the run's progress"
    assert "first" not in caplog.text, "a line is an event or a log record, not both"


def test_lines_of_both_pipes_are_events_and_the_name_is_the_caller_s(server: sse_fast.Server) -> None:
    source = "import sys; print('out'); print('err', file=sys.stderr)"
    events, end = told(server, python(source), lines="output")
    assert sorted(events) == [("output", "err"), ("output", "out")]
    assert (end["status"], end["result"]) == (None, None), "success without any result is not a line"


def test_without_it_lines_stay_in_the_log(server: sse_fast.Server, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "sse_fast"):
        events, _ = told(server, python("print('a line')"))
        until(lambda: "a line" in caplog.text)
    assert events == []


def test_a_line_above_the_limit_is_an_error_event_and_the_next_one_is_fine(
    server: sse_fast.Server, caplog: pytest.LogCaptureFixture
) -> None:
    """One that the reader of lines refuses, one that only the stream refuses, and the longest that fits."""
    source = f"""
    for length in ({3 * MEBIBYTE}, {MEBIBYTE + 100}, {MEBIBYTE - 3}):
        print("x" * length)
    print("next")
    """
    with caplog.at_level(logging.WARNING, "sse_fast"):
        events, end = told(server, python(source), lines="log")
    assert [(name, len(data)) for name, data in events[2:]] == [("log", MEBIBYTE - 3), ("log", 4)]
    first, second = (json.loads(data) for name, data in events[:2] if name == "error")
    assert (first["error"], first["event"], first["limit"]) == ("event_too_large", "log", MEBIBYTE)
    assert (second["error"], second["event"]) == ("event_refused", "log")
    assert (end["status"], end["result"]) == (None, None)
    assert "too long for an event" in caplog.text


def test_a_flood_of_lines_arrives_whole(server: sse_fast.Server) -> None:
    events, _ = told(server, python("for n in range(50_000): print(n)"), lines="log")
    assert events == [("log", str(number)) for number in range(50_000)]


def test_lines_go_to_the_log_once_the_stream_takes_no_more(
    server: sse_fast.Server, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    source = f"""
    print("one")
    open({str(gate)!r}).read()
    print("two")
    print("three")
    """
    with caplog.at_level(logging.INFO, "sse_fast"):
        run = server.run(python(source), stream="s", lines="log")
        assert events_of(run.stream, 1)[0].data == "one"
        run.stream.end("enough")
        gate.write_text("")
        run.wait(30)
        until(lambda: "three" in caplog.text)
    assert [event.data for event in events_of(run.stream)] == ["one", "enough"]
    assert caplog.text.count("further events are not published") == 1
    assert "two" in caplog.text


# ---- Arguments -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "kind", "named"),
    [
        ({"argv": ["a", 5]}, sse_fast.ArgumentTypeError, r"argv\[1\]"),
        ({"argv": 5}, sse_fast.ArgumentTypeError, "argv=5"),
        ({"argv": ["\ud800"]}, sse_fast.RunArgumentError, r"argv\[0\]"),
        ({"argv": ["a", "b\0"]}, sse_fast.RunArgumentError, r"argv\[1\]"),
        ({"cwd": 5}, sse_fast.ArgumentTypeError, "cwd=5"),
        ({"cwd": "a\0b"}, sse_fast.RunArgumentError, "cwd"),
        ({"cwd": "\ud800"}, sse_fast.RunArgumentError, "cwd"),
        ({"env": 5}, sse_fast.ArgumentTypeError, "env must be"),
        ({"env": [("A", "b")]}, sse_fast.ArgumentTypeError, "env must be"),
        ({"env": {"A": 5}}, sse_fast.ArgumentTypeError, r"env\['A'\]"),
        ({"env": {5: "a"}}, sse_fast.ArgumentTypeError, "a name in env"),
        ({"env": {"A": "\ud800"}}, sse_fast.RunArgumentError, r"env\['A'\]"),
        ({"env": {"\ud800": "a"}}, sse_fast.RunArgumentError, "a name in env"),
        ({"stdin": 5}, sse_fast.ArgumentTypeError, "stdin must be bytes, a str or None, not int"),
        ({"stdin": "\ud800"}, sse_fast.RunArgumentError, "stdin has a lone surrogate at position 0"),
        ({"marker": 5}, sse_fast.ArgumentTypeError, "marker=5"),
        ({"marker": "\ud800"}, sse_fast.RunArgumentError, "marker"),
        ({"lines": 5}, sse_fast.ArgumentTypeError, "lines=5"),
        ({"lines": True}, sse_fast.ArgumentTypeError, "lines=True"),
        ({"lines": ""}, sse_fast.RunArgumentError, "lines"),
        ({"lines": "a\nb"}, sse_fast.RunArgumentError, "lines"),
        ({"lines": "\ud800"}, sse_fast.RunArgumentError, "lines"),
        ({"stream": 5}, sse_fast.ArgumentTypeError, "stream=5"),
        ({"on_event": 5}, sse_fast.ArgumentTypeError, "on_event=5"),
    ],
    ids=named,
)
def test_an_argument_of_a_wrong_type_or_value_is_its_exception_wherever_it_stands(
    server: sse_fast.Server, arguments: dict[str, Any], kind: type[Exception], named: str
) -> None:
    with pytest.raises(kind, match=named):
        server.run(**{"argv": [sys.executable, "-c", "pass"], "stream": "s", **arguments})
    assert not server.streams()


def test_a_refused_argument_is_an_error_of_the_run_and_a_value_error(server: sse_fast.Server) -> None:
    with pytest.raises(sse_fast.RunError) as caught:
        server.run([], stream="s")
    assert isinstance(caught.value, ValueError)
