"""Child processes whose marked output lines are a stream.

Guards the contract of runs: not one byte of log in the stream under any line
length, line end, interleaving or encoding; pipes always drained; the terminal
event with its facts; markers that cannot be forged; timeouts, signals and
shutdown; and that a grandchild cannot hold the end back.

Long, because a child process can do one thing in many ways, and each is one small program with its test.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import sse_fast
from conftest import Serve
from support.deadline import until
from support.reader import Reader
from support.sse import Event

MEBIBYTE = 1 << 20


def python(source: str, *arguments: object) -> list[str]:
    return [sys.executable, "-u", "-c", textwrap.dedent(source), *map(str, arguments)]


def run_whole(server: sse_fast.Server, source: str, **options: Any) -> tuple[list[Event], dict[str, Any]]:
    """Run a child to its end; its events, and the data of the terminal one."""
    name = f"run-{time.monotonic_ns()}"
    run = server.run(python(source), stream=name, **options)
    run.wait(60)
    with Reader(server.port, f"/streams/{name}") as reader:
        events = reader.open().rest(60)
    assert events[-1].event == "end"
    return events[:-1], events[-1].json()


def pairs(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.event, event.data) for event in events]


WRITE_UP = """
import json, logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
logger = logging.getLogger("task")
def send_sse(event, data):
    logger.info(f"Sending SSE event: {event} - {json.dumps(data, indent=2)}")
    print(f"SSE_EVENT:event: {event}", flush=True)
    print(f"SSE_EVENT:data: {json.dumps(data)}", flush=True)
    print("SSE_EVENT:", flush=True)
