"""The example that trains on digits over four processes, at a small size."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.ci
@pytest.mark.slow
def test_it_trains_and_draws(tmp_path: Path) -> None:
    script, picture = ROOT / "examples" / "decentralized_digits.py", tmp_path / "picture.png"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4"]
    options = ["--methods", "a2cid2", "--splits", "class", "--units", "40", "--out", str(picture)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [*launcher, str(script), *options], capture_output=True, text=True, check=False, env=env, timeout=180
    )
    assert run.returncode == 0, run.stderr
    (line,) = [line for line in run.stdout.splitlines() if line.startswith("a2cid2")]
    gradients = [int(number) for number in re.findall(r"\d+", line.split("class")[1].split("gradients")[0])]
    assert len(gradients) == 4 and 160 <= sum(gradients) < 164
    found = re.search(r"test accuracy ([\d.]+)", line)
    assert found is not None and float(found[1]) > 0.4, "a guess gets 0.1 right"
    assert picture.stat().st_size > 10_000


def test_without_a_launcher_it_says_how_to_start_it() -> None:
    env = {name: value for name, value in os.environ.items() if name != "RANK"} | {"PYTHONPATH": str(ROOT)}
    script = str(ROOT / "examples" / "decentralized_digits.py")
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, env=env)
    assert run.returncode == 2
    assert "torchrun --nproc-per-node 4 examples/decentralized_digits.py" in run.stderr
