"""One package, two names: ``agents`` and ``optenvs.agents`` are the same modules, loaded once.

Other packages call themselves ``agents``, too. The name that is ours alone is ``optenvs.agents``, and every
module is loaded under that one; where ``import agents`` finds this project, it gives the same modules. In the
repository the package is the folder ``agents`` beside ``optenvs``; installed, it lies in ``optenvs`` (see
``.build/setup.py``).
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

NAME, SHORT = "optenvs.agents", "agents"
_HERE = Path(__file__).resolve().parent


def enter(name: str) -> None:
    """Called by the package as it is loaded: under its short name, the other one takes its place."""
    if name == SHORT:
        sys.modules[SHORT] = importlib.import_module(NAME)


class Finder(MetaPathFinder):
    """Where the package is in the repository, and what stands for its modules' short names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == NAME:
            return _beside()
        if fullname.startswith(f"{SHORT}.") and _is_ours():
            name = f"optenvs.{fullname}"
            real = importlib.util.find_spec(name)
            if real is not None:
                package = real.submodule_search_locations is not None
                return ModuleSpec(fullname, _Same(name), origin=real.origin, is_package=package)
        return None


class _Same(Loader):
    """Gives the module of another name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._name)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec  # the import system has put that of the second name there


def _beside() -> ModuleSpec | None:
    """The folder of the repository; None where the package is installed."""
    folder = _HERE.parent / SHORT
    if (_HERE / SHORT).is_dir() or not (folder / "__init__.py").is_file():
        return None
    return importlib.util.spec_from_file_location(
        NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )


def _is_ours() -> bool:
    return SHORT in sys.modules and sys.modules[SHORT] is sys.modules.get(NAME)


def install() -> None:
    """Let Python's imports ask here first."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())
