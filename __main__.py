"""`python -m octans`."""

import sys

from .cli import main

sys.exit(main())
