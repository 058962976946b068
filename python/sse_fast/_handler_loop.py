"""The event loop of a server's asynchronous handlers: one for all of them, as long as the server lives.

Owns: the loop's thread, or the use of the caller's loop; the tasks of calls, and what becomes of tasks at the end.
Must not know: what a handler returns, sockets. Imported by servers with asynchronous handlers only, because it imports
asyncio.
Invariants: what one request leaves behind (tasks, locks, clients) serves the next: nothing is cancelled when a handler
returns. No thread is held while a coroutine waits. Nothing that a task raises ends the loop. A loop of the caller's is
neither started, stopped nor closed here, and only our own tasks are cancelled on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

from . import _records
from ._answers import answer_failed
from ._calling import belongs_to

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from ._core import Call
    from ._core import Server as Engine

_LOG = _records.logger("sse_fast.handler")
_CANCELLED = 1.0  # Seconds that cancelled tasks have to end at close: enough to close what they hold.


#: What the names of tasks begin with that serve a call; the handler's name follows.
SERVING = "sse_fast handler "


class HandlerLoop:
    """Runs a coroutine for each call that asynchronous handlers get.

    Args:
        engine: whose calls are taken.
        serve: makes the coroutine that answers a call.
        given: the caller's loop; None makes one, of the kind that the program's event loop policy makes, on a thread of
            its own.
    """

    def __init__(
        self,
        engine: Engine,
        serve: Callable[[Call], Coroutine[Any, Any, None]],
        given: asyncio.AbstractEventLoop | None,
    ) -> None:
        """Starts the thread that takes calls, and the loop's where it is ours."""
        self._engine = engine
        self._serve = serve
        self._given = given
        self.loop = given if given is not None else asyncio.new_event_loop()
        self._stopping = False  # Set in the loop's thread once a loop of our own is to stop.
        self._end_task: asyncio.Task[None] | None = None
        self._ended = threading.Event()
        self._tasks: dict[int, asyncio.Task[None]] = {}  # By the numbers of their calls; changed in the loop's thread.
        self._generating: set[int] = set()  # The numbers of those that run generators, which stop with their readers.
        self._others: set[asyncio.Task[None]] = set()  # Our other tasks, which a loop knows only weakly.
        self._thread: threading.Thread | None = None
        if given is None:
            self._thread = threading.Thread(target=self._run, name="sse_fast handler loop", daemon=True)
            self._thread.start()
        threading.Thread(target=self._take_calls, name="sse_fast async calls", daemon=True).start()

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Runs a coroutine on the loop; from any thread.

        Raises:
            RuntimeError: the loop was closed.
        """
        try:
            self.loop.call_soon_threadsafe(self._keep, coroutine)
        except BaseException:
            coroutine.close()
            raise

    def finish(self, until: float) -> None:
        """Ends the loop, or our part of the caller's; called once the engine has stopped.

        Tasks have until that time, by `time.monotonic`; then they are cancelled. Called in the loop's own thread it
        does not wait for that.
        """
        with contextlib.suppress(RuntimeError):  # It was closed: by an earlier call, or by the caller whose loop it is.
            self.loop.call_soon_threadsafe(self._begin_end, until)
        if _runs_here(self.loop):
            return
        longest = max(0.0, until - time.monotonic()) + 2 * _CANCELLED
        if self._thread is not None:
            self._thread.join(longest)
        elif self.loop.is_running():
            self._ended.wait(longest)

    @contextlib.contextmanager
    def generating(self, call: Call) -> Iterator[None]:
        """Inside the block the task is cancelled as soon as nobody reads what its call brings; in the loop's thread."""
        self._generating.add(call.number)
        try:
            yield
        finally:
            self._generating.discard(call.number)

    def _take_calls(self) -> None:
        """Hands every call to the loop, and tells it of those whose clients have gone, until the engine stops."""
        while (taken := self._engine.next_call("loop")) is not None:
            try:
                if isinstance(taken, int):
                    self.loop.call_soon_threadsafe(self._lose, taken)
                else:
                    self.loop.call_soon_threadsafe(self._begin, taken)
            except RuntimeError:  # The loop was closed, and with it every task whose client may have gone.
                if not isinstance(taken, int):
                    _LOG.exception("a request for an asynchronous handler found its event loop closed")
                    answer_failed(taken)
            del taken  # Dropped before the wait.

    def _begin(self, call: Call) -> None:
        number, task = call.number, self.loop.create_task(self._serve(call))
        self._tasks[number] = task
        task.add_done_callback(lambda _task: self._tasks.pop(number, None))

    def _keep(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(coroutine)
        self._others.add(task)
        task.add_done_callback(self._others.discard)

    def _begin_end(self, until: float) -> None:
        if self._end_task is None:
            self._end_task = self.loop.create_task(self._end(until))

    def _lose(self, number: int) -> None:
        """What this call brings is no longer wanted: generators stop, other handlers finish what they began."""
        task = self._tasks.get(number)
        if task is not None and number in self._generating:
            task.cancel()

    def _run(self) -> None:
        """The thread of a loop of our own."""
        belongs_to(self._engine)
        asyncio.set_event_loop(self.loop)
        while not self._stopping:
            try:
                self.loop.run_forever()
            except BaseException:  # noqa: PERF203 - happens once in a while; a task raised SystemExit or KeyboardInterrupt: here it would end only this thread.
                _LOG.exception("a task on the event loop of the handlers ended it; it goes on")
        with contextlib.suppress(BaseException):  # What an asynchronous generator does at its end is its own matter.
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    async def _end(self, until: float) -> None:
        """Gives tasks the time that is left, cancels those that need more, and stops a loop of our own."""
        try:
            waiting = self._unfinished()
            if waiting and (left := until - time.monotonic()) > 0:
                await asyncio.wait(waiting, timeout=left)
            waiting = self._unfinished()
            if waiting:
                names = ", ".join(sorted(_shown(task) for task in waiting)[:5])
                _LOG.warning(
                    "%d tasks of asynchronous handlers were not done when the drain was over, and are cancelled: %s",
                    len(waiting),
                    names,
                )
                for task in waiting:
                    task.cancel()
                await asyncio.wait(waiting, timeout=_CANCELLED)
        finally:
            self._ended.set()
            if self._given is None:
                self._stopping = True
                self.loop.stop()

    def _unfinished(self) -> set[asyncio.Task[Any]]:
        """The tasks to wait for: every one on a loop of our own, else those of our calls."""
        if self._given is None:
            ours: set[asyncio.Task[Any]] = asyncio.all_tasks(self.loop) - {asyncio.current_task(self.loop)}
            return ours
        return {task for task in (*self._tasks.values(), *self._others) if not task.done()}


def _runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _shown(task: asyncio.Task[Any]) -> str:
    """A task as the log names it: the handler that it serves, or else its coroutine."""
    name = task.get_name()
    return name if name.startswith(SERVING) else getattr(task.get_coro(), "__qualname__", name)
