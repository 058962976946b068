"""The programs in examples/: each is started as a user starts it, and does what it says.

A new example needs a test here, or in hosts/test_examples.py where it needs a framework; the first test says which one
lacks it.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from selenium.webdriver import Chrome

from conftest import Serve
from support.backplane import BackplaneServer
from support.chromium import console
from support.deadline import until
from support.process import Program
from support.reader import Reader, fetch
from support.sse import Event

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"


@contextlib.contextmanager
def started(name: str, **env: str) -> Iterator[tuple[Program, int, list[str]]]:
    """The example on a free port, its port, and the command that it prints; it ends by SIGTERM, without a word."""
    with Program(EXAMPLES / name, env={"SSE_FAST_PORT": "0", **env}) as program:
        command = shlex.split(program.line())
        assert command[0] == "curl"
        port = urlsplit(next(word for word in command if word.startswith("http://"))).port
        assert port is not None
        yield program, port, command
        end(program)


def end(program: Program) -> None:
    """As a service manager does, once the program has come to its wait."""
    until(lambda: program.catches(signal.SIGTERM), what="server.wait()")
    program.send_signal(signal.SIGTERM)
    assert program.wait() == 0, program.stderr
    assert "Traceback" not in program.stderr


def body_of(command: list[str]) -> bytes:
    """What the command sends."""
    return command[command.index("-d") + 1].encode()


def test_processes_share_a_counter_through_a_backplane() -> None:
    with (
        BackplaneServer() as shared,
        started("shared.py", SSE_FAST_BACKPLANE=shared.url) as (_, port, _command),
        started("shared.py", SSE_FAST_BACKPLANE=shared.url) as (_, other, _command),
        Reader(port, "/streams/clicks") as reader,
    ):
        reader.open()
        ids = [json.loads(fetch(each, "/click", method="POST")[1])["id"] for each in (port, other, port)]
        events = reader.take(3)
        assert [event.last_event_id for event in events] == ids
        assert len({json.loads(event.data)["from"] for event in events}) == 2


def test_each_example_has_a_test() -> None:
    files = [Path(__file__), Path(__file__).with_name("hosts") / "test_examples.py"]
    tested = "".join(file.read_text(encoding="utf-8") for file in files)
    assert [path.name for path in sorted(EXAMPLES.glob("*.py")) if f'"{path.name}"' not in tested] == []


@pytest.mark.parametrize("leave", [Reader.close, Reader.reset], ids=["closed", "reset"])
def test_a_chat_stops_generating_when_its_client_hangs_up(leave) -> None:
    with Program(EXAMPLES / "llm_chat.py", env={"SSE_FAST_PORT": "0"}) as program:
        command = shlex.split(program.line())
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)(/chat)", command[2])
        assert found is not None
        prompt = command[command.index("-d") + 1].encode()
        with Reader(int(found[1]), found[2], method="POST", body=prompt) as reader:
            events = reader.open().take(4)
            assert [json.loads(event.data) for event in events] == [
                {"token": word} for word in ["say", "it", "again", "say"]
            ]
            assert not program.lines[1:]
            leave(reader)
            assert program.line() == "stopped generating"
        program.send_signal(signal.SIGTERM)
        assert program.wait() == 0, program.stderr
        assert not program.stderr


def test_the_chat_is_under_twenty_lines() -> None:
    """Without its description, imports and blank lines."""
    lines = [line for line in (EXAMPLES / "llm_chat.py").read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(lines) < 20


def test_the_start_is_the_readme_s() -> None:
    """There it is run, and read by the curl line."""
    shown = (ROOT / "README.md").read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    assert (EXAMPLES / "start.py").read_text(encoding="utf-8").partition("\n\n")[2] == shown


def test_a_benchmark_is_heard_of_through_its_silence() -> None:
    """benchmark.py starts "benchmark_runner.py"."""
    env = {"PROVISIONING_SECONDS": "0.5", "SSE_FAST_HEARTBEAT": "0.05"}
    with started("benchmark.py", **env) as (program, port, command):
        with Reader(port, "/api/submissions/benchmark", method="POST", body=body_of(command)) as reader:
            reader.open().next()
            again = fetch(port, "/api/submissions/benchmark", method="POST", body=body_of(command))
            assert again[0].status == 409, "it runs"
            with Reader(port, "/streams/submissions/42") as other:
                events = other.open().rest()
            assert b"asking for a machine" not in reader.received + other.received
            beats = [event for event in reader.rest() if event.event == "heartbeat"]
        assert len(beats) >= 3
        assert set(beats[0].json()) == {"timestamp"}
        statuses = [event.event for event in events if event.event != "heartbeat"]
        assert statuses == ["PROVISIONING", "COMPILING", "BENCHMARKED", "end"]
        assert events[-1].json()["result"] == {"status": "BENCHMARKED", "runtime_ms": 4.2}
        for status in statuses:
            assert program.line().startswith(f"42 {status} ")
        # The same once more would be a second run in one stream.
        assert fetch(port, "/api/submissions/benchmark", method="POST", body=body_of(command))[0].status == 409


@pytest.mark.parametrize(
    ("program", "method", "path", "field"),
    [
        ("benchmark.py", "POST", "/api/submissions/benchmark", "submission_id"),
        ("workflow.py", "POST", "/api/chat/async", "message"),
        ("approvals.py", "GET", "/api/clarify/stream", "session_id"),
    ],
)
def test_what_is_missing_is_a_400_that_names_it(program: str, method: str, path: str, field: str) -> None:
    with started(program) as (_, port, _command):
        head, body = fetch(port, path, method=method, body=b"{}" if method == "POST" else b"")
        assert (head.status, json.loads(body)["detail"].partition(":")[0]) == (400, field)


def test_a_workflow_is_waited_for_and_its_plan_comes_first() -> None:
    with started("workflow.py") as (_, port, command):
        answer = json.loads(fetch(port, "/api/chat/async", method="POST", body=body_of(command))[1])
        path = f"/api/streams/{answer['decision_set_id']}"
        assert fetch(port, f"{path}/plan")[0].status == 404
        with Reader(port, path) as early:
            events = early.open().rest()
        assert [event.event for event in events] == ["snapshot", *(["node-start", "node-end"] * 3), "workflow-end"]
        plan = json.loads(fetch(port, f"{path}/plan")[1])
        assert plan == events[0].json()
        with Reader(port, path) as late:
            assert [event.data for event in late.open().rest()] == [event.data for event in events]


def test_a_workflow_s_plan_comes_first_also_when_its_event_is_forgotten() -> None:
    """It is the stream's snapshot, not only its oldest event."""
    with started("workflow.py", SSE_FAST_HISTORY="3", SSE_FAST_MAX_LAG="3") as (_, port, command):
        answer = json.loads(fetch(port, "/api/chat/async", method="POST", body=body_of(command))[1])
        path = f"/api/streams/{answer['decision_set_id']}"
        with Reader(port, path) as early:
            plan = early.open().next()
            assert early.rest()[-1].event == "workflow-end"
        with Reader(port, path) as late:
            seen = late.open().rest()
        assert (seen[0].event, seen[0].json()) == ("snapshot", plan.json())
        assert [event.event for event in seen[1:]] == ["gap", "node-start", "node-end", "workflow-end"]


