"""Interrupts, workers that die, folders in use: a benchmark ends at once, loses nothing, and goes on."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from optenvs.bench.experiment import load
from optenvs.bench.folder import FolderInUse, held
from optenvs.bench.results import scan
from optenvs.bench.runner import run
from optenvs.bench.summary import Comparison

ROOT = Path(__file__).parents[2]
AGENTS = '''
import os, pathlib, signal, time
from dataclasses import dataclass
from agents.core import Agent

@dataclass(frozen=True, eq=False)
class Slow(Agent):
    """Takes its time, and notes its process."""
    lr: float = 0.0
    nap: float = 60.0

    def init(self, problem, observation, keys):
        pathlib.Path(__file__).with_name(f"process-{os.getpid()}").touch()
        return None

    def act(self, state, observation):
        end = time.monotonic() + self.nap
        while time.monotonic() < end:
            time.sleep(0.01)
        return observation["point"], None

class Doomed(Slow):
    """Its process dies."""

    def act(self, state, observation):
        os.kill(os.getpid(), signal.SIGKILL)
'''
FILE = """
name = "{name}"
tuning_seeds = 1
judging_seeds = 2
budget = 4

[[environments]]
id = "Rosenbrock"

[[agents]]
name = "{agent}"
kwargs = {{ nap = {nap} }}
grid = {{ lr = [0.1, 0.2, 0.3] }}

[[agents]]
name = "sgd"
kwargs = {{ lr = 1e-4 }}

[engine]
backend = "{backend}"
jobs = 2
"""


def experiment(
    folder: Path, agent: str = "slow_ones:Slow", backend: str = "loky", nap: float = 60.0, name: str = "slow"
) -> Path:
    (folder / "slow_ones.py").write_text(AGENTS)
    path = folder / f"{name}.toml"
    path.write_text(FILE.format(agent=agent, backend=backend, nap=nap, name=name))
    return path


def bench(config: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "optenvs", "bench", str(config), "--out", str(out)]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def workers(folder: Path) -> list[int]:
    return [int(path.name.split("-")[1]) for path in folder.glob("process-*")]


def until(condition: Any, patience: float = 120.0) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "pause"),
    [("loky", 0.001), ("loky", 0.03), ("loky", 0.5), ("sequential", 0.05), ("threading", 0.05)],
)
def test_two_interrupts_end_a_benchmark_at_once(backend: str, pause: float, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = bench(experiment(tmp_path, backend=backend), out)
    until(lambda: len(workers(tmp_path)) == (2 if backend == "loky" else 1))
    for _ in range(2):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        time.sleep(pause)
    begun = time.monotonic()
    _, said = process.communicate(timeout=5.0)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "interrupted; the same command goes on from here"
    assert "Traceback" not in said and "leaked" not in said
    until(lambda: not any(map(runs, workers(tmp_path))), 5.0 - (time.monotonic() - begun))
    experiment(tmp_path, backend=backend, nap=0.0)  # what is there is found, what was lost is computed
    assert not scan(out).warnings
    again = bench(tmp_path / "slow.toml", out)
    text, said = again.communicate(timeout=120.0)
    assert again.returncode == 0, said
    assert "9 runs computed" in text or "found" in text


@pytest.mark.slow
def test_a_background_job_that_ignores_interrupts_hears_them(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for `optenvs bench ... &`
    try:
        process = bench(experiment(tmp_path), tmp_path / "out")
    finally:
        signal.signal(signal.SIGINT, before)
    until(lambda: len(workers(tmp_path)) == 2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=5.0)
    assert process.returncode == 130


@pytest.mark.slow
def test_workers_end_with_a_process_that_is_killed_and_its_litter_is_swept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = bench(experiment(tmp_path), out)
    until(lambda: len(workers(tmp_path)) == 2)
    process.kill()
    process.communicate()
    until(lambda: not any(map(runs, workers(tmp_path))), 5.0)
    from optenvs.core import files

    left = out / f".optenvs-Rosenbrock.npz-{files._HOST}-{process.pid}-00000000.tmp"
    left.write_bytes(b"half")
    with held(out):
        assert not left.exists()


@pytest.fixture
def importable(tmp_path: Path) -> Iterator[Path]:
    sys.path.append(str(tmp_path))
    yield tmp_path
    sys.path.remove(str(tmp_path))
    sys.modules.pop("slow_ones", None)


def test_a_worker_that_dies_costs_its_own_runs(importable: Path) -> None:
    plan = load(experiment(importable, agent="slow_ones:Doomed"))
    outcome = run(plan, importable / "out", progress=False)
    assert len(outcome.errors) == 4  # three rates, and the one that is judged
    line = "slow_ones:Doomed on Rosenbrock: error: the runs were lost: its process was killed (SIGKILL; "
    assert all(error.startswith(line) for error in outcome.errors)
    found = scan(importable / "out").records
    comparison = Comparison([found[name] for name in outcome.manifest.runs])
    failures = comparison.table().set_index("agent")["failures"]
    assert failures.to_dict() == {"slow_ones:Doomed": 2, "sgd": 0}
    experiment(importable, agent="slow_ones:Slow", nap=0.0)
    again = run(plan, importable / "out", progress=False)
    assert (again.computed, again.reused) == (5, 2)  # what was lost is tried again


def test_one_benchmark_at_a_time_computes_in_a_folder(importable: Path) -> None:
    plan = load(experiment(importable, nap=0.0, backend="sequential"))
    out = importable / "out"
    out.mkdir()
    with (
        held(out),
        pytest.raises(FolderInUse, match=rf"out' is in use .*process {os.getpid()}\); wait for it"),
    ):
        run(plan, out, progress=False)
    assert run(plan, out, progress=False).computed == 7


def test_each_reports_its_own_plan(importable: Path) -> None:
    from optenvs.bench.report import report

    out = importable / "out"
    plans = {
        name: experiment(importable, nap=0.0, backend="sequential", name=name) for name in ("slow", "other")
    }
    one, other = (run(load(plans[name]), out, progress=False) for name in ("slow", "other"))
    assert not set(one.manifest.runs) & set(other.manifest.runs)
    for outcome, name in zip((one, other), names, strict=True):
        page = report(out, manifest=outcome.manifest)[0].read_text()
        assert re.search(r"<h1>(.*)</h1>", page)[1] == name  # type: ignore[index]
