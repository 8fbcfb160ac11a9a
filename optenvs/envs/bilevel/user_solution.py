"""Whether the lower solution that a user gives is one: the lower conditions, where episodes begin."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from . import kkt
from .base import Bilevel
from .parts import Own
from .user_calls import check_reads, generic
from .user_slopes import check_solution_slope


@dataclass(frozen=True, eq=False, kw_only=True)
class Conditioned(Bilevel):
    """Two levels of which the first-order conditions of the lower one are known."""

    @abc.abstractmethod
    def residual(self, own: Own) -> kkt.Residual:
        """The conditions; see :mod:`~optenvs.envs.bilevel.kkt`."""

    @abc.abstractmethod
    def curved(
        self, own: Own, x: Float[Tensor, "B n"], both: Float[Tensor, "B mp"], level: Float[Tensor, "B"]
    ) -> Bool[Tensor, "B"]:
        """Where the lower problem falls away from a point that fulfils them: it is no minimum."""


def check_shapes(env: Conditioned, solution: Callable[..., Any], x: Tensor) -> None:
    """Whether it can be called, reads x alone, and answers what it should."""
    _, m, p = env.sizes
    found = check_reads("solution", torch.func.vmap(solution), x)
    parts = found if isinstance(found, tuple) else (found,)
    shapes = [tuple(part.shape[1:]) for part in parts]
    if shapes not in ([(m,)], [(m,), (p,)]):
        raise ValueError(f"solution: expected y ({m},), or (y, multipliers ({p},)), got shapes {shapes}")


def check_conditions(env: Conditioned, own: Own, x: Float[Tensor, "B n"], single: bool) -> None:
    """Raise ``ValueError`` unless it solves the lower conditions at ``x``, or beside it.

    Args:
        env: the environment.
        own: with the geometry.
        x: where episodes begin.
        single: whether the solution comes without multipliers, which then are 0.
    """
    shift = 0.1 * generic(x.shape[1], len(x)).to(x)
    beside = [own.known.upper(x + by * shift) for by in (1, -1)]
    check_solution_slope(lambda u: torch.cat(env.solve(own, u)[:2], -1), beside[0])
    here, ahead, behind = (_left(env, own, at) for at in (x, *beside))
    left = torch.maximum(here, torch.minimum(ahead, behind))  # one side may be where nothing is feasible
    small = 1e-3 if x.dtype == torch.float64 else 1e-2
    if bool((left > small).any()):
        note = "; y alone says that all multipliers are 0" if single and env.sizes.p else ""
        raise ValueError(
            f"solution: does not solve the lower problem: expected the lower conditions to hold at y*(x), "
            f"they are left by {float(left.max()):.2g} of their size{note}"
        )
    if not own.known.lower_free:
        return
    found = torch.cat(env.solve(own, x)[:2], -1)
    if bool(env.curved(own, x, found, torch.full_like(x[:, 0], small)).any()):
        raise ValueError("solution: expected a minimum of the lower problem, which curves down from y*(x)")


def _left(env: Conditioned, own: Own, x: Float[Tensor, "B n"]) -> Float[Tensor, "B"]:
    """By how much y*(x) fails the conditions, relative to what they are elsewhere; 0 where nobody knows."""
    found, (n, _, p) = env.solve(own, x), env.sizes
    y = found.y
    other = y + (1 + y.abs()) * generic(y.shape[1], len(y)).to(y)
    size = torch.linalg.vector_norm(env.lower_slope(own, x, other)[1][:, n:], dim=-1)
    both = torch.cat((y, found.multipliers), -1)
    size = 1 + torch.linalg.vector_norm(both, dim=-1) + size
    if not own.known.lower_free:
        if "feasible" in own.known.has:
            moved = own.known.feasible(x, y - env.lower_slope(own, x, y)[1][:, n:])
        else:
            moved = own.known.lower(y)
        left = torch.linalg.vector_norm(y - moved, dim=-1)
        left = left + own.known.violation(env.constrain(own, x, y)) if p else left
    else:
        left = torch.linalg.vector_norm(env.residual(own)(x, both), dim=-1)
    return (left / size).nan_to_num()
