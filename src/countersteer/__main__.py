"""`python -m countersteer` is the command line too."""

import sys

from countersteer.commands.cli import main

sys.exit(main())
