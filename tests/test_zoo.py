"""PettingZoo's faces by id, and the ids in PettingZoo's own registry."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pettingzoo
import pytest
from gossip import Gossip

import optenvs
from envs_registry import ENVIRONMENTS, EnvSpec
from optenvs.core.errors import UnknownKeyword, UnknownName
from optenvs.core.multi import MultiAgentEnv
from optenvs.faces.aec import AECFace
from optenvs.faces.parallel import ParallelFace
from optenvs.making import accepted

ROOT = Path(__file__).parents[1]
REGISTRY = pytest.mark.skipif(
    not hasattr(pettingzoo, "register"), reason="PettingZoo has a registry since its version 1.27"
)


def python(code: str, *folders: Path) -> str:
    path = ":".join(str(folder) for folder in (*folders, ROOT, ROOT / "tests"))
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, check=False, cwd=ROOT, env={"PYTHONPATH": path, "PATH": ""},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_by_id_and_by_problem() -> None:
    by_id = optenvs.parallel_env("NetworkQuadratic", nodes=3, max_cycles=4, render_mode="rgb_array")
    assert isinstance(by_id, ParallelFace) and isinstance(by_id, pettingzoo.ParallelEnv)
    assert by_id.possible_agents == ["node_0", "node_1", "node_2"]
    assert (by_id.max_cycles, by_id.render_mode) == (4, "rgb_array")
    turns = optenvs.aec_env(Gossip(count=2), max_cycles=3)
    assert isinstance(turns, AECFace) and isinstance(turns, pettingzoo.AECEnv)
    assert turns.max_cycles == 3 and str(turns) == "Gossip"


@pytest.mark.parametrize("make", [optenvs.parallel_env, optenvs.aec_env])
def test_errors(make) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(
        TypeError, match="env: expected a problem of many agents .*NetworkQuadratic-v0.*got Rosenbrock"
    ):
        make("Rosenbrock")
    with pytest.raises(TypeError, match="got int"):
        make(3)
    with pytest.raises(UnknownName, match="did you mean"):
        make("NetworkQuadratics")
    with pytest.raises(UnknownKeyword, match="keyword argument 'max_cycle'"):
        make("NetworkQuadratic", max_cycle=3)
    with pytest.raises(UnknownKeyword, match="keyword argument 'nodes'"):
        make(Gossip(), nodes=3)


def test_the_declarations_say_which_have_many_agents() -> None:
    many = optenvs.list_envs(multi_agent=True)
    assert "optenvs/NetworkQuadratic-v0" in many and "optenvs/Particles-v0" in many
    assert sorted(many + optenvs.list_envs(multi_agent=False)) == optenvs.list_envs()
    for spec in ENVIRONMENTS.values():
        assert issubclass(accepted(spec.id)[0], MultiAgentEnv) == spec.multi_agent, spec.id


@REGISTRY
@pytest.mark.parametrize("imports", ["import optenvs, pettingzoo", "import pettingzoo, optenvs"])
def test_importing_both_registers_in_any_order(imports: str) -> None:
    code = (
        f"{imports}\n"
        "import sys\n"
        "assert 'torch' not in sys.modules, 'strings only'\n"
        "for registry in (pettingzoo.parallel_registry, pettingzoo.aec_registry):\n"
        "    ids = sorted(i for i in registry if i.startswith('optenvs/'))\n"
        "    assert ids == optenvs.list_envs(multi_agent=True), ids\n"
        "env = pettingzoo.make('parallel', 'optenvs/NetworkQuadratic-v0', nodes=3, max_cycles=2)\n"
        "print(type(env).__name__, env.num_agents, env.max_num_agents, env.max_cycles)\n"
        "print(type(pettingzoo.make('aec', 'optenvs/NetworkQuadratic')).__name__)\n"
    )
    assert python(code).split() == ["ParallelFace", "0", "3", "2", "AECFace"]


@REGISTRY
def test_what_is_declared_later_is_registered_too() -> None:
    code = (
        "import optenvs\n"
        "from envs_registry import EnvSpec\n"
        "def declare(name, many):\n"
        "    optenvs.register(EnvSpec(id=f'mine/{name}-v1', entry_point='gossip:Gossip', family='mine',\n"
        "                             oracles=('gradient',), summary='', multi_agent=many))\n"
        "declare('Before', True)\n"
        "import pettingzoo\n"
        "declare('After', True)\n"
        "declare('Alone', False)\n"
        "print(*sorted(i for i in pettingzoo.aec_registry if i.startswith('mine/')))\n"
        "print(pettingzoo.make('aec', 'mine/After-v1', count=4).max_num_agents)\n"
    )
    assert python(code).split() == ["mine/After-v1", "mine/Before-v1", "4"]


def test_a_pettingzoo_without_a_registry_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pettingzoo").mkdir()
    (tmp_path / "pettingzoo" / "__init__.py").write_text("__version__ = '1.25.0'\n", encoding="utf-8")
    for imports in ("import optenvs, pettingzoo", "import pettingzoo, optenvs"):
        assert python(f"{imports}; print(pettingzoo.__version__)", tmp_path) == "1.25.0"


def test_looking_for_pettingzoo_does_not_load_it() -> None:
    code = (
        "import sys, importlib.util, optenvs\n"
        "spec = importlib.util.find_spec('pettingzoo')\n"
        "print('pettingzoo' in sys.modules, spec.name)\n"
        "import pettingzoo.utils\n"
        "print('optenvs/Particles-v0' in getattr(pettingzoo, 'aec_registry', ['optenvs/Particles-v0']))\n"
    )
    assert python(code).split() == ["False", "pettingzoo", "True"]


def test_a_spec_says_whether_it_has_many_agents() -> None:
    assert not EnvSpec(id="a/B-v0", entry_point="a:B", family="a", oracles=(), summary="").multi_agent
