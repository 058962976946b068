"""An address that is in use: the error says by whom, for what to do about it depends on that; and sockets whose options
a system lacks, which are no reason not to serve.
"""

from __future__ import annotations

import errno
import socket

import pytest

import sse_fast
from conftest import Serve
from support.process import Program, run_program

TRY = """
import sys, sse_fast
def attempt(port):
    try:
        sse_fast.serve(port).close()
        print("served", flush=True)
    except sse_fast.AddressInUse as error:
        print(error.errno, str(error), flush=True)
"""


def test_this_very_process_is_named(serve: Serve) -> None:
    first = serve()
    with pytest.raises(sse_fast.AddressInUse, match="in use by this very process") as caught:
        serve(first.port)
    assert str(first.port) in str(caught.value)
    assert caught.value.errno == errno.EADDRINUSE


def test_another_server_of_this_process_is_named_likewise(serve: Serve) -> None:
    refused = pytest.raises(sse_fast.AddressInUse, match="in use by this very process")
    with socket.create_server(("0.0.0.0", 0)) as other, refused:
        serve(other.getsockname()[1])


def test_the_parent_is_named() -> None:
    program = run_program(
        TRY
        + """
import subprocess
with sse_fast.serve(0) as server:
    child = sys.argv[0:0] + [sys.executable, "-c", sys.argv[1] + "attempt(int(sys.argv[1]))", str(server.port)]
    print(subprocess.run(child, capture_output=True, text=True, check=True).stdout)
""",
        TRY,
    )
    assert "in use by the parent of this process" in program.lines[0], program.lines
    assert "reloader" in program.lines[0]


@pytest.mark.alone  # The engine looks for a tenth of a second, and no longer.
def test_another_worker_of_the_same_program_is_named() -> None:
    program = run_program(
        TRY
        + """
import os
def forked(work):
    pid = os.fork()
    if not pid:
        work()
        os._exit(0)
    return pid
ready, serving = os.pipe()
gate, held = os.pipe()
def first():
    os.close(held)
    server = sse_fast.serve(0)
    os.write(serving, str(server.port).encode())
    os.read(gate, 1)
one = forked(first)
port = int(os.read(ready, 10))
os.waitpid(forked(lambda: attempt(port)), 0)
os.close(held)
os.waitpid(one, 0)
print(one)
"""
    )
    text, first = program.lines
    assert "another process of the same program" in text
    assert f"process {first} " in text
    assert "one engine serves all its workers" in text


@pytest.mark.alone  # The engine looks for a tenth of a second, and no longer.
def test_another_program_is_named_with_its_number() -> None:
    listening = (
        "import socket, time; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1]); time.sleep(600)"
    )
    with Program(listening) as other:
        port = int(other.line())
        with pytest.raises(sse_fast.AddressInUse, match=rf"in use by process {other.pid} \(python[\d.]*\)"):
            sse_fast.serve(port)


@pytest.mark.parametrize("host", ["", "a\0b", "\ud800"])
def test_a_host_that_cannot_be_is_a_setting_error(host: str) -> None:
    with pytest.raises(sse_fast.SettingError, match="host"):
        sse_fast.serve(0, host=host)


@pytest.mark.parametrize(
    "arguments",
    [
        {"argv": ["true", "a\0"]},
        {"argv": ["\ud800"]},
        {"argv": [""]},
        {"argv": ["true"], "cwd": "a\0b"},
        {"argv": ["true"], "cwd": ""},
        {"argv": ["true"], "cwd": "\ud800"},
        {"argv": ["true"], "env": {"A": "\0"}},
        {"argv": ["true"], "env": {"A": "\ud800"}},
        {"argv": ["true"], "env": {"\ud800": "a"}},
        {"argv": ["true"], "env": {"": "a"}},
        {"argv": ["true"], "marker": "\n"},
    ],
    ids=repr,
)
def test_an_argument_of_a_run_that_cannot_be_is_an_argument_error(server: sse_fast.Server, arguments: dict) -> None:
    with pytest.raises(sse_fast.RunArgumentError):
        server.run(**arguments, stream="s")
    assert server.streams() == []


def test_options_that_the_system_lacks_are_warned_of_and_the_server_serves(tmp_path) -> None:
    """strace, which starts the program, has every `setsockopt` fail as a kernel that lacks the option does."""
    source = """
import logging, os, sys
logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stdout)
import sse_fast
with sse_fast.serve(0) as server:
    with __import__("urllib.request").request.urlopen(server.url + "/sse-fast.js") as answer:
        print("answered", answer.status)
"""
    stracing = """
import os, sys
options = ["-f", "-qq", "-o", sys.argv[1], "-e", "trace=setsockopt", "-e", "inject=setsockopt:error=ENOPROTOOPT"]
os.execvp("strace", ["strace", *options, sys.executable, "-u", "-c", sys.argv[2]])
"""
    with Program(stracing, tmp_path / "calls", source) as program:
        program.wait()
        lines = []
        while not lines or not lines[-1].startswith("answered"):
            lines.append(program.line())
    assert lines[-1] == "answered 200"
    warned = [line for line in lines if line.startswith("WARNING")]
    for option in ("SO_REUSEADDR", "TCP_NODELAY", "SO_RCVBUF", "SO_KEEPALIVE", "TCP_USER_TIMEOUT", "TCP_NOTSENT_LOWAT"):
        assert [line for line in warned if option in line], (option, lines)
