"""Tells PyInstaller what a frozen program needs of this package; it is run while such a program is built.

Owns: the list of what imports in Python do not show: files that are served, and modules that the engine imports.
Must not know: the programs that are frozen.
Invariants: nothing here is part of a program, and a program without this hook is told what it lacks when it serves.
Changes together with: the imports in `rust/sse-fast-py`.
"""

from __future__ import annotations

from PyInstaller.utils.hooks import collect_data_files, collect_submodules

#: The browser module, the demos' pages.
datas = collect_data_files("sse_fast")

#: What is imported by the engine, or when it is first used.
hiddenimports = [
    "orjson",
    *collect_submodules("sse_fast", filter=lambda name: not name.startswith("sse_fast._pyinstaller")),
]
