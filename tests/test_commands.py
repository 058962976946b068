"""The command `sse-fast` as a whole: help, versions, exit codes, errors in one line, completion.

Guards what every command has in common, and that one which speaks to a server loads no engine. What `serve`, `publish`,
`tail` and `token` do is in test_commands_serve.py and test_commands_clients.py, the demo in test_demo.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from conftest import Call
from sse_fast import _settings
from sse_fast._commands import COMMANDS
from support.demo import START
from support.process import Program, run_program

NAMES = [command.name for command in COMMANDS]


def test_help_names_every_command(call: Call) -> None:
    text = call("--help")[1]
    assert all(f" {name} " in text or f" {name}\n" in text for name in NAMES), text


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_with_examples(call: Call, name: str) -> None:
    lines = call(name, "--help")[1].splitlines()
    assert lines[0].startswith(f"usage: sse-fast {name} ")
    examples = lines[lines.index("examples:") :]
    assert any(f"sse-fast {name}" in line for line in examples)
    assert max(map(len, lines)) <= 120


def test_serve_has_a_flag_for_every_setting_and_none_for_a_secret(call: Call) -> None:
    text = call("serve", "--help")[1]
    for setting in _settings.SETTINGS:
        flag = f"--{setting.name.replace('_', '-')}"
        assert f"{flag}{'-file FILE' if setting.secret else ''}" in text
        assert f"[{setting.variable}]" in "".join(text.split("\n")).replace(" " * 24, "") or setting.variable in text
        assert not setting.secret or f"{flag} " not in text


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "COMMAND"),
        (["nothing"], 2, "invalid choice: 'nothing'"),
        (["publish"], 2, "URL/NAME"),
        (["publish", "http://127.0.0.1:1"], 2, "names no stream"),
        (["publish", "http://127.0.0.1:1/a%zz", "x"], 2, "begins no escape"),
        (["publish", "http://127.0.0.1:1/a%ff", "x"], 2, "not UTF-8"),
        (["publish", "http://127.0.0.1:1/s"], 2, "nothing to publish"),
        (["publish", "http://127.0.0.1:1/s", "x", "--lines"], 2, "--lines"),
        (["publish", "http://127.0.0.1:1/s", "x", "--end", "--id", "a"], 2, "--end and --snapshot"),
        (["publish", "http://127.0.0.1:1/s", "x", "--key-file", "a", "--token-file", "b"], 2, "are both given"),
        (["publish", "http://127.0.0.1:1/s", "x", "--option", "history"], 2, "NAME=VALUE"),
        (["publish", "http://127.0.0.1:1/s", "x", "--option", "histroy=3"], 1, "did you mean history?"),
        (["publish", "http://127.0.0.1:1/s", "x", *["--option", "expire=1"] * 2], 2, "--option expire is given twice"),
        (["publish", "http://127.0.0.1:1/s", "x", "--option", "linger="], 1, "--option linger='' is not allowed"),
        (["publish", "http://127.0.0.1:1/s", "x", "--option", "history=0"], 1, "history must be a whole number"),
        (["publish", "http://127.0.0.1:1/s", "x", "--retry-for", "0"], 1, "Connection refused"),
        (["publish", "http://127.0.0.1:1/s", "x", "--key-file", "/nonexistent"], 1, "/nonexistent"),
        (["publish", "ftp://a/s", "x"], 1, "ftp://a"),
        (["tail"], 2, "URL/NAME"),
        (["tail", "http://127.0.0.1:1/s", "--retry-for", "0"], 1, "Connection refused"),
        (["tail", "http://127.0.0.1:1"], 2, "names no stream"),
        (["token"], 2, "lets nobody do anything"),
        (["token", "--subscribe", "a"], 1, "SSE_FAST_TOKEN_KEY"),
        (["token", "--show", "a.b"], 1, "no JSON Web Token"),
        (["serve", "--history", "0"], 1, "--history=0 is not allowed"),
        (["serve", "--config", "/nonexistent.toml"], 1, "/nonexistent.toml"),
        (["serve", "--nothing", "1"], 2, "--nothing"),
        (["completion", "tcsh"], 2, "tcsh"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_is_wrong_is_said_in_one_line(call: Call, arguments: list[str], code: int, said: str) -> None:
    ended, out, told = call(*arguments)
    assert (ended, out) == (code, "")
    assert said in told
    assert len(told.strip().splitlines()) == 1 or "usage: " in told


SECRET = "sesame-sesame-sesame-sesame-sesame"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--publish-key", SECRET], "set SSE_FAST_PUBLISH_KEY, or give --publish-key-file"),
        (["serve", f"--publish-key={SECRET}"], "--publish-key is no option"),
        (["serve", "--ticket-key", SECRET], "--ticket-key-file"),
        (["serve", "--metrics-key", SECRET], "--metrics-key-file"),
        (["serve", "--backplane", f"redis://user:{SECRET}@host"], "--backplane-file"),
        (["serve", "--publish-k", SECRET], "there is no option --publish-k"),
        (["serve", f"--publish-k={SECRET}"], "there is no option --publish-k"),
        (["serve", f"-k{SECRET}"], "there is no option -k"),
        (["publish", "http://127.0.0.1:1/s", "x", "--key", SECRET], "set SSE_FAST_KEY, or give --key-file"),
        (["publish", "--key", SECRET, "http://127.0.0.1:1/s", "x"], "--key-file"),
        (["publish", "http://127.0.0.1:1/s", "x", "--token", SECRET], "set SSE_FAST_TOKEN, or give --token-file"),
        (["publish", "http://127.0.0.1:1/s", "x", "--publish-key", SECRET], "there is no option --publish-key"),
        (["tail", "http://127.0.0.1:1/s", "--token", SECRET], "--token-file"),
        (["tail", "http://127.0.0.1:1/s", "--toke", SECRET], "there is no option --toke"),
        (["token", "--subscribe", "a", "--secret", SECRET], "set SSE_FAST_TOKEN_KEY, or give --secret-file"),
        (["--key", SECRET, "publish", "http://127.0.0.1:1/s", "x"], "there is no option --key"),
    ],
    ids=lambda value: " ".join(value).replace(SECRET, "SECRET") if isinstance(value, list) else None,
)
def test_a_secret_among_the_arguments_is_refused_and_not_shown(call: Call, arguments: list[str], said: str) -> None:
    ended, out, told = call(*arguments)
    assert (ended, out) == (2, "")
    assert said in told
    assert SECRET not in told


@pytest.mark.parametrize(
    "arguments",
    [["publish", "http://127.0.0.1:1/s", "x", "--retry-f", "0"], ["serve", "--check", "--hist", "1"], ["--versio"]],
    ids=lambda value: value[-1],
)
def test_an_option_has_its_whole_name(call: Call, arguments: list[str]) -> None:
    assert call(*arguments)[0] == 2


def test_a_failure_is_the_process_s_too() -> None:
    with Program(START, "publish", "http://127.0.0.1:1/s", "x", "--retry-for", "0") as program:
        assert program.wait() == 1
        assert program.stderr.startswith("sse-fast: cannot publish into 's'")
        assert "Traceback" not in program.stderr


@pytest.mark.parametrize("name", ["publish", "tail", "token", "completion"])
def test_a_command_that_needs_no_engine_loads_none(name: str) -> None:
    program = run_program(
        """
        import sys
        from sse_fast._commands import parser
        parser(sys.argv[1])
        print([module for module in ("sse_fast._core", "sse_fast.demos", "asyncio", "orjson") if module in sys.modules])
        """,
        name,
    )
    assert program.lines == ["[]"] or name == "completion"


def completed(script: str, line: str) -> list[str]:
    """What bash proposes for the last word of the line."""
    asked = f"""{script}
        COMP_LINE={line!r}
        read -ra COMP_WORDS <<< "$COMP_LINE"
        case "$COMP_LINE" in *" ") COMP_WORDS+=("") ;; esac
        COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _sse_fast
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "--norc"], input=asked, check=True, capture_output=True, text=True)
    assert not done.stderr
    return done.stdout.split()


