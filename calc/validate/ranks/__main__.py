"""``python -m calc.validate.ranks FOLDER``: the processes of a proof, started by ``calc.validate.ranks.run``."""

from __future__ import annotations

import sys
from pathlib import Path

from calc.validate.ranks.process import launch

sys.exit(launch(Path(sys.argv[1])))
