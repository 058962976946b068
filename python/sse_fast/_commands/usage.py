"""Arguments that argparse takes and a command cannot use.

Owns: the error for them, whose exit code is that of argparse's own.
Must not know: commands.
"""

from __future__ import annotations


class UsageError(ValueError):
    """An argument is missing or wrong, or some do not go together; nothing was done."""
