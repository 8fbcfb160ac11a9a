"""The documents are true: their code runs, their tables match the registries, their links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement

import agents
import optenvs
from agents.core import Agent
from envs_registry import ENVIRONMENTS

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
SCRIPTS = [*sorted(ROOT.glob(".ci/*")), ROOT / "tests/run.sh", ROOT / "examples/quickstart.sh"]


def blocks(name: str) -> list[str]:
    """The python blocks of a document."""
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)


def execute(code: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run a block as a module of its own (dataclasses look theirs up); its names afterwards."""
    module = ModuleType("document_block")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(code, module.__name__, "exec"), module.__dict__)
    return module.__dict__


def lines(code: str) -> int:
    return len(code.strip().splitlines())


@pytest.mark.parametrize("number", range(len(blocks("README.md"))))
def test_readme_code_runs(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # an optimizer of torch takes a step for each instance: of some of them
    found = execute(blocks("README.md")[number].replace("batch=64", "batch=16"), monkeypatch)
    if "info" in found:
        assert info_says_progress(found["info"])
    if "env" in found and "run" in found:
        assert float((found["run"].metrics["gap"][-1] < 1e-3).float().mean()) > 0.9


def info_says_progress(info: dict[str, Any]) -> bool:
    return info["calls"]["gradient"] > 1 and info["metrics"]["gap"] < 10


def test_environment_of_the_contributing_page(monkeypatch: pytest.MonkeyPatch) -> None:
    code = blocks("CONTRIBUTING.md")[0]
    assert lines(code) <= 60
    env = execute(code, monkeypatch)["env"]
    assert optenvs.check(env).ok
    first = optenvs.rollout(env, agents.SGD(lr=0.05), seed=3, batch=32)
    assert (first.merit[-1] < first.merit[0]).float().mean() > 0.9
    observation, info = optenvs.GymEnv(env).reset(seed=3)
    assert observation["point"].shape == (2,)
    assert info["calls"] == {"gradient": 1, "value": 1}


def test_agent_of_the_contributing_page(monkeypatch: pytest.MonkeyPatch) -> None:
    code = blocks("CONTRIBUTING.md")[1]
    assert lines(code) <= 40
    cls = execute(code, monkeypatch)["BarzilaiBorwein"]
    assert issubclass(cls, Agent)
    quadratic = optenvs.make("optenvs/Quadratic-v0", dim=20, condition=50.0, dtype="float64", tolerance=None)
    run = optenvs.rollout(quadratic, cls(), seed=11, batch=16, steps=400)
    assert float(run.metrics["gap"][-1].max()) < 1e-12


def test_menu_of_the_contributing_page_and_its_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    environment, agent = blocks("CONTRIBUTING.md")[2:]
    assert lines(environment) <= 70
    assert lines(agent) <= 45
    found = execute(f"{environment}\n{agent}", monkeypatch)
    assert set(optenvs.check(found["env"]).skipped) == {"oracle"}
    run = optenvs.rollout(found["env"].replace(dtype="float64"), found["Linearised"](), seed=5, batch=32)
    assert run.finished.all()
    # the projection itself: x = target / (1 + 2 m axes), with the multiplier m by bisection
    axes, target = run.state.hidden, run.state.problem.target
    low, high = torch.zeros_like(target[:, :1]), torch.full_like(target[:, :1], 100.0)
    for _ in range(100):
        middle = (low + high) / 2
        outside = (axes * (target / (1 + 2 * middle * axes)) ** 2).sum(-1, keepdim=True) > 1
        low, high = torch.where(outside, middle, low), torch.where(outside, high, middle)
    expected = (target - target / (1 + 2 * low * axes)).square().sum(-1) / 2
    assert torch.allclose(run.best[-1], expected, rtol=1e-9)
    calls = run.state.calls
    assert torch.equal(calls["value"], calls["constraint"])
    assert torch.equal(calls["gradient"], calls["jacobian"])
    assert (calls["value"] > calls["gradient"]).all()


def test_readme_states_the_length_of_the_examples() -> None:
    environment, agent = blocks("CONTRIBUTING.md")[:2]
    stated = f"a whole environment in {lines(environment)} lines and a whole agent in {lines(agent)}"
    assert stated in " ".join((ROOT / "README.md").read_text().split())


def rows(first: str) -> dict[str, list[str]]:
    """A table of the README by the name in its first column."""
    text = (ROOT / "README.md").read_text()
    table = re.search(rf"^\| {first} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert table is not None
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in table[1].splitlines()]
    return {name.strip("`"): rest for name, *rest in cells}


def test_readme_lists_the_environments() -> None:
    expected = {
        spec.id: [spec.summary.replace("|", "&#124;"), ", ".join(f"`{kind}`" for kind in spec.oracles)]
        for spec in ENVIRONMENTS.values()
        if spec.entry_point.startswith("optenvs.")  # not what another package or test has registered
    }
    assert rows("environment") == expected


def test_readme_lists_the_agents() -> None:
    listed = set(rows("agent"))
    own = {name for name in agents.list_agents() if type(agents.make(name)).__module__.startswith("optenvs.")}
    assert listed == own


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text())
    missing = [t for t in targets if not t.startswith("http") and not (document.parent / t).exists()]
    assert not missing


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.parametrize("script", ["tests/run.sh", "examples/quickstart.sh"])
def test_an_unusable_python_is_named(script: str, tmp_path: Path) -> None:
    old = tmp_path / "old-python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.8.1 && exit 0\nexit 1\n')
    old.chmod(0o755)
    copy = tmp_path / "clone"
    for path in (*SCRIPTS, ROOT / "pyproject.toml"):
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text())
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": str(old)}
    answer = subprocess.run(["bash", script], cwd=copy, env=environment, capture_output=True, text=True)
    assert answer.returncode == 1
    assert "Python 3.8.1; Python 3.11 or newer is needed" in answer.stderr
    assert not (copy / ".venv").exists()


def test_tools_have_one_version() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pinned = {name for name in extras["dev"] if "==" in name}
    hooks = set(re.findall(r'"(ruff==[^"]+)"', (ROOT / ".pre-commit-config.yaml").read_text()))
    assert len(hooks) == 1
    assert hooks <= pinned


def test_torch_version_is_within_the_dependency() -> None:
    tested = re.search(r'^tested_torch="([\d.]+)"', (ROOT / ".ci/environment.sh").read_text(), re.MULTILINE)
    assert tested is not None
    assert f"torch=={tested[1]}" in (ROOT / "README.md").read_text()
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (torch,) = (r for r in map(Requirement, dependencies) if r.name == "torch")
    assert torch.specifier.contains(tested[1])
