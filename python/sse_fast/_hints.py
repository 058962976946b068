"""Names that annotations need when they are resolved, and what stands for them where an interpreter lacks them.

Owns: `Self` and `Unpack` on Python 3.10, where only `typing_extensions` has them, which the package does not require;
`asyncio`, `ssl` and `settings`, which importing the package or a client must not import.
Invariants: `typing.get_type_hints` resolves every public annotation, and imports these modules only for those that name
them.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import asyncio
    import ssl

    from typing_extensions import Self, Unpack

    from . import _settings as settings
else:
    if sys.version_info >= (3, 11):
        from typing import Self, Unpack
    else:
        Self = TypeVar("Self")

        class Unpack:
            """``Unpack[Options]`` is `Options` itself: right for a reader who looks the options up."""

            def __class_getitem__(cls, options: type) -> type:
                """The options."""
                return options

    class _Lazy:
        """A module that is imported when something of it is asked for."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, name: str) -> object:
            return getattr(importlib.import_module(self._name), name)

    asyncio = _Lazy("asyncio")
    ssl = _Lazy("ssl")
    settings = _Lazy("sse_fast._settings")

__all__ = ["Self", "Unpack", "asyncio", "settings", "ssl"]
