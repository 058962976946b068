"""From what a handler returned or raised to the answer that the engine gets.

Owns: what each kind of value and of error becomes, and what the log says of it.
Must not know: threads, event loops, how a handler is called.
Invariants: an error inside a handler reaches the log, never the client; what a client sent makes no line of its own
there. A call that cannot be answered as it should be is answered 500, and the caller goes on.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from . import _records
from ._core import Stream, go_on_above_rust, json_dumps
from ._exceptions import HttpError, ServerClosed
from ._request import Response, json_response

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._core import Call
    from ._request import Request

    Dumps = Callable[[object], bytes]  # The server's encoder, which may be the application's own.

LOG = _records.logger("sse_fast.handler")

# Written as bytes, because importing the package must not import the JSON encoder.
INTERNAL_ERROR = b'{"error":"internal","detail":"the handler failed; see the server\'s log"}'
_FAILED = Response(INTERNAL_ERROR, 500, None, "application/json")


def answer(call: Call, request: Request, value: object, dumps: Dumps) -> None:
    """Answers with what a handler returned."""
    try:
        if isinstance(value, Stream):
            call.answer_stream(value, [])
            return
        if not isinstance(value, Response):
            value = Response(status=204) if value is None else Response(dumps(value), content_type="application/json")
    except BaseException as error:  # It is not JSON, or the interpreter ends.
        if _interpreter_ends():
            answer_failed(call)
        else:
            refuse(call, request, error, dumps)
        return
    _send(call, value)


def refuse(call: Call, request: Request, error: BaseException, dumps: Dumps) -> None:
    """Answers with what a handler raised: its own refusal, or a 500 without detail."""
    if isinstance(error, HttpError):
        try:
            response = error_response(error, dumps)
        except BaseException as unsendable:  # A header or a body of its own that cannot be sent.
            error = unsendable
        else:
            _send(call, response)
            return
    log_failure(request, error)
    _send(call, _FAILED)


def _interpreter_ends() -> bool:
    try:
        go_on_above_rust()
    except ServerClosed:
        return True
    return False


def refuse_busy(call: Call, detail: str) -> None:
    """Answers that it may be tried again in a moment."""
    _send(call, json_response({"error": "busy", "detail": detail}, 503, {"Retry-After": "2"}))


def error_response(error: HttpError, dumps: Dumps) -> Response:
    """The response that a handler, or a check, raised."""
    return Response(error_body(error, dumps), error.status, error.headers, "application/json")


def error_body(error: HttpError, dumps: Dumps) -> bytes:
    """What a client is told of an error that a handler raised for it."""
    return json_dumps({"error": error.error, "detail": error.detail}) if error.body is None else dumps(error.body)


def log_failure(request: Request, error: BaseException) -> None:
    """Logs what a handler should not have raised."""
    with contextlib.suppress(BaseException):  # A logging handler of the application may raise.
        LOG.error("the handler of %s %r failed", request.method, _records.shown(request.path), exc_info=error)


def _send(call: Call, response: Response) -> None:
    try:
        if response.stream is not None:
            call.answer_stream(response.stream, list(response.headers))
        else:
            call.answer_response(response.status, list(response.headers), response.body)
    except BaseException:
        with contextlib.suppress(BaseException):  # As above.
            LOG.exception("answering a request failed")
        answer_failed(call)


def answer_failed(call: Call) -> None:
    """Answers 500 where there is no other answer; dropping the call would do, but a log may keep it in a traceback."""
    with contextlib.suppress(BaseException):  # It may have been answered already.
        call.answer_response(500, list(_FAILED.headers), _FAILED.body)
