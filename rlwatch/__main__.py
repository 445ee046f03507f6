"""`python -m rlwatch` is the command `rlwatch`."""

import sys

from rlwatch.cli import main

sys.exit(main())
