"""What the methods for convex programs of rectified units share."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from optenvs.models.relu import LOSSES, Gated


def program(name: str, problem: Any, known: tuple[str, ...] = LOSSES) -> Gated:
    """The program of a problem.

    Raises:
        TypeError: it is none.
        ValueError: its loss is not among the known ones.
    """
    if not isinstance(problem, Gated):
        raise TypeError(
            f"agent {name} solves convex programs of rectified units (optenvs/ConvexRelu-v0), "
            f"got {type(problem).__name__}"
        )
    if problem.loss not in known:
        raise ValueError(f"agent {name}: loss: expected {' or '.join(known)}, got {problem.loss}")
    return problem


def asked(program: Gated, point: Tensor, *kinds: str) -> dict[str, Tensor]:
    """The query of these kinds at a point."""
    assert program.menu is not None  # an environment has one
    return program.menu.query(dict.fromkeys(kinds, True), point=point)
