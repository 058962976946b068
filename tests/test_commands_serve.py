"""`sse-fast serve`: a server of its own process, from flags, environment and a file.

Guards which of them counts, that what is wrong is said before anything listens, that no secret is shown, and that it
drains when it is told to end.
"""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import sse_fast
from conftest import Call
from support.deadline import DEADLINE, until
from support.demo import START
from support.process import Program
from support.reader import Reader, fetch

KEY = "a-key-of-32-characters-or-more-00"


def url_of(program: Program) -> str:
    return program.line_with("sse_fast serves").split()[0]


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def end(program: Program) -> None:
    until(lambda: program.catches(signal.SIGTERM), what="server.wait()")
    program.send_signal(signal.SIGTERM)
    assert program.wait() == 0, program.stderr
    assert "Traceback" not in program.stderr


def test_it_serves_what_others_publish_until_it_is_told_to_end() -> None:
    with Program(START, "serve", "--port", 0, env={"SSE_FAST_PUBLISH_KEY": KEY}) as program:
        url = url_of(program)
        with sse_fast.connect(url, key=KEY) as client, Reader(port_of(url), "/streams/s", version="HTTP/1.0") as early:
            first = client.stream("s").publish({"n": 1})
            early.read_head()
            with Reader(port_of(url), "/streams/s", last_event_id=first) as reader:
                reader.open()
                client.stream("s").publish("last words")
                end(program)
                assert [event.data for event in reader.rest()] == ["last words"]
        assert KEY not in program.stderr


def test_told_to_end_before_its_port_is_open_it_ends_all_the_same(tmp_path: Path) -> None:
    for _ in range(5):
        with Program(START, "serve", "--port", 0, "--store", tmp_path / "store") as program:
            end(program)  # It catches the signal before it has begun to serve.
            assert len(program.read_to_end()) <= 1, "the address, or nothing"


def test_flags_beat_the_environment_and_that_the_file(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(f"{KEY}\n")
    (tmp_path / "sse-fast.toml").write_text(
        f"""
        port = 0
        history = 3
        max_lag = 3
        start = "all"
        heartbeat = "20s"
        settle = 0
        publish_key_file = "{key}"
        [streams."users/**"]
        private = true
        [streams."jobs/*"]
        history = 5
        """
    )
    options = ("--config", tmp_path / "sse-fast.toml", "--start", "new", "--history", "4")
    with Program(START, "serve", *options, env={"SSE_FAST_HISTORY": "7", "SSE_FAST_SETTLE": "0.5"}) as program:
        url = url_of(program)
        with sse_fast.connect(url, key=KEY) as client:
            for name in ("s", "jobs/1"):
                client.stream(name).publish_many([(n, None) for n in range(10)])
                epoch = client.stream(name).last_id.partition("-")[0]  # type: ignore[union-attr]
                page = fetch(
                    port_of(url), f"/streams/{name}?last_event_id={epoch}-0", headers=[("Accept", "application/json")]
                )
                assert len(json.loads(page[1])["events"]) == (4 if name == "s" else 5)
            client.stream("users/7").publish(1)
            with pytest.raises(sse_fast.UnknownStream):
                next(client.stream("users/7").events(retry_for=0.0))
        end(program)


def test_a_server_without_a_key_has_one_for_the_run_that_only_a_person_is_shown() -> None:
    with Program(START, "serve", "--port", 0) as program:
        url_of(program)
        end(program)
        assert program.read_to_end()[1:] == []
        assert "nobody can publish: set SSE_FAST_PUBLISH_KEY" in program.stderr
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "sse_fast", "serve", "--port", "0"],
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=subprocess.DEVNULL,
    ) as process:
        os.close(slave)
        shown = b""
        while b"export SSE_FAST_KEY=" not in shown or not shown.endswith(b"\n"):
            shown += os.read(master, 4096)
        url, export = shown.decode().split("\r\n")[:2]
        key = export.split()[1].partition("=")[2]
        with sse_fast.connect(url.split()[2], key=key) as client:
            assert client.stream("s").publish(1).endswith("-1")
        process.terminate()
        assert process.wait(DEADLINE) == 0
    os.close(master)


