"""`sse-fast publish`, `tail` and `token`, against a server of the engine.

Guards what is published and printed, where keys are found, that lines go out as they come, and what a terminal gets.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import sse_fast
from conftest import Call, Serve
from support.deadline import DEADLINE, until
from support.demo import START
from support.process import Program

KEY = "a-key-of-32-characters-or-more-00"


@pytest.fixture
def hub(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> sse_fast.Server:
    monkeypatch.setenv("SSE_FAST_KEY", KEY)
    return serve(publish_key=KEY, start="all", settle=0.0)


def events_of(stream: sse_fast.Stream, count: int) -> list[tuple[str, str]]:
    found = stream.events(start="all", timeout=DEADLINE)
    return [(event.event, event.data) for event in (next(found) for _ in range(count))]


@contextlib.contextmanager
def command(*arguments: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A command with pipes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sse_fast", *map(str, arguments)],
        **{
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            **options,
        },
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


# ---- publish -------------------------------------------------------------------------------


def test_an_event_is_published_and_its_id_printed(hub: sse_fast.Server, call: Call) -> None:
    url = f"{hub.url}/runs/42"
    assert call("publish", url, '{"a": 1}', "--event", "A", "--id", "own", "--retry", "2") == (0, "own\n", "")
    assert call("publish", f"{hub.url}/streams/runs/42", "two\nlines")[0] == 0
    assert call("publish", url, "state", "--snapshot") == (0, "", "")
    stream = hub.stream("runs/42")
    assert call("publish", url, "--end") == (0, f"{stream.last_id}\n", "")
    events = list(stream.events(last_event_id="own", timeout=DEADLINE))
    assert [(event.event, event.data) for event in events] == [("message", "two\nlines"), ("end", "null")]
    code, out, err = call("publish", url, "x")
    assert (code, out) == (1, "")
    assert "the stream has ended" in err


def test_once_is_once(hub: sse_fast.Server, call: Call) -> None:
    arguments = ("publish", f"{hub.url}/s", "x", "--idempotency-key", "build-7")
    assert call(*arguments) == call(*arguments)
    assert hub.stream("s").last_id.endswith("-1")  # type: ignore[union-attr]


def test_all_of_standard_input_is_one_event(hub: sse_fast.Server) -> None:
    with command("publish", f"{hub.url}/s", "-") as process:
        process.communicate("a\nb\n", timeout=DEADLINE)
        assert process.returncode == 0
    assert events_of(hub.stream("s"), 1) == [("message", "a\nb\n")]


def test_lines_are_published_as_they_come_and_the_end_after_the_last(hub: sse_fast.Server) -> None:
    stream = hub.stream("s")
    with command("publish", f"{hub.url}/s", "--lines", "--event", "log", "--end") as process:
        assert process.stdin is not None
        process.stdin.write("first\r\n")
        process.stdin.flush()
        assert events_of(stream, 1) == [("log", "first")], "nobody waits for a second line"
        process.stdin.write("\n" + "".join(f"{number}\n" for number in range(1000)))
        out, err = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0
    assert (out.strip(), err) == (stream.last_id, "1002 events published into s\n")
    seen = list(stream.events(start="all", timeout=DEADLINE))
    assert [event.data for event in seen[-4:]] == ["997", "998", "999", "null"]
    assert int(str(stream.last_id).partition("-")[2]) == 1003


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b"\xff\xfe", "line 701 of standard input: data must be UTF-8: invalid byte at position 0"),
        (b"x" * (1 << 20) + b"y", "line 701 of standard input: "),
    ],
)
def test_lines_before_one_that_cannot_be_published_are(hub: sse_fast.Server, bad: bytes, said: str) -> None:
    stream = hub.stream("s", history=1000)
    with command("publish", f"{hub.url}/s", "--lines") as process:
        text = b"".join(b"%d\n" % number for number in range(700)) + bad + b"\n" + b"after\n" * 10
        assert process.stdin is not None
        process.stdin.buffer.write(text)  # type: ignore[attr-defined]
        out, err = process.communicate(timeout=DEADLINE)
        assert (process.returncode, out) == (1, "")
    assert err.splitlines()[0] == "700 events published into s"
    assert said in err.splitlines()[1]
    assert [event for _, event in events_of(stream, stream.stats().published)] == [str(n) for n in range(700)]


def test_an_option_of_the_stream_is_given(hub: sse_fast.Server, call: Call) -> None:
    for data in "abc":
        assert call("publish", f"{hub.url}/s", data, "--option", "history=2", "--option", "expire=")[0] == 0
        assert call("publish", f"{hub.url}/s", data, "--option", "history=2", "--option", "expire=none")[0] == 0
    assert hub.stream("s").stats().retained == 2
    assert call("publish", f"{hub.url}/s", "d", "--option", "expire=0.2")[0] == 0
    assert call("publish", f"{hub.url}/s", "d", "--option", "expire=")[0] == 0


def test_a_terminal_is_shown_progress(hub: sse_fast.Server) -> None:
    master, slave = pty.openpty()
    with command("publish", f"{hub.url}/s", "--lines", stderr=slave) as process:
        os.close(slave)
        assert process.stdin is not None
        process.stdin.write("a\nb\n")
        process.stdin.flush()
        shown = b""
        while b" a second" not in shown:
            shown += os.read(master, 4096)
        process.stdin.close()
        assert process.wait(DEADLINE) == 0
    os.close(master)


def test_a_key_is_read_from_a_file_or_the_environment(
    hub: sse_fast.Server, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    (tmp_path / "empty").write_text("")
    url = f"{hub.url}/s"
    monkeypatch.setenv("SSE_FAST_KEY", KEY[::-1])
    assert call("publish", url, "x", "--key-file", tmp_path / "key")[0] == 0
    code, _, err = call("publish", url, "x")
    assert code == 1
    assert KEY[::-1] not in err
    monkeypatch.delenv("SSE_FAST_KEY")
    for arguments, said in [((), "needs a key or a token"), (("--key-file", tmp_path / "empty"), "is empty")]:
        code, _, err = call("publish", url, "x", *arguments)
        assert code == 1
        assert said in err


# ---- tail ----------------------------------------------------------------------------------


def test_events_are_printed_to_the_terminal_one(hub: sse_fast.Server, call: Call) -> None:
    stream = hub.stream("runs/42")
    ids = [stream.publish({"n": 1}, event="A"), stream.publish("two\nlines \x1b[31m"), stream.end()]

    def lines(*arguments: object) -> list[str]:
        code, out, err = call("tail", f"{hub.url}/runs/42", *arguments)
        assert (code, err) == (0, "")
        return out.splitlines()

    assert lines() == [
        f'{ids[0]}\tA\t{{"n":1}}',
        f"{ids[1]}\tmessage\ttwo\\nlines \\x1b[31m",
        f"{ids[2]}\tend\tnull",
    ]
    assert json.loads(lines("--json")[0]) == {"stream": "runs/42", "id": ids[0], "event": "A", "data": '{"n":1}'}
    assert lines("--data", "--last-event-id", ids[0]) == ["two", "lines \x1b[31m", "null"]
    assert len(lines("--event", "A", "--event", "end")) == 2
    assert len(lines("--count", "2")) == 2


def test_several_streams_are_printed_with_their_names(hub: sse_fast.Server, call: Call) -> None:
    for name in ("a", "b"):
        hub.stream(name).end(name)
    lines = call("tail", f"{hub.url}/a", f"{hub.url}/b")[1].splitlines()
    assert sorted(line.partition("\t")[0] for line in lines) == ["a", "b"]


def test_events_are_printed_as_they_come_across_a_restart(serve: Serve) -> None:
    first = serve(start="all")
    with Program(START, "tail", f"{first.url}/s") as program:
        first.stream("s").publish("old")
        assert program.line().endswith("\tmessage\told")
        first.close()
        second = serve(first.port, start="all")
        second.stream("s").publish("new")
        assert [program.line().split("\t")[1] for _ in range(2)] == ["gap", "message"]
        program.send_signal(signal.SIGINT)
        assert program.wait() == 130
        assert "Traceback" not in program.stderr


def test_a_stream_that_there_is_not_is_an_error_or_waited_for(hub: sse_fast.Server, call: Call) -> None:
    hub.stream("there").end("x")
    code, out, err = call("tail", f"{hub.url}/nothing", f"{hub.url}/there")
    assert code == 1
    assert err.startswith("sse-fast: cannot read 'nothing'")
    assert out.count("\n") == 1, "the other was printed all the same"
    before = hub.stats().requests
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(call, "tail", f"{hub.url}/later", "--wait")
        until(lambda: hub.stats().requests > before)
        hub.stream("later").end("made")
        assert waiting.result(DEADLINE)[1].endswith("end\tmade\n")


@pytest.mark.parametrize(("env", "colours"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_a_terminal_gets_colours_unless_it_is_not_to(hub: sse_fast.Server, env: dict[str, str], colours: bool) -> None:
    hub.stream("s").end("x\x1b]0;title\x07")
    master, slave = pty.openpty()
    with command("tail", f"{hub.url}/s", stdout=slave, env={**os.environ, "TERM": "xterm", **env}) as process:
        os.close(slave)
        shown = b""
        with contextlib.suppress(OSError):  # A terminal's end.
            while data := os.read(master, 4096):
                shown += data
        assert process.wait(DEADLINE) == 0
    os.close(master)
    assert (b"\x1b[" in shown) is colours
    assert rb"x\x1b]0;title\x07" in shown


SECRET = "a secret that is long enough to be one"


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SSE_FAST_TOKEN_KEY", SECRET)
    return SECRET


def test_a_token_is_read_from_the_environment_or_a_file(
    serve: Serve, call: Call, secret: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = serve(tokens=sse_fast.Tokens(keys=[sse_fast.Key("HS256", secret)]), start="all")
    hub.stream("s").end("x")
    made = call("token", "--subscribe", "s")[1].strip()
    (tmp_path / "token").write_text(made)
    url = f"{hub.url}/s"
    assert call("tail", url, "--token-file", tmp_path / "token")[0] == 0
    code, _, err = call("tail", url)
    assert code == 1
    assert "needs a token" in err
    monkeypatch.setenv("SSE_FAST_TOKEN", made)
    assert call("tail", url)[0] == 0


# ---- token ---------------------------------------------------------------------------------


def test_a_token_says_what_was_asked_for(call: Call, secret: str) -> None:
    arguments = ("--subscribe", "a/*", "--subscribe", "b", "--publish", "c/**", "--reader", "ann", "--ttl", "90s")
    made = call("token", *arguments, "--kid", "k")[1].strip()
    code, out, err = call("token", "--show", made)
    assert code == 0
    assert err.splitlines()[0].startswith("expires: 2")
    assert err.splitlines()[1] == "not verified"
    said = json.loads(out)
    assert said["head"] == {"alg": "HS256", "typ": "JWT", "kid": "k"}
    assert said["claims"]["sse"] == {"subscribe": ["a/*", "b"], "publish": ["c/**"]}
    assert said["claims"]["exp"] - said["claims"]["iat"] in {90, 91}
    assert said["claims"]["sub"] == "ann"


@pytest.mark.parametrize(
    "shown", ["", "a", "a.b.c", "e30.e30", base64.urlsafe_b64encode(b"\xff").decode() + ".e30.x"], ids=repr
)
def test_what_is_no_token_is_not_shown(call: Call, shown: str) -> None:
    code, out, err = call("token", "--show", shown)
    assert (code, out) == (1, "")
    assert "no JSON Web Token" in err


def test_a_secret_that_no_server_takes_signs_nothing(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSE_FAST_TOKEN_KEY", "short")
    assert "shorter than 32 bytes" in call("token", "--subscribe", "a")[2]


def test_lines_that_are_waited_for_are_left_by_a_signal(serve: Serve) -> None:
    """A thread waits for them: that must not abort the end."""
    server = serve(publish_key=KEY)
    command = [sys.executable, "-m", "sse_fast", "publish", f"{server.url}/s", "--lines"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "SSE_FAST_KEY": KEY},
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"one\r\ntwo\nthr")
        process.stdin.flush()
        until(lambda: server.stream("s").stats().published == 2)
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 130
        assert b"Fatal" not in process.stderr.read()
