"""What pyproject.toml cannot say: where the folder ``agents`` is installed, and under which names.

It becomes the package ``optenvs.agents``. Its short name, ``agents``, is a module of its own: a file and no
folder, so that a package ``agents`` of somebody else's is never overwritten, and comes first where both are
installed. ``OPTENVS_SHORT_NAME=no pip install .`` leaves the short name out. An editable install puts this
folder on the path, behind what is installed.
"""

import os
import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

EDITABLE = "editable_wheel" in sys.argv
SHORT_NAME = os.environ.get("OPTENVS_SHORT_NAME", "yes")
DOOR = '''"""Another name of the package ``optenvs.agents``: the same modules, loaded once."""

from optenvs import second_name

second_name.enter(__name__)
'''

if SHORT_NAME not in ("yes", "no"):
    raise SystemExit(f"OPTENVS_SHORT_NAME: expected 'yes' or 'no', got {SHORT_NAME!r}")


class BuildWithShortName(build_py):
    """The files of the packages, and the module ``agents`` beside them."""

    def run(self) -> None:
        super().run()
        door = Path(self.build_lib, "agents.py")
        door.unlink(missing_ok=True)  # of an earlier build
        if SHORT_NAME == "yes" and not EDITABLE:
            door.write_text(DOOR, encoding="utf-8")


class SourceWithBuild(sdist):
    """The source with this folder, which builds it."""

    def add_defaults(self) -> None:
        super().add_defaults()
        self.filelist.extend([".build/backend.py", ".build/setup.py"])


found = find_packages(include=["optenvs*", "agents*", "envs_registry*"])
inside = [name if EDITABLE or not name.startswith("agents") else f"optenvs.{name}" for name in found]
setup(
    packages=inside,
    package_dir={"": "."} if EDITABLE else {"": ".", "optenvs.agents": "agents"},
    cmdclass={"build_py": BuildWithShortName, "sdist": SourceWithBuild},
)
