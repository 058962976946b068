"""The documentation is true: every example runs, every command, path and link in it exists.

Examples are taken out of the files as a reader would copy them; only the port is replaced by a free one. A new Python
block runs by itself; what it must show beyond ending well is said in a test of its own.

Long, because each kind of what a page can show has a test of a few lines here.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import json
import operator
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome

import sse_fast
from conftest import Serve
from support.deadline import until
from support.ports import free_ports
from support.process import Program
from support.reader import Reader, fetch

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(sse_fast.__file__).parent
README = ROOT / "README.md"
#: Where a file may be that a document names; what is built or installed is no place for it.
SOURCES = ("rust", "python", "tests", "scripts", "loadtest", "docs", "examples", ".ci")
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(document: Path, language: str) -> list[str]:
    """What stands in the fenced blocks of that language."""
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def without_blocks(document: Path) -> str:
    return re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def each(language: str) -> list[Any]:
    return [
        pytest.param(block, id=f"{document.name} {number}")
        for document in DOCUMENTS
        for number, block in enumerate(blocks(document, language), 1)
    ]


class Example(Program):
    """A Python block, run as it stands but for its port; ready once it has come to `server.wait()`."""

    def __init__(self, block: str) -> None:
        self.port = free_ports(1)[0]
        super().__init__(block.replace("8080", str(self.port)))
        until(self.waits, what="server.wait()")

    def waits(self) -> bool:
        """Whether it catches SIGTERM, as it does from `wait` on."""
        assert self.process.poll() is None, self.stderr
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        return bool(caught & 1 << (signal.SIGTERM - 1))

    def end(self) -> None:
        """As a service manager ends it."""
        self.send_signal(signal.SIGTERM)
        assert self.wait() == 0, self.stderr
        assert "Traceback" not in self.stderr


# ---- Examples in Markdown ------------------------------------------------------------------


@pytest.mark.parametrize("block", each("python"))
def test_a_python_block_runs(block: str) -> None:
    if "server.wait()" in block:
        with Example(block) as example:
            example.end()
    else:
        with Program(block.replace("8080", str(free_ports(1)[0]))) as program:
            assert program.wait() == 0, program.stderr
            assert "Traceback" not in program.stderr


@pytest.mark.parametrize(
    "line", [line for block in blocks(README, "sh") for line in block.splitlines() if "curl" in line]
)
def test_curl_shows_what_the_readme_shows(line: str) -> None:
    """The first Python block, read by the curl line; ids are told apart by their number only."""
    assert shutil.which("curl"), "curl is not installed"
    shown = next(block for block in blocks(README, "text") if block.startswith("event: "))
    with Example(blocks(README, "python")[0]) as example:
        command = [*line.replace("8080", str(example.port)).split(), "--silent", "--max-time", "20"]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        example.end()
    numbered = re.compile(r"^id: [a-z0-9]+-", re.MULTILINE)
    assert numbered.sub("id: ", output).strip() == numbered.sub("id: ", shown).strip()


def test_curl_publishes_as_the_guide_shows() -> None:
    """The guide's server, and its commands one after another in one shell; the third has a key, so it may repeat."""
    page = ROOT / "docs" / "guides" / "publishing.md"
    first, second, third = blocks(page, "sh")[:3]
    with Example(blocks(page, "python")[0]) as example:
        script = f"{first}\n{second}\n{third}\n{third}".replace("8080", str(example.port))
        script = script.replace("curl", "curl -sS -i")
        done = subprocess.run(["bash", "-euc", script], check=True, capture_output=True, text=True)
        example.end()
    ids = re.findall(r'^\{"id":"[a-z0-9]+-(\d)"\}', done.stdout, re.MULTILINE)
    assert ids == ["1", "2", "3", "3"], done.stdout + done.stderr
    assert done.stdout.count("idempotency-replayed: true") == 1


