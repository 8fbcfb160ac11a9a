"""The proximal Lagrangian value function of LV-HBA (Yao et al. 2024), exactly, and what is left of its slope.

    v(x, y, z) = min over theta, max over lambda in Z of
                 f(x, theta) + lambda' g(x, theta) + |theta - y|^2 / (2 gamma1) - |lambda - z|^2 / (2 gamma2)
    psi_c(x, y, z) = F(x, y) / c + f(x, y) - v(x, y, z)   over C x Z

f - v >= 0 on C x Z, and 0 where y solves the lower problem and z is a multiplier of it. The inner maximum is
taken at lambda = the nearest point of Z to z + gamma2 g(x, theta), so that theta minimises a strongly convex
function with a continuous gradient: Newton's method on that, with the slopes of the clipped parts left out,
ends in a few steps where f is quadratic and g affine in theta. It is what agents on this reformulation are
measured by; none needs it. Y is to be the whole space. All numbers may be tensors ``(B, 1)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from .base import Bilevel
from .parts import Own

STEPS = 40
_LENGTHS = 6
_EXACT = 1e-13

Number = float | Float[Tensor, "B 1"]


class Place(NamedTuple):
    """Where it is measured; z is in units of the divided constraints."""

    x: Float[Tensor, "B n"]
    y: Float[Tensor, "B m"]
    z: Float[Tensor, "B p"]


@dataclass(frozen=True, eq=False)
class Reformulation:
    """The value function of some instances.

    Args:
        env: the problem.
        own: what its functions depend on, :meth:`~.base.Bilevel.own`.
        gamma1, gamma2: the proximal parameters.
        r: the bound of Z, in units of the divided constraints; by default the problem's.
        unit: what the constraints are divided by.
    """

    env: Bilevel
    own: Own
    gamma1: Number = 1.0
    gamma2: Number = 1.0
    r: Number | None = None
    unit: Number = 1.0

    def saddle(self, at: Place) -> tuple[Float[Tensor, "B m"], Float[Tensor, "B p"]]:
        """The point theta, and lambda in units of the divided constraints."""
        theta = at.y
        for _ in range(STEPS):
            slope, size = self._slope(at, theta)
            done = torch.linalg.vector_norm(slope, dim=-1) <= _EXACT * size
            if bool(done.all()):
                break
            step = -torch.linalg.solve_ex(self._hessian(at, theta), slope.unsqueeze(-1))[0].squeeze(-1)
            theta = torch.where(done.unsqueeze(-1), theta, self._moved(at, theta, step))
        return theta, self._multipliers(at, theta)

    def gap(self, at: Place) -> Float[Tensor, "B"]:
        """By how much f exceeds v."""
        theta, lam = self.saddle(at)
        (x, y, z), env, own = at, self.env, self.own
        inner = env.lower(own, x, theta) + (lam / self.unit * env.constrain(own, x, theta)).sum(-1)
        near = ((theta - y).square() / (2 * self.gamma1)).sum(-1)
        far = ((lam - z).square() / (2 * self.gamma2)).sum(-1)
        return env.lower(own, x, y) - inner - near + far

    def slope(self, at: Place, c: Number) -> Place:
        """The gradient of psi_c, by the envelope of v."""
        theta, lam = self.saddle(at)
        (x, y, z), env, own = at, self.env, self.own
        n = x.shape[1]
        both = env.upper_slope(own, x, y)[1] / c + env.lower_slope(own, x, y)[1]
        by_x = both[:, :n] - env.lower_slope(own, x, theta)[1][:, :n]
        if z.shape[1]:
            by_x = by_x - env.pull(own, x, theta, lam / self.unit)[1][:, :n]
        return Place(by_x, both[:, n:] - (y - theta) / self.gamma1, (z - lam) / self.gamma2)

    def residual(self, at: Place, c: Number) -> Float[Tensor, "B"]:
        """The length of u - P(u - grad psi_c(u)), with P onto C x Z and u = (x, y, z)."""
        slope, known = self.slope(at, c), self.own.known
        x, y = known.joint(at.x - slope.x, at.y - slope.y)
        z = known.multipliers(at.z - slope.z, self.r) if at.z.shape[1] else at.z
        return torch.linalg.vector_norm(torch.cat((at.x - x, at.y - y, at.z - z), -1), dim=-1)

    # Newton's method in theta ------------------------------------------------------------------

    def _multipliers(self, at: Place, theta: Tensor) -> Float[Tensor, "B p"]:
        if not at.z.shape[1]:
            return at.z
        wanted = at.z + self.gamma2 * self.env.constrain(self.own, at.x, theta) / self.unit
        return self.own.known.multipliers(wanted, self.r)

    def _slope(self, at: Place, theta: Tensor) -> tuple[Float[Tensor, "B m"], Float[Tensor, "B"]]:
        """The derivative by theta once lambda is eliminated, and the size of what it is the sum of."""
        n, env = at.x.shape[1], self.env
        parts = [env.lower_slope(self.own, at.x, theta)[1][:, n:], (theta - at.y) / self.gamma1]
        if at.z.shape[1]:
            lam = self._multipliers(at, theta)
            parts.append(env.pull(self.own, at.x, theta, lam / self.unit)[1][:, n:])
        size = 1 + sum(torch.linalg.vector_norm(part, dim=-1) for part in (*parts, theta))
        return torch.stack(parts).sum(0), torch.as_tensor(size)

    def _hessian(self, at: Place, theta: Tensor) -> Float[Tensor, "B m m"]:
        """Its derivative: H + I / gamma1 + gamma2 J' D J, D = 1 where lambda is not clipped."""
        (n, m, p), env, own, x = self.env.sizes, self.env, self.own, at.x
        eye = torch.eye(m, dtype=x.dtype, device=x.device)
        wanted = at.z + self.gamma2 * env.constrain(own, x, theta) / self.unit if p else at.z
        lam = own.known.multipliers(wanted, self.r) if p else None
        along = None if lam is None else lam / self.unit
        columns = [env.second(own, x, theta, along, e.expand(len(x), -1))[:, n:] for e in eye]
        matrix = torch.stack(columns, -1) + eye / torch.as_tensor(self.gamma1).reshape(-1, 1, 1)
        if lam is None:
            return matrix
        unit = torch.eye(p, dtype=x.dtype, device=x.device)
        rows = torch.stack([env.pull(own, x, theta, e.expand(len(x), -1))[1][:, n:] for e in unit], 1)
        free = (lam == wanted).to(x.dtype) * self.gamma2 / torch.as_tensor(self.unit) ** 2
        return matrix + rows.mT @ (free.unsqueeze(-1) * rows)

    def _moved(self, at: Place, theta: Tensor, step: Tensor) -> Float[Tensor, "B m"]:
        """Of the lengths 1, 1/2, ... that with the shortest slope."""
        trials = [theta + 0.5**i * step for i in range(_LENGTHS)]
        lengths = torch.stack([torch.linalg.vector_norm(self._slope(at, t)[0], dim=-1) for t in trials])
        best = lengths.nan_to_num(torch.inf).argmin(0)
        return torch.stack(trials).gather(0, best[None, :, None].expand(1, *theta.shape))[0]