def test_tokens_come_from_the_file(call: Call, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a secret that is long enough to be one\n")
    config = tmp_path / "sse-fast.toml"
    config.write_text(
        f"""
        port = 0
        [tokens]
        audience = "events"
        keys = [{{algorithm = "HS256", key_file = "{secret}", id = "k1"}}]
        """
    )
    with Program(START, "serve", "--config", config) as program:
        url = url_of(program)
        options = ("--audience", "events", "--kid", "k1", "--reader", "ann", "--secret-file", secret)
        made = call("token", "--publish", "jobs/*", *options)[1].strip()
        with sse_fast.connect(url, token=made) as client:
            assert client.stream("jobs/1").publish(1).endswith("-1")
            with pytest.raises(sse_fast.AccessDenied):
                client.stream("other").publish(1)
        end(program)
        assert "nobody can publish" not in program.stderr


HS256 = 'algorithm = "HS256"\nkey = "' + "k" * 32 + '"'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port = 1\n\nhistori = 3", "sse-fast.toml:3: there is no setting 'histori'"),
        ("port = 1\nhistory = 0", "sse-fast.toml:2: history=0 is not allowed"),
        (
            'port = 1\n[streams."a/*"]\nids = true\n "history" = 0',
            'sse-fast.toml:4: [streams."a/*"] history=0 is not allowed',
        ),
        ('[streams]\n"a/*" = {history = 0}', 'sse-fast.toml:2: [streams."a/*"] history=0 is not allowed'),
        ('cors = [\n"x",\n]\nhistory = 0', "cors"),
        ("history = 10\nmax_lag = 20", "sse-fast.toml:2: max_lag must not exceed history"),
        ('[streams."a/**/b"]\nhistory = 1', 'sse-fast.toml:1: streams: "a/**/b" is not a pattern'),
        ('\ndurable = "disk"', "sse-fast.toml:2: durable"),
        ("port = 1\nhistory = = 2", "sse-fast.toml is no TOML: Invalid value (at line 2"),
        ('[tokens]\nkeys = [{algorithm = "HS256", key = "short"}]', "sse-fast.toml:2: tokens.keys: key is not allowed"),
        (
            '[tokens]\nleeway = "x"\nkeys = [{algorithm = "HS256", key = "' + "k" * 32 + '"}]',
            "sse-fast.toml:2: [tokens] leeway='x'",
        ),
        (
            "port = 1\n[streams.a]\nids = true\nhistory = 10\nmax_lag = 20",
            'sse-fast.toml:5: streams["a"]: max_lag must',
        ),
        ("streams.a.history = 10\nstreams.a.max_lag = 20", 'sse-fast.toml:2: streams["a"]: max_lag must'),
        ("[streams]\na = 5", "sse-fast.toml:2: streams must be tables"),
        ('port = 1\npublish_key_file = "/nonexistent"', "sse-fast.toml:2: publish_key_file: [Errno 2]"),
        ('port = 1\npublish_key_file = "/dev/null"', "sse-fast.toml:2: publish_key_file: /dev/null is empty"),
        ('port = 1\nstore = "s"\nbackplane = "redis://127.0.0.1:1"', "sse-fast.toml:2: store and backplane"),
        ("port = 1\n[tokens]\nsecret = 1", "sse-fast.toml:3: tokens must be"),
        ("port = 1\n[tokens]\n", "sse-fast.toml:2: [tokens] tokens need exactly one"),
        ("port = 1\ntokens = 1", "sse-fast.toml:2: tokens must be"),
        ('[tokens]\njwks = "ftp://a"', "sse-fast.toml:2: [tokens] jwks"),
        (
            f"[[tokens.keys]]\n{HS256}\n[[tokens.keys]]\nalgorithm = 'X'\nkey = 'k'",
            "sse-fast.toml:5: tokens.keys: algorithm",
        ),
        (f"[[tokens.keys]]\n{HS256}\n[[tokens.keys]]\nkey = 'k'", "sse-fast.toml:4: each of tokens.keys"),
        (f"[[tokens.keys]]\n{HS256}\nid = 3", "sse-fast.toml:4: tokens.keys: id=3"),
        (
            f"[tokens]\nkeys = [\n{{{', '.join(HS256.splitlines())}}},\n{{key_file = 3}}]",
            "sse-fast.toml:2: tokens.keys key_file",
        ),
        (
            '[[tokens.keys]]\nalgorithm="HS256"\nkey_file = "/nonexistent"',
            "sse-fast.toml:3: tokens.keys key_file: [Errno 2]",
        ),
        ("histori = 3", "there is no setting 'histori': did you mean history?"),
        ("history = 0", "history=0 is not allowed: history must be a whole number"),
        ('heartbeat = "soon"', "heartbeat='soon' is not allowed"),
        ('[streams."users/**"]\nport = 1', "there is no setting 'port'"),
        ('[streams."users/**"]\nhistory = "x"', 'streams."users/**"'),
        ('[streams."a/**/b"]\nhistory = 1', "a/**/b"),
        ("streams = 3", "streams must be tables"),
        ("history = 10\nmax_lag = 20", "max_lag"),
        ("history = ", "is no TOML"),
        ("publish_key_file = 3", "publish_key_file"),
        ('publish_key = "short"', "publish_key=... is not allowed"),
        ("[tokens]\nsecret = 1", "tokens must be a table of"),
        ('[tokens]\nkeys = [{algorithm = "HS256"}]', "needs an algorithm, and a key or key_file"),
        ('[tokens]\nkeys = [{algorithm = "HS256", key = "short"}]', "32"),
    ],
)
def test_a_file_that_is_wrong_is_refused_before_anything_listens(
    call: Call, tmp_path: Path, text: str, said: str
) -> None:
    config = tmp_path / "sse-fast.toml"
    config.write_text(text)
    code, out, err = call("serve", "--config", config, "--check")
    assert (code, out) == (1, "")
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("variables", "arguments", "said"),
    [
        ({"HISTORY": "x"}, [], "sse-fast: SSE_FAST_HISTORY='x' is not allowed"),
        ({"MAX_LAG": "9", "HISTORY": "3"}, [], "sse-fast: max_lag must not exceed history"),
        ({}, ["--max-lag", "9", "--history", "3"], "sse-fast: max_lag must not exceed history"),
        ({"HISTORY": "3"}, [], "sse-fast.toml:2: max_lag must not exceed history"),
    ],
)
def test_a_file_is_not_blamed_for_what_it_does_not_say(
    call: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    arguments: list[str],
    said: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"SSE_FAST_{name}", value)
    config = tmp_path / "sse-fast.toml"
    config.write_text("history = 100\nmax_lag = 50\n")
    code, _, err = call("serve", "--config", config, "--check", *arguments)
    assert code == 1
    assert said in err


def test_check_says_that_settings_can_be_used_and_does_not_listen_there(call: Call, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = tmp_path / "sse-fast.toml"
        config.write_text(f'port = {port}\nmetrics = "127.0.0.1:{port}"\n[streams."a/**"]\nhistory = 10\n')
        assert call("serve", "--config", config, "--check") == (0, "the settings can be used\n", "")
        code, _, err = call("serve", "--config", config, "--log-level", "error")
        assert code == 1
        assert "in use" in err