def test_the_handler_that_is_shown_answers_with_its_child_s_stream() -> None:
    page = ROOT / "docs" / "reference" / "runs.md"
    block = next(block for block in blocks(page, "python") if "@server.post" in block)
    with Example(block) as example:
        with Reader(example.port, "/jobs", method="POST", body=b'{"id": 7}') as poster:
            events = poster.open().rest()
        assert [(event.event, event.json()) for event in events[:-1]] == [
            ("COMPILING", {"step": 1}),
            ("DONE", {"runtime_ms": 4.2}),
        ]
        assert events[-1].event == "end"
        assert events[-1].json()["result"] == {"runtime_ms": 4.2}
        assert b"an ordinary log line" not in poster.received
        with Reader(example.port, "/streams/jobs/7") as later:
            assert later.open().rest() == events
        example.end()


@pytest.mark.parametrize("path", ["/streams/reports/2026", "/%73treams/reports%2F2026", "/streams/reports%2f2026?a=b"])
def test_the_guard_that_is_shown_stands_before_every_stream(path: str) -> None:
    page = ROOT / "docs" / "guides" / "private.md"
    with Example(next(block for block in blocks(page, "python") if "{*name}" in block)) as example:
        for kind in ("text/event-stream", "application/json"):
            assert fetch(example.port, path, headers=[("Accept", kind)])[0].status == 403
        with Reader(example.port, path, headers=[("Cookie", "user=ann")]) as reader:
            assert reader.open().next().data == "for ann"
        example.end()


def test_the_report_that_is_shown_is_made_once_somebody_reads() -> None:
    page = ROOT / "docs" / "guides" / "readers.md"
    with Example(next(block for block in blocks(page, "python") if "somebody_reads" in block)) as example:
        asked = fetch(example.port, "/streams/report", headers=[("Accept", "application/json")])[1]
        assert json.loads(asked)["ended"] is False, "who asks once is no reader"
        with Reader(example.port, "/streams/report") as reader:
            assert [event.json() for event in reader.open().rest()] == [{"rows": 42}]
        example.end()


def test_the_program_that_is_shown_to_operators_says_what_they_ask() -> None:
    page = ROOT / "docs" / "guides" / "operating.md"
    with Example(blocks(page, "python")[0].replace("lame_duck=5.0", "lame_duck=0.1")) as example:
        assert "sse_fast_requests_total 1" in fetch(example.port, "/metrics")[1].decode().splitlines()
        assert [fetch(example.port, path)[0].status for path in ("/healthz", "/readyz")] == [200, 200]
        example.end()


@pytest.mark.browser
@pytest.mark.timeout(120)
@pytest.mark.parametrize("block", each("js"))
def test_a_javascript_block_runs_in_a_page(serve: Serve, browser: Chrome, block: str) -> None:
    server = serve()
    stream = server.stream("runs/42", start="all")
    page = f"""<!doctype html><title>example</title><p id="indicator"></p><script type="module">
        window.shown = [];
        const show = (data) => shown.push(data.status);
        {block}
    </script>"""
    server.get("/page")(lambda _req: sse_fast.Response(page, content_type="text/html; charset=utf-8"))
    browser.get(f"{server.url}/page")
    readers = len(re.findall(r"new EventSource|connect\(", block))
    until(lambda: stream.subscribers == readers)
    stream.publish({"status": "COMPILING"}, event="COMPILING")
    stream.publish({"status": "BENCHMARKED"}, event="BENCHMARKED")
    stream.end()
    until(lambda: browser.execute_script("return shown") == ["COMPILING", "BENCHMARKED"])
    until(lambda: browser.execute_script("return indicator.textContent") == "Finished")
    messages = [entry["message"] for entry in browser.get_log("browser")]
    assert any("BENCHMARKED" in message for message in messages), "the first line logs the event's data"
    assert not [message for message in messages if "Uncaught" in message]
    browser.get("about:blank")


def test_what_is_shown_of_a_gap_is_what_a_reader_sees(serve: Serve) -> None:
    page = ROOT / "docs" / "reference" / "http.md"
    shown = next(block for block in blocks(page, "text") if block.startswith("event: gap"))
    server = serve()
    stream = server.stream("s", history=10)
    first = [stream.publish(number) for number in range(300)][79]
    with Reader(server.port, last_event_id=first) as reader:
        gap = reader.open().next()
    assert gap.own_id is None
    assert shown.startswith("event: gap\ndata: ")
    assert list(json.loads(shown.split("data: ")[1])) == list(gap.json())


