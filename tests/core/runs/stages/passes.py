"""A stage that is done at once."""

import sys
from pathlib import Path

(Path(sys.argv[1]) / "passed").touch()
