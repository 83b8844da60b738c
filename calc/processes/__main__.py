"""``python -m calc.processes FOLDER``: the ranks of a task, started by ``calc.processes.each_job``."""

from __future__ import annotations

import sys
from pathlib import Path

from calc.processes.rank import launch

sys.exit(launch(Path(sys.argv[1])))
