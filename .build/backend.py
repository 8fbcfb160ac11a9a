"""The build backend: setuptools' own, which reads ``setup.py`` of this folder in place of one at the top."""

from pathlib import Path

from setuptools import build_meta

SCRIPT = Path(__file__).with_name("setup.py")


class Backend(build_meta._BuildMetaBackend):
    """Setuptools with the script beside this file."""

    def run_setup(self, setup_script: str = "") -> None:
        """Run it, in the folder of the project."""
        super().run_setup(str(SCRIPT))


_backend = Backend()
get_requires_for_build_wheel = _backend.get_requires_for_build_wheel
get_requires_for_build_sdist = _backend.get_requires_for_build_sdist
get_requires_for_build_editable = _backend.get_requires_for_build_editable
prepare_metadata_for_build_wheel = _backend.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = _backend.prepare_metadata_for_build_editable
build_wheel = _backend.build_wheel
build_sdist = _backend.build_sdist
build_editable = _backend.build_editable