def test_a_workflow_that_never_comes_is_404_with_the_time_waited() -> None:
    with started("workflow.py", STREAM_DECISION_SET_MAX_WAIT="0.3") as (_, port, _command):
        head, body = fetch(port, "/api/streams/never")
        assert (head.status, json.loads(body)["error"]) == (404, "unknown_stream")
        assert re.search(r"after waiting 0\.[3-9]", json.loads(body)["detail"])


def test_a_prefill_is_heard_of_and_tokens_follow() -> None:
    with started("prefill.py", PREFILL_SECONDS="5.5") as (_, port, command):
        with Reader(port, "/v1/completions", method="POST", body=body_of(command)) as reader:
            chunks = reader.open().rest()
        assert reader.body.startswith(b": prefill\n\ndata: {")
        assert reader.body.endswith(b"data: [DONE]\n\n")
        tokens = [json.loads(chunk.data)["choices"][0]["text"] for chunk in chunks[:-1]]
        assert "".join(tokens) == "once upon a time "


def test_a_completion_stops_when_its_client_hangs_up() -> None:
    with started("prefill.py", PREFILL_SECONDS="2") as (program, port, command):
        with Reader(port, "/v1/completions", method="POST", body=body_of(command)) as reader:
            reader.open()
        assert program.line() == "stopped generating"


def test_approvals_show_the_head_and_the_number() -> None:
    with started("approvals.py") as (program, port, _):
        submit = shlex.split(program.line())
        assert submit[1].endswith("/api/clarify/1")
        with Reader(port, "/api/clarify/stream?session_id=1") as reader:
            first = reader.open().next()
            assert (first.event, first.json()) == ("initial", {"pending": None, "pending_count": 0})
            for question in (b'{"question": "A?"}', b'{"question": "B?"}'):
                assert fetch(port, "/api/clarify/1", method="POST", body=question)[0].status == 204
            for _ in range(3):
                assert fetch(port, "/api/clarify/1", method="DELETE")[0].status == 204
            seen = [(event.json()["pending"] or {}).get("question") for event in reader.take(4)]
            assert seen == ["A?", "A?", "B?", None]
        assert fetch(port, "/api/clarify/1", method="POST", body=body_of(submit))[0].status == 204
        with Reader(port, "/api/clarify/stream?session_id=1") as reader:
            first = reader.open().next()
            assert (first.event, first.json()) == (
                "initial",
                {"pending": {"question": "Which branch?"}, "pending_count": 1},
            )


def test_a_ticker_gives_the_newest_first() -> None:
    with started("ticker.py") as (_, port, command):
        with Reader(port, urlsplit(command[-1]).path) as reader:
            events = reader.open().take(3)
        assert [event.event for event in events] == ["snapshot"] * 3
        assert set(events[0].json()) == {"AAPL", "GOOG", "MSFT"}
        assert len({event.own_id for event in events}) == 3


