"""What is installed: the agents under two names, also beside another package of the name `agents`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("optenvs", "agents", "envs_registry", "pyproject.toml", ".build", "README.md", "LICENSE")
BUILD = "import sys; sys.path.insert(0, '.build'); import backend; backend.{hook}(sys.argv[1])"
BOTH_NAMES = """
import importlib, sys
for name in {order}:
    importlib.import_module(name)
import agents, agents.ranking._descent, optenvs, optenvs.agents.gradient.sgd
from agents.gradient import sgd
assert "torch" in sys.modules  # by the modules of algorithms, whose names follow
assert agents is optenvs.agents is sys.modules["agents"] is sys.modules["optenvs.agents"]
assert agents.SGD is optenvs.agents.SGD is sgd.SGD is optenvs.agents.gradient.sgd.SGD
assert sgd.__spec__.name == sgd.__name__ == sgd.SGD.__module__ == "optenvs.agents.gradient.sgd"
assert agents.ranking._descent is optenvs.agents.ranking._descent
assert type(optenvs.agents.make("sgd")) is agents.SGD
for name, module in list(sys.modules.items()):
    if name.startswith("agents"):
        assert module is sys.modules["optenvs." + name], name
try:
    import agents.nothing
except ModuleNotFoundError as error:
    assert error.name == "agents.nothing"
print(optenvs.__file__, agents.__file__)
"""
ORDERS = [("agents",), ("optenvs.agents.gradient.sgd", "agents")]


def python(code: str, path: Path | None, cwd: Path) -> str:
    """What a fresh Python says that finds packages in ``path`` before those of this environment."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=cwd, env=environment
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def copied(folder: Path) -> Path:
    folder.mkdir()
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / part)
    return folder


def built(folder: Path, hook: str = "build_wheel", **settings: str) -> Path:
    """A wheel of that copy, unpacked as it would be installed."""
    out = folder.parent / f"{folder.name}-{hook}{''.join(settings.values())}"
    out.mkdir()
    command = [sys.executable, "-c", BUILD.format(hook=hook), str(out)]
    environment = {k: v for k, v in os.environ.items() if k != "OPTENVS_SHORT_NAME"} | settings
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(out / "site")
    return out / "site"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(tmp_path_factory.mktemp("home") / "optenvs")


@pytest.fixture(scope="module")
def installed(clone: Path) -> Path:
    return built(clone)


def other(site: Path) -> Path:
    """Another package of the name `agents`, with a module that has the name of one of ours."""
    (site / "agents").mkdir()
    (site / "agents" / "__init__.py").write_text("SGD = 'another'\n")
    (site / "agents" / "core.py").write_text("WHOSE = 'another'\n")
    return site


@pytest.mark.parametrize("order", ORDERS, ids=" then ".join)
def test_two_names_of_the_same_modules_in_the_repository(order: tuple[str, ...], tmp_path: Path) -> None:
    said = python(BOTH_NAMES.format(order=order), ROOT, tmp_path)
    assert said == f"{ROOT}/optenvs/__init__.py {ROOT}/agents/__init__.py"


def test_two_names_of_the_same_modules_from_a_wheel(installed: Path, tmp_path: Path) -> None:
    said = python(BOTH_NAMES.format(order=("agents.gradient.sgd",)), installed, tmp_path)
    assert said == f"{installed}/optenvs/__init__.py {installed}/optenvs/agents/__init__.py"


def test_a_wheel_holds_everything_and_overwrites_nobody(installed: Path) -> None:
    def files(folder: Path) -> set[str]:
        kept = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return {path.relative_to(folder).as_posix() for path in kept}

    agents = {f"agents/{name}" for name in files(ROOT / "agents")}
    assert files(installed / "optenvs") == files(ROOT / "optenvs") | agents
    top = {path.name for path in installed.iterdir() if path.suffix != ".dist-info"} - {"__pycache__"}
    assert top == {"optenvs", "envs_registry", "agents.py"}


def test_it_lives_beside_another_package_agents(installed: Path, tmp_path: Path) -> None:
    site = other(Path(shutil.copytree(installed, tmp_path / "site")))
    said = python(
        "import agents, agents.core, optenvs, optenvs.agents as ours, optenvs.agents.core, sys\n"
        "from optenvs.human.session import agents as used\n"
        "assert used is ours\n"
        "run = optenvs.rollout(optenvs.make('Quadratic'), ours.make('adam', lr=0.1), steps=3)\n"
        "print(agents.SGD, agents.core.WHOSE, ours.SGD.__name__, ours.core.Agent.__module__, len(run.merit))",
        site,
        tmp_path,
    )
    assert said == "another another SGD optenvs.agents.core 4"
    assert (site / "agents.py").read_text()  # it is there, and only hidden


def test_the_short_name_can_be_left_out(clone: Path, installed: Path, tmp_path: Path) -> None:
    assert (installed / "agents.py").is_file()  # the build before this one, in the same folder
    without = built(clone, OPTENVS_SHORT_NAME="no")
    assert not list(without.glob("agents*"))
    assert "adam" in python("import optenvs.agents; print(optenvs.agents.list_agents())", without, tmp_path)
    refused = subprocess.run(
        [sys.executable, ".build/setup.py", "--name"],
        cwd=clone,
        env=os.environ | {"OPTENVS_SHORT_NAME": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "OPTENVS_SHORT_NAME: expected 'yes' or 'no', got 'off'" in refused.stderr


def test_an_editable_install_works_from_the_folder_that_holds_the_clone(clone: Path) -> None:
    site = built(clone, "build_editable")
    # without the project that this environment may hold, also editable
    others = "[p for p in sys.path if not p or not os.path.isdir(p + '/optenvs')]"
    start = f"import os, site, sys\nsys.path = {others}\n"
    start += f"site.addsitedir({str(site)!r})\nimport optenvs\n"
    assert clone.name == "optenvs"  # so that Python, started beside it, finds a folder of the package's name
    made = "print(__import__('gymnasium').make('optenvs/Beale-v0').reset(seed=0)[1]['calls']['gradient'])\n"
    said = python(start + made + BOTH_NAMES.format(order=()), None, clone.parent)
    assert said.splitlines() == ["1", f"{clone}/optenvs/__init__.py {clone}/agents/__init__.py"]


def test_importing_optenvs_from_a_wheel_loads_no_torch(installed: Path, tmp_path: Path) -> None:
    code = "import sys, optenvs, agents, optenvs.agents; agents.list_agents(); print('torch' in sys.modules)"
    assert python(code, installed, tmp_path) == "False"
