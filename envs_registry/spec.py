"""What is known of an environment without importing it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_ID = re.compile(r"^(?P<namespace>[\w.-]+)/(?P<name>[\w.-]+)-v(?P<version>\d+)$")


@dataclass(frozen=True, kw_only=True)
class EnvSpec:
    """One registered environment: strings and JSON data only, so that declaring imports nothing.

    Attributes:
        id: ``namespace/Name-vN``; from release 1.0 on, N grows whenever a number that it gives can change.
        entry_point: ``module:Class`` of the :class:`optenvs.core.OptimizationEnv`.
        family: the folder of ``optenvs/envs`` that it lives in.
        oracles: every oracle kind that some setting of its keywords answers.
        summary: one line.
        reference: where it comes from.
        best_known: the lowest known merit, where one number holds for all instances.
        kwargs: keywords that differ from the class's defaults.
        needs: packages beyond the core that it needs, as pip names.
        multi_agent: whether it is a problem of many agents, which then has PettingZoo's faces, too.
        vector_entry_point: of a plain Gymnasium environment, which answers no oracle and bills nothing:
            ``module:Class`` of its vector environment. ``entry_point`` is then that of its ``gym.Env``.
    """

    id: str
    entry_point: str
    family: str
    oracles: tuple[str, ...]
    summary: str
    reference: str = ""
    best_known: float | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    multi_agent: bool = False
    vector_entry_point: str | None = None

    def __post_init__(self) -> None:
        if not _ID.match(self.id):
            raise ValueError(f"id: expected 'namespace/Name-vN', got {self.id!r}")
        for field_ in ("entry_point", "vector_entry_point"):
            given = getattr(self, field_)
            module, _, name = (given or "").partition(":")
            if given is not None and not (module and name):
                raise ValueError(f"{field_}: expected 'module:Class', got {given!r}")
        if self.plain and self.oracles:
            raise ValueError(f"oracles: a plain environment answers none, got {self.oracles!r}")

    @property
    def plain(self) -> bool:
        """Whether it is a plain Gymnasium environment, and no oracle."""
        return self.vector_entry_point is not None

    @property
    def name(self) -> str:
        """The id without namespace and version."""
        match = _ID.match(self.id)
        assert match is not None
        return match["name"]
