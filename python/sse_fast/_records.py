"""The package's loggers, whose records nobody else can begin.

Owns: what becomes of line ends in a record, which a client may have chosen: in a path, a name, an exception's text; and
what is shown of a path, as the engine does it (`shown.rs`).
Must not know: what is logged, which handlers and formatters there are; `logging` is not configured here.
Invariants: a message is one line. Of a traceback only Python's own lines begin at the margin: what follows in a text of
several lines, or in notes, is indented, so that no line of it looks like another record. Where neither is needed the
record is what `logging` made.
"""

from __future__ import annotations

import logging
import re

#: All that `str.splitlines` ends a line at, as do readers of logs.
_LINE_END = re.compile("[\n\v\f\r\x1c-\x1e\x85\u2028\u2029]")
_INDENTED = "    "

_HEAD = "Traceback (most recent call last):\n"
_BETWEEN = (
    "\nThe above exception was the direct cause of the following exception:\n\n",
    "\nDuring handling of the above exception, another exception occurred:\n\n",
)


def logger(name: str) -> logging.Logger:
    """The logger of that name, which is the package's own."""
    found = logging.getLogger(name)
    found.addFilter(_in_one_record)  # Once, however often.
    return found


def shown(path: str) -> str:
    """A path, or a name out of one, without a query or ``user:password@``: an encoded one is part of it."""
    user, sign, rest = path.rpartition("@")
    slashes, colon = user.find("//"), user.find(":")
    if sign and (slashes >= 0 or colon >= 0):
        begins = slashes + 2 if slashes >= 0 else user.rfind("/", 0, colon) + 1
        path = f"{user[:begins]}...@{rest}"
    bare, sign, _ = path.partition("?")
    return f"{bare}?..." if sign else path


def _in_one_record(record: logging.LogRecord) -> bool:
    """Has no line of the record look like the beginning of another; as a filter it lets every record through."""
    message = record.getMessage()
    if _LINE_END.search(message):
        record.msg, record.args = _escaped(message), ()
    if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
        import traceback  # noqa: PLC0415 - only where there is an exception

        pieces = list(traceback.TracebackException(*record.exc_info).format())
        safe = _indented(pieces)
        if safe != "".join(pieces):
            record.exc_text = safe.removesuffix("\n")  # What formatters print, where it is there already.
    return True


def _escaped(text: str) -> str:
    return _LINE_END.sub(lambda found: repr(found[0])[1:-1], text)


def _indented(pieces: list[str]) -> str:
    """A traceback, as `traceback` gives it piece by piece, with the further lines of each exception's text indented."""
    told = []
    in_text = False  # From an exception's own line to the end, or to the next exception.
    for piece in pieces:
        if piece in _BETWEEN:  # No text looks like this: it is one piece, and notes are a piece a line.
            told.append(piece)
            in_text = False
            continue
        first, *others = piece.removesuffix("\n").split("\n")
        if in_text:
            others.insert(0, first)
        else:
            told.append(_escaped(first) + "\n")
            in_text = first[:1] != " " and piece != _HEAD
        told += [(line if line[:1] == " " else _INDENTED + line) + "\n" for line in map(_escaped, others)]
    return "".join(told)
