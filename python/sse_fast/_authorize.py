"""What an application's check of rights comes to.

Owns: which answer each outcome is. Must not know: threads, event loops (`_handlers` has them), what the engine answers.
Invariants: True, a name and a `Grant` let in, and nothing else does. What a check should not have returned or raised is
in the log; it lets nobody in.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from . import _records
from ._answers import error_response
from ._exceptions import HttpError
from ._rights import Grant

if TYPE_CHECKING:
    from ._answers import Dumps
    from ._core import Call
    from ._request import Request

_LOG = _records.logger("sse_fast.access")


def decide(call: Call, request: Request, value: object, dumps: Dumps) -> None:
    """Answers with what the check returned."""
    if isinstance(value, HttpError):
        _refuse(call, request, value, dumps)
    elif value is True:
        call.admit(None, None)
    elif isinstance(value, str) and value:
        call.admit(value, None)
    elif isinstance(value, Grant):
        call.admit(value.reader, value.ttl)
    else:
        if value is not False and value is not None:
            with contextlib.suppress(BaseException):  # A logging handler of the application may raise.
                _LOG.error(
                    "authorize returned %s for %r: only True, a name and a Grant let in: 403",
                    "an empty str" if isinstance(value, str) else type(value).__name__,
                    _records.shown(request.path),
                )
        call.deny()


def failed(call: Call, request: Request, error: BaseException, dumps: Dumps) -> None:
    """Answers with what the check raised: its own refusal, or that nobody could decide."""
    if isinstance(error, HttpError):
        _refuse(call, request, error, dumps)
        return
    with contextlib.suppress(BaseException):  # As above.
        _LOG.error("authorize failed for %s %r", request.method, _records.shown(request.path), exc_info=error)
    call.fail()


def _refuse(call: Call, request: Request, error: HttpError, dumps: Dumps) -> None:
    try:
        response = error_response(error, dumps)
    except BaseException as unsendable:  # A header or a body that cannot be sent.
        with contextlib.suppress(BaseException):  # As above.
            _LOG.error("authorize failed for %s %r", request.method, _records.shown(request.path), exc_info=unsendable)
        call.fail()
        return
    call.answer_response(response.status, list(response.headers), response.body)