def test_bash_completes_commands_options_and_values(call: Call) -> None:
    script = call("completion", "bash")[1]
    assert completed(script, "sse-fast p") == ["publish"]
    assert set(NAMES) <= set(completed(script, "sse-fast "))
    assert completed(script, "sse-fast serve --publish-k") == ["--publish-key-file"]
    assert set(completed(script, "sse-fast serve --log-level ")) == {"debug", "info", "warning", "error"}
    assert completed(script, "sse-fast serve --on-lag d") == ["disconnect"]
    assert completed(script, "sse-fast completion f") == ["fish"]
    assert "--json" in completed(script, "sse-fast tail --")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_s_script_names_every_command_and_its_shell_can_read_it(call: Call, shell: str) -> None:
    """The shell itself only where it is installed: bash is, the others need not be."""
    script = call("completion", shell)[1]
    assert all(name in script for name in NAMES)
    assert "publish-key-file" in script
    found = shutil.which(shell)
    assert found or shell != "bash"
    if found:
        done = subprocess.run([found, "-n"], input=script, check=False, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


def test_nobody_who_reads_any_more_is_no_traceback() -> None:
    """As with `| head -1`."""
    read, write = os.pipe()
    os.close(read)
    with subprocess.Popen(
        [sys.executable, "-m", "sse_fast", "completion", "fish"], stdout=write, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(write)
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait() == 141
