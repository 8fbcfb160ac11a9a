"""Which runs of a folder are those of its last experiment, and where that came from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from optenvs.core.files import replace_file

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """What a report is about.

    Attributes:
        runs: Ids of the judged runs.
        source: The experiment's file, or its packaged name, as it was given; empty if it was neither.
    """

    runs: tuple[str, ...]
    source: str = ""

    def write(self, folder: Path) -> None:
        """Leaves it in a folder of results."""
        replace_file(folder / MANIFEST, json.dumps(asdict(self)).encode())


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder, if there is one.

    Raises:
        ValueError: It cannot be read; names the file.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        runs, source = content["runs"], content.get("source", "")
        if not (isinstance(runs, list) and all(isinstance(run, str) for run in [*runs, source])):
            raise ValueError("expected a list of names as 'runs', and a name as 'source'")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        reason = f"no entry {error}" if isinstance(error, KeyError) else error
        raise ValueError(
            f"{path}: not a readable manifest ({reason}); without it all runs of the folder are reported"
        ) from error
    return Manifest(tuple(runs), source)
