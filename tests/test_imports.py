"""What importing loads, which way imports go, and what the sources do not do."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("optenvs", "agents", "envs_registry")
HEAVY = (
    "torch", "matplotlib", "stable_baselines3", "scipy", "sklearn", "pandas", "pettingzoo", "mlxtend",
    "starlette", "uvicorn", "PIL",
)  # fmt: skip
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def python(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    return run.stdout


def loaded(code: str) -> list[str]:
    return python(f"import sys; {code}; print(*[m for m in {HEAVY} if m in sys.modules])").split()


@pytest.mark.parametrize(
    "code",
    [
        "import optenvs",
        "import agents",
        "import envs_registry",
        "import optenvs, agents, envs_registry; optenvs.list_envs(); agents.list_agents()",
        "import optenvs, gymnasium; gymnasium.spec('optenvs/Quadratic-v0')",
        "import optenvs.bench",
    ],
)
def test_importing_is_light(code: str) -> None:
    assert loaded(code) == []


def test_making_an_environment_loads_torch_and_no_more() -> None:
    said = python(
        "import sys, optenvs, gymnasium\n"
        f"said = lambda: print(*[m for m in {HEAVY} if m in sys.modules])\n"
        "optenvs.make('Quadratic'); said()\n"
        "gymnasium.make('optenvs/Quadratic-v0').reset(); said()"
    )
    assert said.splitlines() == ["torch", "torch"]


def test_every_lazy_name_exists() -> None:
    code = (
        "import optenvs, agents\n"
        "for module in (optenvs, agents):\n"
        "    for name in module.__all__:\n"
        "        assert getattr(module, name) is not None, name\n"
        "    assert set(module.__all__) <= set(dir(module))\n"
    )
    python(code)


def test_importing_registers_with_gymnasium() -> None:
    code = "import optenvs, gymnasium; print(sum(i.startswith('optenvs/') for i in gymnasium.registry))"
    optenvs = __import__("optenvs")
    assert int(python(code)) == len(optenvs.list_envs()) + len(optenvs.list_envs(plain=True))


def test_imports_go_one_way() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    run = subprocess.run([linter, "--no-cache"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 broken" in run.stdout


@lru_cache(maxsize=1)  # a test reads its source several times
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@lru_cache(maxsize=1)
def names(path: Path) -> tuple[tuple[int, str], ...]:
    return tuple(_names(path))


def _names(path: Path) -> Iterator[tuple[int, str]]:
    """Every dotted name and imported module of a source, with its line."""
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:  # of this project
                continue
            yield node.lineno, node.module or ""
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Attribute) and (name := dotted(node)):
            yield node.lineno, name


def dotted(node: ast.AST) -> str:
    """Names with dots between them; empty for whatever is more."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""


def found(path: Path, forbidden: tuple[str, ...], allowed: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for line, name in names(path)
        if any(name == f or name.startswith(f"{f}.") for f in forbidden) and name not in allowed
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_agents_are_imported_under_the_name_that_is_ours_alone(path: Path) -> None:
    part, *below = path.relative_to(ROOT).parts
    if (
        path.relative_to(ROOT).as_posix() != "optenvs/__init__.py"
    ):  # for type checkers, which read this folder
        assert imported(path, "agents") == [], "relative within the package, optenvs.agents elsewhere"
    if part != "optenvs" or below[0] not in ("bench", "human"):  # what the import contracts cannot see
        assert imported(path, "optenvs.agents") == []


def imported(path: Path, package: str) -> list[int]:
    """The lines on which a source imports of that package."""
    lines = []
    for node in nodes(path):
        if isinstance(node, ast.Import):
            given = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            given = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        lines += [node.lineno for name in given if f"{name}.".startswith(f"{package}.")]
    return lines


PICKLES = ("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib.load")
GLOBAL_RANDOMNESS = (
    "random",
    "np.random",
    "numpy.random",
    "torch.rand",
    "torch.randn",
    "torch.randint",
    "torch.randperm",
    "torch.rand_like",
    "torch.randn_like",
    "torch.bernoulli",
    "torch.multinomial",
    "torch.normal",
    "torch.manual_seed",
    "torch.seed",
    "torch.random",
)
# explicit generators are no global state; the checker looks at the global ones to see that nobody else does
EXPLICIT = ("np.random.default_rng", "np.random.Generator", "numpy.random.default_rng", "np.random.PCG64")
MAY = {
    # the unpickler that builds plain data only, from a table of its own
    "optenvs/data/safe_pickle.py": ("pickle", "pickle.Unpickler", "pickle.UnpicklingError"),
    # a policy of Stable-Baselines3 draws globally: here it does in a fork, from a seed of the agent's key
    "agents/adapters/sb3.py": ("torch.random", "torch.random.fork_rng", "torch.manual_seed"),
    # what the building of a heavy thing draws globally is taken back
    "optenvs/core/resources.py": (
        "random",
        "random.getstate",
        "random.setstate",
        "np.random",
        "np.random.get_state",
        "np.random.set_state",
        "torch.random",
        "torch.random.fork_rng",
    ),
    "optenvs/core/checks/probe.py": ("random", "random.getstate", "np.random", "np.random.get_state"),
}


def test_there_are_sources() -> None:
    assert len(SOURCES) > 40


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_sources_neither_unpickle_nor_draw_globally(path: Path) -> None:
    allowed = MAY.get(path.relative_to(ROOT).as_posix(), ())
    assert found(path, PICKLES, allowed) == []
    assert found(path, GLOBAL_RANDOMNESS, (*EXPLICIT, *allowed, "np.random")) == []
    for node in nodes(path):
        called = dotted(node.func) if isinstance(node, ast.Call) else ""
        if isinstance(node, ast.Call) and called == "torch.load":
            safe = {k.arg: ast.unparse(k.value) for k in node.keywords}.get("weights_only")
            assert safe == "True", f"{path}:{node.lineno}: torch.load without weights_only=True"
        if isinstance(node, ast.Call) and called in ("np.load", "numpy.load"):
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert keywords.get("allow_pickle", "False") == "False"
        if called in ("eval", "exec"):
            pytest.fail(f"{path}:{node.lineno}: {called}")


def test_the_search_finds_what_it_looks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    planted = tmp_path / "planted.py"
    planted.write_text(
        "import pickle\nfrom random import gauss\nimport numpy as np\nimport torch\n"
        "np.random.rand(3)\ntorch.randn(2)\nnp.random.default_rng(0)\nself.random(3)\n",
        encoding="utf-8",
    )
    assert found(planted, PICKLES) == ["planted.py:1: pickle"]
    drawn = {line.rsplit(" ", 1)[1] for line in found(planted, GLOBAL_RANDOMNESS, (*EXPLICIT, "np.random"))}
    assert drawn == {"random", "random.gauss", "np.random.rand", "torch.randn"}
