"""`python -m sse_fast`: the command `sse-fast`."""

import sys

from ._commands import main

sys.exit(main())
