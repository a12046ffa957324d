"""`python -m countersteer` is the command line too."""

import sys

from countersteer.cli import main

sys.exit(main())