"""


def test_marked_lines_become_events_and_logs_go_to_the_logger(
    server: sse_fast.Server, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "sse_fast"):
        events, end = run_whole(
            server,
            WRITE_UP
            + 'for status in ("IN_QUEUE", "COMPILING", "BENCHMARKED"):\n    send_sse(status, {"status": status})\n'
            'print("to standard error", file=sys.stderr)\n',
        )
        until(lambda: "to standard error" in caplog.text, what="the child's logs in ours")
    assert pairs(events) == [(name, f'{{"status": "{name}"}}') for name in ("IN_QUEUE", "COMPILING", "BENCHMARKED")]
    assert "Sending SSE event: COMPILING" in caplog.text
    assert all(record.name.startswith("sse_fast") for record in caplog.records)
    assert end["exit_code"] == 0
    assert end["signal"] is None
    assert end["status"] == "BENCHMARKED"
    assert end["result"] == {"status": "BENCHMARKED"}
    assert end["duration_s"] > 0
    assert set(end) == {"exit_code", "signal", "status", "result", "duration_s"}


@pytest.mark.parametrize("line_end", ["\\n", "\\r\\n", "\\r"])
def test_every_kind_of_line_end_ends_a_line(server: sse_fast.Server, line_end: str) -> None:
    events, _ = run_whole(
        server,
        f"""
        import sys
        out = sys.stdout.buffer
        for progress in range(3):
            out.write(b"progress " + bytes([48 + progress]) + b"{line_end}")
        out.write(b"SSE_EVENT:event: A{line_end}SSE_EVENT:data: 1{line_end}")
        out.write(b"SSE_EVENT:data: 2{line_end}SSE_EVENT:{line_end}")
        out.write(b"log again{line_end}")
        out.flush()
        """,
    )
    assert pairs(events) == [("A", "1\n2")]


def test_any_split_of_the_bytes_gives_the_same_events(server: sse_fast.Server) -> None:
    events, _ = run_whole(
        server,
        """
        import os
        text = "log\\r\\nSSE_EVENT:event: größe\\r\\nSSE_EVENT:data: ✓ one\\r\\nSSE_EVENT:\\r\\n"
        text += "more log\\rSSE_EVENT:data: two\\rSSE_EVENT:\\r"
        for byte in text.encode():
            os.write(1, bytes([byte]))
        """,
    )
    assert pairs(events) == [("größe", "✓ one"), ("message", "two")]


def test_fields_are_read_as_a_browser_reads_them(server: sse_fast.Server) -> None:
    events, _ = run_whole(
        server,
        r"""
        for line in ["event:A", "data:no space", "id: own-1", "retry: 1500", "", "data:  two spaces", "", ": a comment",
                     "unknown: x", "data: last", ""]:
            print("SSE_EVENT:" + line)
        """,
    )
    assert pairs(events) == [("A", "no space"), ("message", " two spaces"), ("message", "last")]
    assert events[0].own_id == "own-1"
    assert events[0].retry == 1500


def test_a_marker_inside_a_line_is_log(server: sse_fast.Server) -> None:
    events, _ = run_whole(
        server,
        """
        print("  SSE_EVENT:event: indented")
        print("INFO SSE_EVENT:data: inside")
        print("sse_event:data: lower case")
        print("SSE_EVENT data: no colon")
        print("SSE_EVENT:event: real")
        print("a log line between the lines of an event")
        print("SSE_EVENT:data: 1")
        print("SSE_EVENT:")
        """,
    )
    assert pairs(events) == [("real", "1")]


def test_s0_2_no_byte_of_a_log_reaches_the_stream_under_any_interleaving(server: sse_fast.Server) -> None:
    """Two pipes, three writers, long lines, binary rubbish, unfinished lines: forty events, nothing else."""
    events, end = run_whole(
        server,
        """
        import os, random, sys, threading
        random.seed(7)
        lock = threading.Lock()
        def noise(fd, tag):
            for number in range(400):
                kind = number % 5
                line = {
                    0: b"LOG " + tag + b" %d\\n" % number,
                    1: b"LOG " + b"x" * random.randrange(200_000) + b"\\n",
                    2: b"LOG " + bytes(random.randrange(128, 256) for _ in range(50)) + b"\\n",
                    3: b"LOG progress\\r",
                    4: b"LOG data: fake\\nLOG event: fake\\n\\n",
                }[kind]
                with lock if fd == 1 else threading.Lock():
                    view = memoryview(line)
                    while view:
                        view = view[os.write(fd, view):]
        pipes = (1, b"out"), (2, b"err"), (2, b"err2")
        threads = [threading.Thread(target=noise, args=pipe) for pipe in pipes]
        for thread in threads:
            thread.start()
        for number in range(40):
            with lock:
                os.write(1, b"SSE_EVENT:event: E\\nSSE_EVENT:data: %d\\nSSE_EVENT:\\n" % number)
        for thread in threads:
            thread.join()
        """,
    )
    assert pairs(events) == [("E", str(number)) for number in range(40)]
    assert end["exit_code"] == 0
    assert "LOG" not in json.dumps(end)


def test_pipes_are_drained_whatever_the_child_writes(server: sse_fast.Server) -> None:
    """More than any pipe holds, on both, in lines without end: the child is never blocked."""
    events, end = run_whole(
        server,
        """
        import sys
        sys.stdout.buffer.write(b"x" * 20_000_000)
        sys.stderr.buffer.write(b"y" * 20_000_000)
        sys.stdout.buffer.write(b"\\nSSE_EVENT:data: after\\nSSE_EVENT:\\n")
        """,
    )
    assert pairs(events) == [("message", "after")]
    assert end["exit_code"] == 0


def test_an_event_above_the_limit_is_an_error_event_and_the_next_one_is_fine(
    server: sse_fast.Server, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "sse_fast"):
        events, end = run_whole(
            server,
            """
            print("SSE_EVENT:event: BIG")
            print("SSE_EVENT:data: " + "x" * 5_000_000)
            print("SSE_EVENT:")
            print("SSE_EVENT:event: NEXT")
            print("SSE_EVENT:data: fine")
            print("SSE_EVENT:")
            """,
        )
        until(lambda: caplog.records, what="a log line about it")
    assert [event.event for event in events] == ["error", "NEXT"]
    assert len(events[0].data) < 10_000
    assert end["result"] == "fine"


def test_an_event_just_below_the_limit_arrives_whole(server: sse_fast.Server) -> None:
    size = MEBIBYTE - 4096
    source = f'print("SSE_EVENT:data: " + "x" * {size}); print("SSE_EVENT:")'
    events, _ = run_whole(server, source, history_bytes=8 * MEBIBYTE)
    assert [len(event.data) for event in events] == [size]


def test_bytes_that_are_not_utf_8_are_rejected_in_events_and_replaced_in_logs(
    server: sse_fast.Server, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "sse_fast"):
        events, _ = run_whole(
            server,
            """
            import sys
            sys.stdout.buffer.write(b"log caf\\xe9\\nSSE_EVENT:event: BAD\\nSSE_EVENT:data: caf\\xe9\\nSSE_EVENT:\\n")
            sys.stdout.buffer.write(b"SSE_EVENT:event: GOOD\\nSSE_EVENT:data: fine\\nSSE_EVENT:\\n")
            """,
        )
        until(lambda: "log caf\ufffd" in caplog.text, what="the replaced log line")
        until(lambda: "BAD" in caplog.text, what="a log line about the rejected event")
    assert pairs(events) == [("GOOD", "fine")]


def test_what_the_wire_refuses_in_an_event_is_no_silent_loss(
    server: sse_fast.Server, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "sse_fast"):
        events, _ = run_whole(
            server,
            r"""
            import sys
            sys.stdout.buffer.write(b"SSE_EVENT:event: A\0B\nSSE_EVENT:data: 1\nSSE_EVENT:\n")
            sys.stdout.buffer.write(b"SSE_EVENT:event: GOOD\nSSE_EVENT:data: 2\nSSE_EVENT:\n")
            """,
        )
        until(lambda: caplog.records, what="a log line about it")
    assert ("GOOD", "2") in pairs(events)
    assert "\0" not in events[0].event


def test_a_child_that_prints_nothing_has_a_result_of_null_never_zero(server: sse_fast.Server) -> None:
    events, end = run_whole(server, "pass")
    assert events == []
    assert (end["exit_code"], end["status"], end["result"]) == (0, None, None)


def test_a_heartbeat_of_the_child_is_an_event_but_no_status(server: sse_fast.Server) -> None:
    events, end = run_whole(
        server,
        """
        from sse_fast.runner import emit
        emit("COMPILING", {"n": 1})
        emit("heartbeat", {"timestamp": 1})
        """,
    )
    assert [event.event for event in events] == ["COMPILING", "heartbeat"]
    assert (end["status"], end["result"]) == ("COMPILING", {"n": 1})


def test_result_that_is_not_json_is_text(server: sse_fast.Server) -> None:
    _, end = run_whole(server, 'print("SSE_EVENT:data: just text"); print("SSE_EVENT:")')
    assert end["result"] == "just text"


# ---- emit and markers --------------------------------------------------------------------


def test_emit_publishes_what_publish_would(server: sse_fast.Server) -> None:
    events, end = run_whole(
        server,
        r"""
        import dataclasses, datetime, uuid
        from sse_fast.runner import emit
        @dataclasses.dataclass
        class Point:
            x: int
        print("no newline at the end", end="")
        emit("A", {"text": "ä\nb\u2028"})
        emit("B", "lines\r\nof\rtext")
        emit(None, [Point(1), datetime.date(2026, 1, 2), uuid.UUID(int=7)], id="own")
        emit("C")
        """,
    )
    assert [(event.event, event.data if event.event != "A" else event.json()) for event in events] == [
        ("A", {"text": "ä\nb\u2028"}),
        ("B", "lines\nof\ntext"),
        ("message", '[{"x":1},"2026-01-02","00000000-0000-0000-0000-000000000007"]'),
        ("C", "null"),
    ]
    assert events[2].own_id == "own"
    assert end["status"] == "C"


def test_emit_refuses_what_publish_refuses(server: sse_fast.Server) -> None:
    events, _ = run_whole(
        server,
        r"""
        from sse_fast.runner import emit
        values, types = [("a\nb",), ("a\0",)], [(5,), ("a", object())]
        for arguments, error in [(value, ValueError) for value in values] + [(value, TypeError) for value in types]:
            try:
                emit(*arguments)
            except error as caught:
                emit("refused", type(caught).__name__)
        """,
    )
    assert pairs(events) == [("refused", "ValueError")] * 2 + [("refused", "TypeError")] * 2


def test_emit_from_many_threads_never_mixes_events(server: sse_fast.Server) -> None:
    events, _ = run_whole(
        server,
        """
        import threading
        from sse_fast.runner import emit
        def work(name):
            for number in range(50):
                emit(name, {"name": name, "number": number, "pad": "x" * (number * 40)})
                print("log", name, number)
        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        """,
        history=1000,
        max_lag=1000,
    )
    assert len(events) == 200
    for name in "abcd":
        own = [event.json() for event in events if event.event == name]
        assert [value["number"] for value in own] == list(range(50))
        assert {value["name"] for value in own} == {name}


def test_with_marker_none_a_fixed_marker_is_only_log(server: sse_fast.Server) -> None:
    events, _ = run_whole(
        server,
        """
        from sse_fast.runner import emit
        print("SSE_EVENT:event: FORGED"); print("SSE_EVENT:data: 1"); print("SSE_EVENT:")
        emit("REAL", 1)
        """,
        marker=None,
    )
    assert pairs(events) == [("REAL", "1")]


def test_the_random_marker_is_new_for_each_run_and_hard_to_guess(server: sse_fast.Server) -> None:
    source = 'import os; from sse_fast.runner import emit; emit("M", os.environ["SSE_FAST_MARKER"])'
    markers = {run_whole(server, source)[0][0].data for _ in range(3)}
    assert len(markers) == 3
    assert all(len(marker) >= 16 for marker in markers)


def test_a_marker_of_one_s_own(server: sse_fast.Server) -> None:
    events, _ = run_whole(
        server,
        'print("@@data: 1"); print("@@"); print("SSE_EVENT:data: 2"); print("SSE_EVENT:")',
        marker="@@",
    )
    assert pairs(events) == [("message", "1")]


# ---- Ends --------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_the_exit_code_is_in_the_terminal_event_and_on_the_run(server: sse_fast.Server, code: int) -> None:
    run = server.run(python(f"import sys; sys.exit({code})"), stream="s")
    assert run.wait(30) == code
    assert (run.returncode, run.poll()) == (code, code)
    with Reader(server.port) as reader:
        assert reader.open().rest()[-1].json()["exit_code"] == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_signal_is_named_and_the_exit_code_is_null(server: sse_fast.Server, number: signal.Signals) -> None:
    run = server.run(python("import os, sys; os.kill(os.getpid(), int(sys.argv[1]))", int(number)), stream="s")
    assert run.wait(30) == -number
    with Reader(server.port) as reader:
        end = reader.open().rest()[-1].json()
    assert end["exit_code"] is None
    assert end["signal"] in {number.name, int(number)}


def test_s0_6_events_written_in_the_last_moment_precede_the_terminal_one(server: sse_fast.Server) -> None:
    for _ in range(20):
        events, end = run_whole(
            server,
            """
            import os
            from sse_fast.runner import emit
            for number in range(100):
                emit("E", number)
            os._exit(0)
            """,
        )
        assert [event.data for event in events] == [str(number) for number in range(100)]
        assert end["result"] == 99


def test_an_event_without_its_end_is_published_with_a_warning_or_said_to_be_cut(
    server: sse_fast.Server, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "sse_fast"):
        events, _ = run_whole(server, 'print("SSE_EVENT:event: LAST"); print("SSE_EVENT:data: 1")')
        # Records come by a thread of their own, behind the events.
        until(lambda: caplog.records)
    assert pairs(events) == [("LAST", "1")]


GRANDCHILD = """
import subprocess, sys
from sse_fast.runner import emit
# Keeps both pipes open long after its parent has gone, and ends by itself.
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
emit("CHILD", child.pid)
"""


def test_a_grandchild_that_keeps_the_pipe_open_does_not_hold_the_end_back(server: sse_fast.Server) -> None:
    run = server.run(python(GRANDCHILD), stream="s", drain=0.3)
    assert run.wait(20) == 0
    with Reader(server.port) as reader:
        child, end = reader.open().rest()
    assert end.json()["exit_code"] == 0
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(child.data), signal.SIGKILL)


def test_a_run_s_own_descendant_that_writes_in_time_is_still_heard(server: sse_fast.Server) -> None:
    events, _ = run_whole(
        server,
        """
        import subprocess, sys
        subprocess.Popen([sys.executable, "-c", "from sse_fast.runner import emit; emit('GRANDCHILD', 1)"])
        """,
        drain=30.0,
    )
    assert pairs(events) == [("GRANDCHILD", "1")]


# ---- Timeout, signals, shutdown ----------------------------------------------------------

STUBBORN = """
import signal
from sse_fast.runner import emit
signal.signal(signal.SIGTERM, lambda *_: emit("TERM", 1))
signal.alarm(60)  # It outlives no test by more.
emit("READY", 1)
while True:
    signal.pause()
