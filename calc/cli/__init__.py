"""The command line: one command a file, imported when it is called.

Every command loads its model, calls one function of the public API, and renders the result.
"""

from __future__ import annotations

import sys

COMMANDS: dict[str, str] = {
    "list": "List presets of models, accelerators or engines, one line each.",
    "show": "Show what a model costs, or what an accelerator offers.",
    "compare": "Compare models side by side.",
    "ops": "Print the operation table of a model.",
    "exchange": "Show what the devices of a layout send to each other.",
    "formula": "Show the symbolic formula behind a figure.",
    "crossover": "Find from which length on A is dearer than B.",
    "train": "Show what training costs: memory, time, money.",
    "audit": "Check the numbers that documents state.",
    "plot": "Draw charts of models, in a file or in the terminal.",
    "lengths": "Show from which length on softmax is dearer than other mixers.",
    "scale": "Show what scaling laws say of a budget or a model.",
    "routed": "Show which dense size a routed one is as good as.",
    "experts": "Find the best count and size of experts for a budget.",
    "objective": "Show what a training objective costs.",
    "reason": "Show what a chain of thought costs.",
    "speculate": "Show what speculative decoding gives.",
    "adapt": "Show the cost of tokens that leave layers out.",
    "serve": "Show what a deployment gives its users, and what it costs.",
    "plan": "Find the cheapest deployments that meet objectives.",
    "report": "Write an HTML page about models.",
    "import": "Turn a config.json into a preset.",
    "accuracy": "Compare modelled figures with published measurements.",
    "schema": "Print the JSON schemas of presets and results.",
    "calibrate": "Measure a device and fit the time model to it.",
    "validate": "Prove the formulas against PyTorch, operation by operation.",
}
"""Name → its line in ``calc --help``. The command is the function ``command`` of ``calc.cli.<name>_cmd``."""


def main() -> None:
    """Run the command line and exit: 0 answered, 1 refused or answered no, 2 wrong usage."""
    from calc.cli.process import tidy, usable_streams

    with tidy():
        usable_streams()
        from calc.cli.app import build

        build(sys.argv[1:])(prog_name="calc")
