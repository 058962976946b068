"""`Submission`: a request's JSON, checked once. What leaves this file is complete, typed and in range.

Owns: the fields, their limits, and the words of every refusal. Must not know: HTTP beyond the error it raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NoReturn

import sse_fast

from . import kernels

GPUS = ("MI300X", "H100", "A100-80GB")
MAX_CODE = 64 * 1024  # Characters; a kernel is a page of code, not a data set.
MAX_SIZE = 1_000_000
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_RESERVED_ID = "benchmark"  # Its URL is where submissions are posted to.
_FIELDS = {"submission_id", "gpu", "kernel", "code", "size"}


@dataclass(frozen=True, slots=True)
class Submission:
    """A kernel to time: a built-in one by name, or Python source that defines ``kernel(n)``."""

    id: str
    gpu: str
    kernel: str | None
    code: str
    size: int

    @classmethod
    def parse(cls, body: object, *, own_code: bool) -> Submission:
        """A request's JSON as a submission.

        Args:
            body: the JSON.
            own_code: whether source that the submitter wrote is allowed.

        Raises:
            HttpError: 400 ``bad_field``, its detail naming the field; 403 ``code_not_allowed``.
        """
        if not isinstance(body, dict):
            _refuse("body", "must be a JSON object")
        for name in body.keys() - _FIELDS:
            _refuse(name, f"is not a field; there are {', '.join(sorted(_FIELDS))}")
        submission_id = body.get("submission_id")
        if not isinstance(submission_id, str) or not _ID.fullmatch(submission_id) or submission_id == _RESERVED_ID:
            _refuse("submission_id", "must be 1 to 64 letters, digits, - and _, beginning with a letter or digit")
        gpu = body.get("gpu")
        if gpu not in GPUS:
            _refuse("gpu", f"must be one of {', '.join(GPUS)}")
        kernel, code = _kernel(body), _code(body)
        if (kernel is None) == (code is None):
            _refuse("code", "must be Python source that defines kernel(n), or else kernel names a built-in one")
        if code is not None and not own_code:
            detail = "code: is executed only when the server listens on a loopback address; choose a built-in kernel"
            raise sse_fast.HttpError(403, detail, error="code_not_allowed")
        size = _size(body, 1000 if kernel is None else kernels.BUILT_IN[kernel].size)
        return cls(submission_id, gpu, kernel, kernels.source(kernel) if kernel else code or "", size)


def _kernel(body: dict[str, Any]) -> str | None:
    kernel = body.get("kernel")
    if kernel is not None and (not isinstance(kernel, str) or kernel not in kernels.BUILT_IN):
        _refuse("kernel", f"must be one of {', '.join(kernels.BUILT_IN)}")
    return kernel


def _code(body: dict[str, Any]) -> str | None:
    code = body.get("code")
    if code is not None and (not isinstance(code, str) or not code.strip() or len(code) > MAX_CODE):
        _refuse("code", f"must be Python source, not empty, at most {MAX_CODE} characters")
    return code


def _size(body: dict[str, Any], usual: int) -> int:
    size = body.get("size", usual)
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MAX_SIZE:
        _refuse("size", f"must be a whole number from 1 to {MAX_SIZE}")
    return size


def _refuse(field: str, why: str) -> NoReturn:
    raise sse_fast.HttpError(400, f"{field}: {why}", error="bad_field")