def test_streams_survive_a_kill(tmp_path: Path) -> None:
    def program() -> Program:
        return Program(EXAMPLES / "store.py", env={"SSE_FAST_PORT": "0"}, cwd=tmp_path)

    def read(program: Program, last_event_id: str | None, count: int) -> list[Event]:
        url = urlsplit(shlex.split(program.line())[-1])
        with Reader(url.port or 0, url.path, last_event_id=last_event_id) as reader:
            return reader.open().take(count)

    with program() as killed:
        *_, last = read(killed, None, 3)
        killed.process.kill()
        killed.wait()
    with program() as again:
        (following,) = read(again, last.last_event_id, 1)
        end(again)
    assert following.json() == {"number": last.json()["number"] + 1}


@pytest.mark.browser
def test_a_whole_page_shows_its_steps_and_the_end(browser: Chrome) -> None:
    with Program(EXAMPLES / "page.py", env={"SSE_FAST_PORT": "0"}) as program:
        browser.get(program.line())
        steps = "return [...document.querySelectorAll('#steps li')].map((step) => step.textContent)"
        for _ in range(2):  # The second time from the beginning, after the end.
            until(lambda: browser.execute_script("return document.getElementById('state').textContent") == "Finished")
            assert browser.execute_script(steps) == ["QUEUED", "COMPILING", "BENCHMARKED"]
            browser.refresh()
        browser.get("about:blank")
        assert [line for line in console(browser) if "favicon" not in line] == []
        end(program)


def test_a_program_of_asyncio_publishes_reads_and_ends() -> None:
    with started("asyncio_app.py") as (program, port, command):
        with Reader(port, urlsplit(command[-1]).path) as reader:
            numbers = [event.json()["number"] for event in reader.open().take(3)]
        assert numbers == list(range(numbers[0], numbers[0] + 3))
        assert json.loads(program.line()) == {"number": 0}


def test_a_program_without_a_server_publishes_into_another_one_s(serve: Serve) -> None:
    key = "a-key-of-32-characters-or-more-00"
    hub = serve(publish_key=key, start="all", history=2000)
    with Program(EXAMPLES / "publisher.py", env={"SSE_FAST_URL": hub.url, "SSE_FAST_KEY": key}) as program:
        assert shlex.split(program.line())[-1] == f"{hub.url}/streams/reports/today"
        assert program.wait() == 0, program.stderr
        assert program.read_to_end()[1:] == []
    with Reader(hub.port, "/streams/reports/today") as reader:
        events = reader.open().rest()
    assert [event.event for event in events] == ["READING", *["ROW"] * 1000, "DONE"]


def test_a_page_outlives_a_deploy() -> None:
    """What a browser's EventSource does: it comes back with the last id that it has."""
    port = ""
    with Program(EXAMPLES / "deploy.py", env={"SSE_FAST_PORT": "0"}) as old:
        port = str(urlsplit(shlex.split(old.line())[-1]).port)
        with Reader(int(port), "/events/status") as reader, Reader(int(port), "/events/not/yet") as early:
            first = reader.open().next()
            early.open()
            end(old)
            assert reader.rest() == []
            assert early.rest() == []
    with Program(EXAMPLES / "deploy.py", env={"SSE_FAST_PORT": port, "VERSION": "2"}) as new:
        new.line()
        with Reader(int(port), "/events/status", last_event_id=first.own_id) as reader:
            gap, state = reader.open().take(2)
        assert (gap.event, gap.json()["skipped"]) == ("gap", None)
        assert state.json() == {"version": "2"}
        with Reader(int(port), "/events/not/yet") as early:
            assert early.open().head is not None
        end(new)


def test_private_streams_are_read_by_their_users_alone_until_they_log_out() -> None:
    ann, bob = [("Cookie", "session=secret-of-ann")], [("Cookie", "session=secret-of-bob")]
    with started("private_streams.py") as (_, port, command):
        assert command[-1].endswith("/streams/users/ann/inbox")
        assert command[3] == "Cookie: session=secret-of-ann"
        assert [fetch(port, "/streams/users/ann/inbox", headers=headers)[0].status for headers in ([], bob)] == [
            403
        ] * 2
        assert fetch(port, "/ticket", method="POST")[0].status == 401
        ticket = json.loads(fetch(port, "/ticket", method="POST", headers=ann)[1])["ticket"]
        with (
            Reader(port, "/streams/users/ann/inbox", headers=ann) as one,
            Reader(port, f"/streams/users/ann/inbox?ticket={ticket}") as other,
        ):
            one.open()
            other.open()
            body = b'{"from":"bob"}'
            assert fetch(port, "/notify/ann", method="POST", headers=bob, body=body)[0].status == 204
            for reader in (one, other):
                event = reader.next()
                assert (event.event, event.json()) == ("notification", {"from": "bob"})
            assert json.loads(fetch(port, "/logout", method="POST", headers=ann)[1]) == {"ended": 2}
            assert (one.rest(), other.rest()) == ([], [])
        assert fetch(port, f"/streams/users/ann/inbox?ticket={ticket}")[0].status == 401
