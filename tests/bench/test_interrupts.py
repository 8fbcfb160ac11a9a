"""Interrupts, workers that die, folders in use: a benchmark ends at once, loses nothing, and goes on."""

from __future__ import annotations

import contextlib
import dataclasses
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

from optenvs.bench.experiment import Engine, load
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
name = "sgd"
grid = {{ lr = [1e-4, 1e-5] }}

[[agents]]
name = "{agent}"
kwargs = {{ nap = {nap} }}
grid = {{ lr = [0.1, 0.2] }}

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
    ("backend", "pause", "ignored"),
    [("loky", 0.001, False), ("loky", 0.5, False), ("sequential", 0.05, True)],
)
def test_two_interrupts_end_a_benchmark_at_once(
    backend: str, pause: float, ignored: bool, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    before = signal.getsignal(signal.SIGINT)
    if ignored:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for `optenvs bench ... &`
    try:
        process = bench(experiment(tmp_path, backend=backend), out)
    finally:
        signal.signal(signal.SIGINT, before)
    until(lambda: process.poll() is not None or len(workers(tmp_path)) == (2 if backend == "loky" else 1))
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
    # what is there is found, what was lost is computed
    plan = load(experiment(tmp_path, backend="sequential", nap=0.0))
    assert not scan(out).warnings
    with importing_from(tmp_path):
        again = run(plan, out, progress=False)
    assert (again.reused, again.computed) == (2, 6)  # the rates of sgd were tried before


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


@contextlib.contextmanager
def importing_from(folder: Path) -> Iterator[Path]:
    sys.path.append(str(folder))
    try:
        yield folder
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("slow_ones", None)


@pytest.fixture
def importable(tmp_path: Path) -> Iterator[Path]:
    with importing_from(tmp_path):
        yield tmp_path


def test_a_worker_that_dies_costs_its_own_runs(importable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = load(experiment(importable, agent="slow_ones:Doomed", nap=0.0))
    outcome = run(plan, importable / "out", progress=False)
    assert len(outcome.errors) == 3  # two rates, and the one that is judged
    line = "slow_ones:Doomed on Rosenbrock: error: the runs were lost: its process was killed (SIGKILL; "
    assert all(error.startswith(line) for error in outcome.errors)
    found = scan(importable / "out").records
    comparison = Comparison([found[name] for name in outcome.manifest.runs])
    failures = comparison.table().set_index("agent")["failures"]
    assert failures.to_dict() == {"slow_ones:Doomed": 2, "sgd": 0}
    module = sys.modules["slow_ones"]
    monkeypatch.setattr(module.Doomed, "act", module.Slow.act)
    again = run(dataclasses.replace(plan, engine=Engine("sequential")), importable / "out", progress=False)
    assert (again.computed, again.reused) == (4, 4)  # what was lost is tried again


def test_one_benchmark_at_a_time_computes_in_a_folder(importable: Path) -> None:
    plan = load(experiment(importable, nap=0.0, backend="sequential"))
    out = importable / "out"
    out.mkdir()
    with (
        held(out),
        pytest.raises(FolderInUse, match=rf"out' is in use .*process {os.getpid()}\); wait for it"),
    ):
        run(plan, out, progress=False)
    assert run(plan, out, progress=False).computed == 8


@pytest.mark.usefixtures("unpainted")
def test_each_reports_its_own_plan(importable: Path) -> None:
    from optenvs.bench.report import report

    out = importable / "out"
    plans = {
        name: experiment(importable, nap=0.0, backend="sequential", name=name) for name in ("slow", "other")
    }
    one, other = (run(load(plans[name]), out, progress=False) for name in ("slow", "other"))
    assert not set(one.manifest.runs) & set(other.manifest.runs)
    for outcome, name in zip((one, other), plans, strict=True):
        page = report(out, manifest=outcome.manifest)[0].read_text()
        assert re.search(r"<h1>(.*)</h1>", page)[1] == name  # type: ignore[index]


SHIM = """
import os, signal
os.kill(os.getpid(), signal.SIGINT)
raise AssertionError("went on")
"""


@pytest.mark.parametrize(
    ("command", "module"),
    [("-m", "gymnasium"), ("-m", "torch"), ("script", "gymnasium"), ("script", "typer")],
)
def test_an_interrupt_while_the_program_starts_ends_it_in_silence(
    command: str, module: str, tmp_path: Path
) -> None:
    (tmp_path / f"{module}.py").write_text(SHIM)  # what is imported, in the order in which it is
    script = tmp_path / "optenvs"  # as pip writes it
    script.write_text("from optenvs.bench.cli import main\nmain()\n")
    start = ["-m", "optenvs"] if command == "-m" else [str(script)]
    done = subprocess.run(
        [sys.executable, *start, "bench", "quickstart", "--out", str(tmp_path / "out")],
        timeout=60.0,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = "interrupted; the same command goes on from here\n" if module == "torch" else ""
    assert (done.returncode, done.stdout, done.stderr) == (130, "", said)


def test_no_other_process_is_told_how_to_end() -> None:
    code = "import signal, optenvs; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
