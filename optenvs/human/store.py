"""A session on disk: one JSON file under a checksum, which is replaced whole after every answer."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from optenvs.core.files import replace_file
from optenvs.core.sealed import UNSEALED, check_seal, sealed
from optenvs.version import installed

FILE = "session.json"
_FORMAT = "optenvs-ranking-session-2"
_UNSEALED_FORMAT = "optenvs-ranking-session-1"  # without a checksum; the work of people is read all the same


class SessionError(ValueError):
    """What was asked does not fit the session, which stays as it was."""


class Said(NamedTuple):
    """An answer, and what was seen: the mean lightness of each picture shown, from 0 to 1."""

    ranking: tuple[int, ...]
    shades: tuple[float, ...]


@dataclass(frozen=True)
class Settings:
    """What a session is about; with the answers it makes the episode again.

    Attributes:
        environment: the id.
        agent: the agent's name.
        seed: names the instance.
        keywords: of the environment.
        hyperparameters: of the agent.
        question: what the person is asked.
    """

    environment: str
    agent: str
    seed: int = 0
    keywords: dict[str, Any] = field(default_factory=dict)
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    question: str = "Which do you like best?"


@dataclass(frozen=True)
class Record:
    """The content of a session's file.

    Attributes:
        settings: see :class:`Settings`.
        said: the answers by round.
        undone: how many answers have been taken back.
    """

    settings: Settings
    said: tuple[Said, ...] = ()
    undone: int = 0

    def to_json(self) -> str:
        """The text of the file."""
        content = {"format": _FORMAT, "sha256": UNSEALED, "optenvs": installed()} | asdict(self.settings)
        rounds = [{"ranking": list(said.ranking), "shades": list(said.shades)} for said in self.said]
        # a line a round: a person may want to read it
        head = json.dumps(content | {"undone": self.undone}, indent=2).removesuffix("\n}")
        lines = ",".join(f"\n    {json.dumps(entry)}" for entry in rounds)
        return sealed(f'{head},\n  "rounds": [{lines}\n  ]\n}}\n'.encode()).decode()


def read(path: str | os.PathLike[str]) -> Record:
    """The record of a file, or of the folder that holds it.

    Raises:
        FileNotFoundError: there is none. ValueError: it is no session, or not as it was written.
    """
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"no session at {path}")
    try:
        return _parsed(path.read_bytes())
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: not a readable session ({error})") from error


def _parsed(text: bytes) -> Record:
    content = json.loads(text)
    if content["format"] == _FORMAT:
        check_seal(text)
    elif content["format"] != _UNSEALED_FORMAT:
        raise ValueError(f"format {content['format']!r}, expected {_FORMAT!r}")
    keywords = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in content["keywords"].items()
    }
    settings = Settings(
        environment=content["environment"],
        agent=content["agent"],
        seed=content["seed"],
        keywords=keywords,
        hyperparameters=content["hyperparameters"],
        question=content["question"],
    )
    said = tuple(Said(tuple(entry["ranking"]), tuple(entry["shades"])) for entry in content["rounds"])
    return Record(settings, said, int(content["undone"]))


class Store:
    """Where a session is kept.

    Args:
        folder: it is made if need be; ``None``: nothing is written.
    """

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        self.path = None if folder is None else Path(folder) / FILE
        self._written: str | None = None

    def find(self) -> Record | None:
        """What is there, if there is something."""
        if self.path is None or not self.path.exists():
            return None
        self._written = self.path.read_text(encoding="utf-8")
        return read(self.path)

    def write(self, record: Record) -> None:
        """Replace the file; after a failure it is as it was.

        Raises:
            SessionError: somebody else has written to it. OSError: it cannot be written.
        """
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        there = self.path.read_text(encoding="utf-8") if self.path.exists() else None
        if there != self._written:
            raise SessionError(f"{self.path}: somebody else has changed it; start again to go on from there")
        text = record.to_json()
        replace_file(self.path, text.encode())
        self._written = text
