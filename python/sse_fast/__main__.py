"""`python -m sse_fast`: the command `sse-fast`."""

import sys

from ._cli import main

sys.exit(main())
