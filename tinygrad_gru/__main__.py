"""`python -m tinygrad_gru`."""

import sys

from .cli import main

sys.exit(main())