# ---- Examples in docstrings ----------------------------------------------------------------


def docstrings() -> Iterator[Any]:
    """Every docstring of the package that holds an example; those of native classes stand in the stub."""
    for file in sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyi")]):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                text = ast.get_docstring(node)
                if text and ">>>" in text:
                    name = f"{file.relative_to(PACKAGE)}:{getattr(node, 'name', 'module')}"
                    yield pytest.param(file, text, id=name)


@pytest.mark.parametrize(("file", "text"), list(docstrings()))
def test_an_example_in_a_docstring_shows_what_it_says(file: Path, text: str) -> None:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    module = importlib.import_module(".".join(part for part in parts if part != "__init__"))
    names = dict(vars(module))
    example = doctest.DocTestParser().get_doctest(text, names, str(file), str(file), 0)
    told: list[str] = []
    try:
        doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=told.append)
    finally:
        for value in example.globs.values():
            if isinstance(value, sse_fast.Server):
                value.close(drain=0.0)
    assert not told, "".join(told)


def test_there_are_examples_of_what_everybody_needs() -> None:
    """A stub or a module that is no longer found would make the test above pass over nothing."""
    found = {param.id for param in docstrings()}
    expected = {
        "__init__.py:module",
        "_core.pyi:publish",
        "_core.pyi:heartbeat",
        "_server.py:serve",
        "_server.py:route",
    }
    assert expected <= found


def native() -> Iterator[Any]:
    """Everything that the stub documents, with its text; `__new__` aside, which Python itself documents."""
    for node in ast.parse((PACKAGE / "_core.pyi").read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            yield pytest.param(node.name, ast.get_docstring(node), id=node.name)
        if isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, ast.FunctionDef) and member.name != "__new__":
                    name = f"{node.name}.{member.name}"
                    yield pytest.param(name, ast.get_docstring(member), id=name)


@pytest.mark.parametrize(("name", "text"), list(native()))
def test_help_shows_of_a_native_class_what_the_stub_says(name: str, text: str | None) -> None:
    """Editors read the stub, `help` reads the doc comment in Rust: one text, which neither may change alone."""
    value = operator.attrgetter(name)(sse_fast._core)  # type: ignore[attr-defined]
    assert inspect.getdoc(value) == text


def test_everything_public_of_a_stream_is_in_the_stub() -> None:
    public = {f"Stream.{name}" for name in vars(sse_fast.Stream) if not name.startswith("_")}
    assert public <= {param.id for param in native()}


METHODS = ["publish", "publish_many", "snapshot", "end", "heartbeat", "events", "stats", "remove"]


@pytest.mark.parametrize("method", METHODS)
def test_help_on_a_stream_s_method_has_an_example(method: str) -> None:
    assert ">>> " in (inspect.getdoc(getattr(sse_fast.Stream, method)) or "")


# ---- Commands, options, paths, links -------------------------------------------------------


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("document", [ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda path: path.name)
def test_the_commands_it_names_exist(document: Path) -> None:
    code = [*blocks(document, "sh"), *re.findall(r"`([^`\n]+)`", without_blocks(document))]
    named = {name for text in code for name in re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)}
    assert {"run", "test"} <= named
    assert named <= targets()


