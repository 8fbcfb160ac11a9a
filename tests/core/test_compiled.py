"""Steps made one function by ``torch.compile``, whose tracing the checks of shapes would end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("compiled_cases.py")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++, which is not here")
def test_cases() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(CASES)]
    unchecked = os.environ | {"UNCHECKED_SHAPES": "1"}
    done = subprocess.run(command, env=unchecked, cwd=CASES.parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    assert "failed" not in done.stdout and "skipped" not in done.stdout
