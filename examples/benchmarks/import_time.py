"""The price of ``import optenvs``: CPU seconds in a fresh interpreter, and whether torch came along.

    python examples/benchmarks/import_time.py

Best of five; ``import gymnasium``, which it contains, beside it.

Measured (2 cores shared with other work, Python 3.11):

    module       CPU seconds   torch
    gymnasium    0.097         not loaded
    optenvs      0.122         not loaded   (goal 0.2)
"""

from __future__ import annotations

import platform
import subprocess
import sys

_SCRIPT = """
import sys, time
before = time.process_time()
import {module}
print(time.process_time() - before, "torch" in sys.modules)
"""


def measure(module: str, repeats: int = 5) -> tuple[float, bool]:
    """The least CPU seconds of ``import module``, and whether it loaded torch."""
    seconds, torch_loaded = [], False
    for _ in range(repeats):
        command = [sys.executable, "-c", _SCRIPT.format(module=module)]
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        seconds.append(float(answer[0]))
        torch_loaded = torch_loaded or answer[1] == "True"
    return min(seconds), torch_loaded


def main() -> None:
    """Print the table."""
    print(f"Python {platform.python_version()}")
    for module in ("gymnasium", "agents", "envs_registry", "optenvs"):
        seconds, torch_loaded = measure(module)
        print(f"import {module:14s} {seconds:6.3f} s CPU, torch {'loaded' if torch_loaded else 'not loaded'}")
    print("goal: optenvs below 0.2 s, torch not loaded")


if __name__ == "__main__":
    main()