"""


@pytest.mark.alone  # The child has a second and a half to be ready, and half a one to hear.
def test_a_timeout_is_term_grace_kill_and_a_terminal_event_that_says_so(server: sse_fast.Server) -> None:
    events, end = run_whole(server, STUBBORN, timeout=1.5, grace=0.5)
    assert [event.event for event in events] == ["READY", "TERM"]
    assert end["signal"] in {"SIGKILL", 9}
    assert end["exit_code"] is None
    assert "timeout" in json.dumps(end).lower()


def test_a_child_that_obeys_term_needs_no_kill(server: sse_fast.Server) -> None:
    _, end = run_whole(server, "import time; time.sleep(60)", timeout=0.5, grace=30.0)
    assert end["signal"] in {"SIGTERM", 15}
    assert "timeout" in json.dumps(end).lower()


def test_terminate_kill_and_send_signal_reach_the_child(server: sse_fast.Server) -> None:
    for act, number in (
        (lambda run: run.terminate(), signal.SIGTERM),
        (lambda run: run.kill(), signal.SIGKILL),
        (lambda run: run.send_signal(signal.SIGINT), signal.SIGINT),
    ):
        name = f"s-{number.name}"
        run = server.run(
            python(
                "import signal, time; signal.signal(signal.SIGINT, signal.SIG_DFL); "
                "print('SSE_EVENT:data: up'); print('SSE_EVENT:'); time.sleep(60)"
            ),
            stream=name,
        )
        until(lambda run=run: run.stream.last_id, what="the child being up")
        assert run.poll() is None
        assert run.returncode is None
        act(run)
        assert run.wait(30) == -number
        # After the end every one of them does nothing.
        run.terminate()
        run.kill()
        run.send_signal(signal.SIGTERM)


def test_wait_with_a_timeout_raises_wait_timeout_and_can_be_repeated(server: sse_fast.Server) -> None:
    run = server.run(python("import time; time.sleep(60)"), stream="s")
    with pytest.raises(sse_fast.WaitTimeout) as caught:
        run.wait(0.05)
    assert isinstance(caught.value, TimeoutError)
    run.kill()
    assert run.wait(30) == -9


def test_closing_the_server_ends_its_runs_the_same_way(serve: Serve) -> None:
    server = serve()
    run = server.run(
        python("import time; print('SSE_EVENT:data: up'); print('SSE_EVENT:'); time.sleep(60)"), stream="s"
    )
    with Reader(server.port) as reader:
        reader.open().next()
        closing = threading.Thread(target=server.close, kwargs={"drain": 10.0})
        closing.start()
        end = reader.rest()[-1]
        closing.join(30)
    assert end.event == "end"
    assert end.json()["signal"] in {"SIGTERM", 15}
    until(lambda: not _alive(run.pid))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_ended_children_are_reaped(server: sse_fast.Server) -> None:
    runs = [server.run(python("pass"), stream=f"s{number}") for number in range(10)]
    for run in runs:
        run.wait(30)
    until(lambda: not any(_alive(run.pid) for run in runs), what="no zombies")


def test_a_run_does_not_disturb_subprocess_nor_is_disturbed_by_it(server: sse_fast.Server) -> None:
    import subprocess

    run = server.run(python("print('SSE_EVENT:data: 1'); print('SSE_EVENT:')"), stream="s")
    for code in range(10):
        assert subprocess.run([sys.executable, "-c", f"raise SystemExit({code})"], check=False).returncode == code
    assert run.wait(30) == 0


def test_the_stream_of_a_blocked_child_gets_the_engine_s_heartbeats(server: sse_fast.Server) -> None:
    run = server.run(python("import time; time.sleep(60)"), stream="s", heartbeat=0.05, heartbeat_event="heartbeat")
    with Reader(server.port) as reader:
        events = reader.open().take(5)
        assert {event.event for event in events} == {"heartbeat"}
        run.kill()
        assert reader.rest()[-1].event == "end"


# ---- The Python side ---------------------------------------------------------------------


def test_on_event_is_called_with_every_event_in_order_and_may_fail(
    server: sse_fast.Server, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[sse_fast.Event] = []

    def on_event(event: sse_fast.Event) -> None:
        seen.append(event)
        if event.event == "B":
            raise RuntimeError("broken callback")

    with caplog.at_level(logging.ERROR, "sse_fast"):
        run = server.run(
            python("from sse_fast.runner import emit\nfor name in 'ABC': emit(name, {'name': name})"),
            stream="s",
            on_event=on_event,
        )
        assert run.wait(30) == 0
        until(lambda: len(seen) == 4)
    assert [event.event for event in seen] == ["A", "B", "C", "end"]
    assert seen[0].json() == {"name": "A"}
    assert "broken callback" in caplog.text


def test_run_has_popens_manners(server: sse_fast.Server) -> None:
    run = server.run(python("from sse_fast.runner import emit; emit('DONE', {'ms': 4.25})"), stream="jobs/1")
    assert isinstance(run.pid, int)
    assert run.pid > 0
    assert run.wait(30) == 0
    assert (run.status, run.result) == ("DONE", {"ms": 4.25})
    assert run.stream.name == "jobs/1"
    assert run.stream.ended


def test_cwd_and_env_reach_the_child(server: sse_fast.Server, tmp_path: Path) -> None:
    source = """
    import os
    from sse_fast.runner import emit
    emit('E', [os.getcwd(), os.environ.get('MINE'), os.environ.get('THEIRS')])
    """
    os.environ["THEIRS"] = "inherited"
    try:
        inherited, _ = run_whole(server, source, cwd=tmp_path)
        own, _ = run_whole(server, source, env={"MINE": "x ü", "PATH": os.environ["PATH"], "PYTHONIOENCODING": "utf-8"})
    finally:
        del os.environ["THEIRS"]
    assert inherited[0].json() == [str(tmp_path.resolve()), None, "inherited"]
    assert own[0].json()[1:] == ["x ü", None]


def test_the_child_gets_no_descriptors_and_no_input(server: sse_fast.Server) -> None:
    events, _ = run_whole(
        server,
        """
        import os, sys
        from sse_fast.runner import emit
        def kind(fd):
            try:
                return os.readlink(f"/proc/self/fd/{fd}")
            except OSError:
                return None
        emit("E", {"fds": sorted(filter(None, (kind(fd) for fd in range(3, 200)))), "stdin": sys.stdin.read()})
        """,
    )
    value = events[0].json()
    assert value["stdin"] == ""
    assert not [fd for fd in value["fds"] if fd.startswith(("socket", "anon_inode"))], value["fds"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"argv": []}, ValueError),
        ({"argv": [""]}, ValueError),
        ({"argv": ["a\0b"]}, ValueError),
        ({"argv": "echo hello"}, TypeError),
        ({"argv": [5]}, TypeError),
        ({"argv": ["no-such-program-anywhere"]}, OSError),
        ({"argv": ["."]}, OSError),
        ({"cwd": "no-such-directory"}, OSError),
        ({"env": {"A=B": "x"}}, (ValueError, OSError)),
        ({"env": {"A": "x\0"}}, (ValueError, OSError)),
        ({"marker": ""}, ValueError),
        ({"marker": "a\nb"}, ValueError),
        ({"marker": "a\0b"}, ValueError),
        ({"timeout": 0}, ValueError),
        ({"timeout": -1}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"grace": -1}, ValueError),
        ({"drain": -1}, ValueError),
        ({"history": 0}, ValueError),
        ({"nope": 1}, ValueError),
        ({"stream": ""}, ValueError),
    ],
    ids=repr,
)
def test_a_bad_argument_is_a_typed_error_and_no_process_is_started(
    server: sse_fast.Server, arguments: dict[str, Any], error: Any
) -> None:
    with pytest.raises(error):
        server.run(**{"argv": [sys.executable, "-c", "pass"], "stream": "s", **arguments})
    assert not server.streams(), "nothing half-made is left that would wait for an end for ever"


@pytest.mark.parametrize("argv", [["/nonexistent"], [], ["a\0b"]], ids=repr)
def test_a_run_that_cannot_start_leaves_its_stream_as_it_was(server: sse_fast.Server, argv: list[str]) -> None:
    kept = server.stream("kept")
    for name in ("kept", "jobs/1"):
        with pytest.raises((sse_fast.RunError, sse_fast.RunArgumentError)):
            server.run(argv, stream=name, on_event=print)
    assert [stream.name for stream in server.streams()] == ["kept"]
    assert kept.publish("still open").endswith("-1")
    with Reader(server.port, "/streams/jobs/1") as reader:
        assert reader.read_head().status == 404


def test_a_run_into_an_ended_stream_is_refused(server: sse_fast.Server) -> None:
    server.stream("s").end("over")
    with pytest.raises(sse_fast.StreamEnded):
        server.run(python("pass"), stream="s")


def test_many_runs_at_once(server: sse_fast.Server) -> None:
    runs = [
        server.run(["/bin/sh", "-c", f"echo SSE_EVENT:data: {number}; echo SSE_EVENT:"], stream=f"many/{number}")
        for number in range(60)
    ]
    for number, run in enumerate(runs):
        assert run.wait(60) == 0
        assert run.result == number


def test_a_flood_of_events_from_a_child_arrives_whole(server: sse_fast.Server) -> None:
    run = server.run(
        python("import sys\nsys.stdout.write(''.join(f'SSE_EVENT:data: {n}\\nSSE_EVENT:\\n' for n in range(20000)))\n"),
        stream="s",
    )
    with Reader(server.port) as reader:
        events = reader.open().rest(60)
    assert run.wait(30) == 0
    skipped = sum(event.json()["skipped"] for event in events if event.event == "gap")
    data = [event.data for event in events if event.event == "message"]
    assert len(data) + skipped == 20_000
    assert data[-1] == "19999"
