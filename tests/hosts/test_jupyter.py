"""Jupyter's kernel, spoken to as a notebook does: a cell run twice, interrupts, restarts; the cell of docs/hosts.md.

Guards that a kernel stays usable whatever is done to a server in it, and that its port is free when it is gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager

from support.deadline import until
from support.host import documented
from support.ports import accepts, free_ports, is_free
from support.reader import Reader

pytestmark = [pytest.mark.timeout(180), pytest.mark.filterwarnings("ignore")]  # Its client's are not ours to mend.

SECONDS = 60


class Kernel:
    """A kernel and a client of it."""

    def __init__(self, folder: Path) -> None:
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(folder))
        self.connect()

    def connect(self) -> None:
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=SECONDS)

    def run(self, code: str) -> str:
        """What a cell prints and returns, or its traceback."""
        return self.result(self.start(code))

    def start(self, code: str) -> str:
        """The id by which `result` knows it."""
        started: str = self.client.execute(code)
        return started

    def result(self, started: str) -> str:
        said = []
        while True:
            told = self.client.get_iopub_msg(timeout=SECONDS)
            if told["parent_header"].get("msg_id") != started:
                continue
            content = told["content"]
            if told["msg_type"] == "stream":
                said.append(content["text"])
            elif told["msg_type"] == "execute_result":
                said.append(content["data"]["text/plain"])
            elif told["msg_type"] == "error":
                said.append(re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(content["traceback"])))
            elif told["msg_type"] == "status" and content["execution_state"] == "idle":
                return "".join(said)

    def close(self) -> None:
        self.client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    started = Kernel(tmp_path)
    yield started
    started.close()


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


def frees(port: int) -> None:
    until(lambda: is_free(port), what=f"port {port} being free")


def test_the_documented_cell_may_be_run_twice(kernel: Kernel, port: int, tmp_path: Path) -> None:
    cell = documented("jupyter/cell.py", tmp_path, {"8080": port}).read_text()
    for number in (1, 2):
        assert kernel.run(cell).strip("'").endswith(f"-{number}")
    with Reader(port, "/streams/notes") as reader:
        assert [event.data for event in reader.open().take(2)] == ["the cell was run"] * 2
        kernel.manager.shutdown_kernel()
        assert reader.rest() == []
    frees(port)


def test_a_cell_that_serves_twice_is_told_that_it_was_this_very_process(kernel: Kernel, port: int) -> None:
    cell = f"import sse_fast; server = sse_fast.serve({port}); server.port"
    assert kernel.run(cell) == str(port)
    said = kernel.run(cell)
    assert "AddressInUse" in said
    assert "this process" in said or "this very process" in said
    assert kernel.run("server.stream('s').publish(1)").strip("'").endswith("-1")


def test_an_interrupt_ends_a_wait_and_the_kernel_goes_on(kernel: Kernel, port: int) -> None:
    kernel.run(f"import sse_fast; server = sse_fast.serve({port})")
    for _ in range(10):
        waiting = kernel.start("server.wait()")
        until(lambda: runs_a_cell(kernel), what="the cell being run")
        kernel.manager.interrupt_kernel()
        kernel.result(waiting)
        if kernel.run("server.closed") == "True":  # Else the interrupt came before the wait.
            break
    frees(port)
    assert kernel.run(f"server = sse_fast.serve({port}); server.closed") == "False"
    assert kernel.run("server.close(); server.closed") == "True"


def runs_a_cell(kernel: Kernel) -> bool:
    """Whether the kernel's next word is that it has begun."""
    told = kernel.client.get_iopub_msg(timeout=SECONDS)
    return told["msg_type"] == "execute_input"


def prints(kernel: Kernel, text: str) -> bool:
    """Whether the kernel's next word is this text of a cell."""
    told = kernel.client.get_iopub_msg(timeout=SECONDS)
    return told["msg_type"] == "stream" and text in told["content"]["text"]


def test_an_interrupt_of_another_cell_leaves_the_server_alone(kernel: Kernel, port: int) -> None:
    kernel.run(f"import sse_fast, time; server = sse_fast.serve({port}, heartbeat=0.1); server.stream('s')")
    with Reader(port, "/streams/s") as reader:
        reader.open()
        sleeping = kernel.start("print('asleep', flush=True)\ntime.sleep(600)")
        # The kernel's own word that it has begun comes before the cell does.
        until(lambda: prints(kernel, "asleep"), what="the cell being run")
        kernel.manager.interrupt_kernel()
        assert "KeyboardInterrupt" in kernel.result(sleeping)
        assert kernel.run("server.stream('s').publish('after')").strip("'").endswith("-1")
        assert reader.next().data == "after"


@pytest.mark.parametrize("now", [False, True], ids=["asked", "killed"])
def test_a_restart_frees_the_port_and_ends_the_readers(kernel: Kernel, port: int, *, now: bool) -> None:
    cell = f"import sse_fast; server = sse_fast.serve({port}); server.stream('s'); server.port"
    for _ in range(2):
        assert kernel.run(cell) == str(port)
        with Reader(port, "/streams/s") as reader:
            reader.open()
            kernel.manager.restart_kernel(now=now)
            reader.read_eof()
        frees(port)
        kernel.client.stop_channels()
        kernel.connect()
    assert not accepts(port)


def test_await_in_a_cell_reads_and_other_tasks_of_the_kernel_s_loop_go_on(kernel: Kernel) -> None:
    said = kernel.run(
        "import asyncio, sse_fast\n"
        "server = sse_fast.serve(0)\n"
        "stream = server.stream('s')\n"
        "async def publish():\n"
        "    for number in range(3):\n"
        "        stream.publish(number)\n"
        "        await asyncio.sleep(0)\n"
        "    stream.end()\n"
        "events = stream.events(timeout=20)\n"
        "task = asyncio.ensure_future(publish())\n"
        "print([event.data async for event in events][:3])\n"
        "server.close()"
    )
    assert said == "['0', '1', '2']\n"