def test_make_help_lists_every_command_that_contributing_names() -> None:
    output = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    listed = set(re.findall(r"^ +make ([a-z-]+)", output, re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    assert named <= listed


def test_continuous_integration_runs_what_a_change_must_pass_and_so_the_readme_s_test_command() -> None:
    assert "make test" in "".join(blocks(README, "sh"))
    assert re.search(r"^make check\b", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    steps = re.search(r"^STEPS := (.*)$", makefile, re.MULTILINE)
    tests = re.search(r"^test: ([a-z -]*[a-z])", makefile, re.MULTILINE)
    assert steps is not None
    assert tests is not None
    assert set(tests[1].split()) <= set(steps[1].split())


def test_the_tables_of_options_are_those_of_the_settings() -> None:
    document = ROOT / "docs" / "reference" / "settings.md"
    command = [sys.executable, str(ROOT / "scripts" / "write-options"), str(document), "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, "run `make docs`; " + done.stderr


def test_the_errors_that_it_lists_are_those_of_the_engine() -> None:
    engine = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "rust/sse-fast-server/src").rglob("*.rs"))
    code = re.sub(r"#\[cfg\(test\)\]\nmod tests \{.*?\n\}\n", "", engine, flags=re.DOTALL)
    raised = set(re.findall(r'Refusal::new\((\d+), "(\w+)"', code))
    raised |= {("503", error) for error in re.findall(r'retry_later\(request, "(\w+)"', code)}
    raised |= {("400", "bad_json")}  # `Request.json`, in Python.
    page = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| (\d+) \| `(\w+)` \|", page, re.MULTILINE)) == raised


def test_the_tree_of_exceptions_is_the_package_s() -> None:
    page = (ROOT / "docs" / "reference" / "exceptions.md").read_text(encoding="utf-8")
    tree = page.partition("```text\n")[2].partition("```")[0]
    assert tree in (PACKAGE / "_exceptions.py").read_text(encoding="utf-8")


def test_every_program_is_shown_by_a_page_as_it_is() -> None:
    """Whole, so that it can be copied from where pages are read as they are, too."""
    command = [sys.executable, str(ROOT / "scripts" / "write-programs"), str(ROOT / "docs"), "--check"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, "run `make docs`; " + done.stderr
    pages = "".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    programs = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert len(programs) > 10
    assert [name for name in sorted(programs) if f'title="{name}"' not in pages] == []


@pytest.mark.parametrize("change", [("x = 1", "x = 2"), ("x = 1", ""), ("last", "last\nmore")], ids=repr)
def test_a_page_that_shows_another_program_is_found_and_mended(tmp_path: Path, change: tuple[str, str]) -> None:
    folder = tmp_path / "scripts"
    folder.mkdir()
    script = Path(shutil.copy(ROOT / "scripts" / "write-programs", folder))
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "a.py").write_text("x = 1\n\nlast\n")
    page = tmp_path / "page.md"
    right = '# A page\n\n```python title="a.py"\nx = 1\n\nlast\n```\n\n```python\nx = 1\n```\n'
    page.write_text(right.replace(*change, 1))
    check = [sys.executable, str(script), str(tmp_path), "--check"]
    done = subprocess.run(check, check=False, capture_output=True, text=True)
    assert (done.returncode, "page.md" in done.stderr) == (1, True)
    subprocess.run(check[:-1], check=True)
    assert page.read_text() == right
    subprocess.run(check, check=True)


def anchors(document: Path) -> set[str]:
    """As the places that show Markdown make them of headings."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(document), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_inside_the_repository_lead_somewhere(document: Path) -> None:
    text = without_blocks(document)
    links = [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r"(?:src|srcset|href)=\"([^\"]+)\"", text)]
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_files_it_names_exist(document: Path) -> None:
    """A path is named from the root, or from the folder that the text is about; the end of one must be there.

    So must be a file that the page shows, or has its reader save.
    """
    files = ["/" + str(path.relative_to(ROOT)) for folder in SOURCES for path in (ROOT / folder).rglob("*")]
    files += ["/" + path.name for path in ROOT.iterdir()]
    text = document.read_text(encoding="utf-8")
    files += ["/" + name for name in re.findall(r'^```\w+ title="([^"]+)"$', text, re.MULTILINE)]
    files += ["/" + name for name in re.findall(r"\b[Ss]ave (?:it|this) as `([^`]+)`", text)]
    for name in re.findall(r"`([\w./-]+\.(?:rs|py|pyi|js|md|toml|png))`", text):
        assert any(file.endswith("/" + name) for file in files), name
