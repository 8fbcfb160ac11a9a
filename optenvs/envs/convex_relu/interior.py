"""The optimum of a convex program over patterns, and a proof of it, by a primal-dual interior-point method.

    grad l + z = G'alpha,   t z = beta v  (so that |z| < beta),   alpha s = mu,   s = G u > 0

The cones by Newton's method on alpha s = mu, the norms as Andersen, Christiansen, Conn and Overton (2000)
treat a sum of norms, with t the minimiser of beta t - mu log(t^2 - |v|^2); the hinge as xi > 0, xi > 1 - y
yh with multipliers 1 - q and q. A step's matrix is one d x d block a pattern and sign, plus F'WF of rank n:
it costs 2P factorisations of d x d and one of n x n.

Every iterate is strictly feasible: its objective is that of its network, and an upper bound. The slopes of
the loss, scaled until every |G_i'alpha - F_i'l'| <= beta, give a lower bound by weak duality, whatever the
method did: what the two leave between them is known, with no other solver at hand.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from optenvs.core.oracles import inside_transform
from optenvs.models.relu import Gated, cones, from_cones, norms, objective, outputs, pulled, slopes

STEPS = 100
_ENOUGH, _LEAST, _MOST, _BACK = 1e-11, 0.1, 0.9, 0.95
_TINY, _RIDGE = 1e-300, 1e-15


class Optimum(NamedTuple):
    """What is known of the least value.

    Attributes:
        value: of the best feasible point found, ``(B,)``.
        bound: below which no feasible point lies, ``(B,)``.
        U: that point, ``(B, 2, P, d)``.
    """

    value: Float[Tensor, "B"]
    bound: Float[Tensor, "B"]
    U: Float[Tensor, "B 2 P d"]


class _Point(NamedTuple):
    """u, z, the multipliers of the cones and G u; of the hinge q and xi ``(B, n)``, not used without it."""

    U: Tensor
    z: Tensor
    alpha: Tensor
    s: Tensor
    q: Tensor
    xi: Tensor


def solve(program: Gated, steps: int | None = None) -> Optimum:
    """The least value of each row's program, whose gates lie strictly inside of their cones."""
    real = (program.E != 0).any(1)
    n, P = program.D.shape[1:]
    beta = program.beta[:, None, None, None]
    unit = program.gates / torch.linalg.vector_norm(program.gates, dim=-1, keepdim=True).clamp_min(_TINY)
    U = torch.stack((unit, unit), 1) * real[:, None, :, None] / P  # v = w: the network is 0
    rows = (program.X != 0).any(-1)[:, None, :, None]  # of zeros: it limits nothing
    open_ = real[:, None, None, :].expand(-1, 2, n, P) & rows
    ones = torch.ones_like(program.y)
    at = _Point(
        U,
        z=_goal(U, beta, beta)[0],
        alpha=open_ * ones[:, None, :, None] / n,  # mu / s would be huge where a gate is near the boundary
        s=torch.where(open_, cones(program.X, program.E, U), 1.0),
        q=ones / 2,
        xi=2 * ones,
    )
    mu, best = program.beta, Optimum(objective(program, U), torch.zeros_like(program.beta), U)
    done = torch.zeros_like(mu, dtype=torch.bool)
    for _ in range(STEPS if steps is None else steps):
        move = _step(program, at, mu, open_)
        size = _longest(program, at, move)
        at = _Point(*(x + size.reshape(-1, *[1] * (x.ndim - 1)) * dx for x, dx in zip(at, move, strict=True)))
        best = _better(best, Optimum(objective(program, at.U), _bound(program, at), at.U), done)
        done = done | (best.value - best.bound <= _ENOUGH * best.value)
        mu = (1 - size).square().clamp(_LEAST, _MOST) * _left(program, at, open_)
        stopped = done | at.U.sum((1, 2, 3)).isnan()
        if mu.is_cpu and not inside_transform(mu) and bool(stopped.all()):
            break
    return best


def _better(best: Optimum, new: Optimum, done: Bool[Tensor, "B"]) -> Optimum:
    """The better of both; of rows that are done what they had, so that none depends on the others."""
    lower = (new.value < best.value) & ~done
    return Optimum(
        torch.where(lower, new.value, best.value),
        torch.where(done, best.bound, torch.maximum(best.bound, new.bound.nan_to_num(0.0))),
        torch.where(lower[:, None, None, None], new.U, best.U),
    )


def _left(program: Gated, at: _Point, open_: Bool[Tensor, "B 2 n P"]) -> Float[Tensor, "B"]:
    """The mean of what the complementary pairs leave."""
    left = (
        (at.alpha * at.s).sum((1, 2, 3))
        + program.beta * norms(at.U).sum((1, 2))
        - (at.z * at.U).sum((1, 2, 3))
    )
    count = open_.sum((1, 2, 3)) + 2 * (program.E != 0).any(1).sum(-1)
    if program.loss == "hinge":
        left = left + (at.q * _room(program, at) + (1 - at.q) * at.xi).sum(-1)
        count = count + 2 * at.q.shape[-1]
    return (left / count).clamp_min(1e-18)


def _room(program: Gated, at: _Point) -> Float[Tensor, "B n"]:
    """Xi - (1 - y yh)."""
    return at.xi - 1 + program.y * outputs(program.X, program.D, at.U)


def _goal(U: Tensor, beta: Tensor, mu: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Beta v / t, t, and sqrt(mu^2 + beta^2 |v|^2)."""
    root = (mu.square() + (beta * norms(U).unsqueeze(-1)).square()).sqrt()
    t = (mu + root) / beta
    return beta * U / t, t, root


def _step(program: Gated, at: _Point, mu: Float[Tensor, "B"], open_: Bool[Tensor, "B 2 n P"]) -> _Point:
    """Newton's step."""
    X, D, E, U, z = program.X, program.D, program.E, at.U, at.z
    beta, wide = program.beta[:, None, None, None], mu[:, None, None, None]
    goal, t, root = _goal(U, beta, wide)
    slope, bend, shift = _bend(program, at, mu)
    rest = torch.where(open_, wide / at.s, 0.0)
    right = from_cones(X, E, rest) - pulled(X, D, slope - program.y * bend * shift) - goal
    weight = torch.where(open_, at.alpha / at.s, 0.0)
    cross = z.unsqueeze(-1) * U.unsqueeze(-2)
    own = torch.eye(X.shape[-1], dtype=X.dtype, device=X.device)
    norm = (beta / t).unsqueeze(-1) * (own - (cross + cross.mT) / (2 * root.unsqueeze(-1)))
    H = torch.einsum("bgnp,bnd,bne->bgpde", weight, X, X) + norm
    # as the norms' part tends to be singular, rounding would make it indefinite
    ridge = _RIDGE * H.diagonal(dim1=-2, dim2=-1).amax(-1)[..., None, None]
    factor = torch.linalg.cholesky_ex(H + ridge * own).L
    dU = _solved(program, factor, bend, right)
    turned = z * (U * dU).sum(-1, True) + U * (z * dU).sum(-1, True)
    dq = dxi = torch.zeros_like(at.q)
    if program.loss == "hinge":
        dq = bend * (shift - program.y * outputs(X, D, dU))
        dxi = (mu.unsqueeze(-1) - (1 - at.q) * at.xi + at.xi * dq) / (1 - at.q)
    return _Point(
        dU,
        z=goal - z + (beta / t) * (dU - turned / (2 * root)),
        alpha=torch.where(open_, rest - at.alpha - weight * cones(X, E, dU), 0.0),
        s=torch.where(open_, cones(X, E, dU), 0.0),
        q=dq,
        xi=dxi,
    )


def _solved(program: Gated, factor: Tensor, bend: Tensor, right: Tensor) -> Float[Tensor, "B 2 P d"]:
    """(H + F' diag(bend) F)^-1 right, for the Cholesky factors of the blocks of H, by Woodbury's identity."""
    X, D = program.X, program.D
    held = bend.sqrt().unsqueeze(-1)
    spread = X.mT[:, None, None].expand(*factor.shape[:3], *X.mT.shape[1:])
    # D_ki L_i^-1 x_k, whose products over all blocks are F H^-1 F'
    rows = torch.linalg.solve_triangular(factor, spread, upper=False) * D.mT[:, None, :, None, :]
    rows = rows.flatten(1, 3)
    own = torch.eye(X.shape[1], dtype=X.dtype, device=X.device)
    inner = torch.linalg.cholesky_ex(own + held * (rows.mT @ rows) * held.mT).L
    Z = torch.cholesky_solve(right.unsqueeze(-1), factor).squeeze(-1)
    p = held * torch.cholesky_solve(held * outputs(X, D, Z).unsqueeze(-1), inner)
    return Z - torch.cholesky_solve(pulled(X, D, p.squeeze(-1)).unsqueeze(-1), factor).squeeze(-1)


def _bend(program: Gated, at: _Point, mu: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Slope and curvature by each output, and what the curvature is asked to mend, ``(B, n)`` each."""
    y, out, none = program.y, outputs(program.X, program.D, at.U), torch.zeros_like(program.y)
    if program.loss == "hinge":
        room, mu = _room(program, at), mu.unsqueeze(-1)
        shift = mu / at.q - room - mu / (1 - at.q) + at.xi
        return -y * at.q, 1 / (at.xi / (1 - at.q) + room / at.q), shift
    slope = slopes(program.loss, out, y)
    if program.loss == "squared":
        return slope, torch.ones_like(out), none
    p = torch.sigmoid(-2 * y * out)
    return slope, 4 * p * (1 - p), none


def _longest(program: Gated, at: _Point, move: _Point) -> Float[Tensor, "B"]:
    """The longest step, 1 at most, after which all that is positive keeps a part of itself."""
    reach = torch.minimum(_reach(at.s, move.s), _reach(at.alpha, move.alpha))
    reach = torch.minimum(reach, _inside(at.z, move.z, program.beta))
    if program.loss == "hinge":
        room = move.xi + program.y * outputs(program.X, program.D, move.U)
        for x, dx in ((at.q, move.q), (1 - at.q, -move.q), (at.xi, move.xi), (_room(program, at), room)):
            reach = torch.minimum(reach, _reach(x, dx))
    return (_BACK * reach).clamp(max=1.0)


def _reach(x: Tensor, dx: Tensor) -> Float[Tensor, "B"]:
    """The step at which the first number is 0."""
    return torch.where(dx < 0, -x / torch.where(dx < 0, dx, -1.0), torch.inf).flatten(1).amin(-1)


def _inside(z: Tensor, dz: Tensor, beta: Tensor) -> Float[Tensor, "B"]:
    """The step at which the first |z| is beta."""
    a, b = dz.square().sum(-1), (z * dz).sum(-1)
    c = (beta[:, None, None].square() - z.square().sum(-1)).clamp_min(0)
    root = (b.square() + a * c).sqrt()
    # a r^2 + 2 b r = c, without cancellation
    reach = torch.where(b > 0, c / (b + root).clamp_min(_TINY), (root - b) / a.clamp_min(_TINY))
    return torch.where(a > 0, reach, torch.inf).flatten(1).amin(-1)


def _bound(program: Gated, at: _Point) -> Float[Tensor, "B"]:
    """A lower bound of the optimum, by weak duality."""
    y = program.y
    slope = _bend(program, at, program.beta)[0]
    pull = norms(from_cones(program.X, program.E, at.alpha) - pulled(program.X, program.D, slope)).amax(
        (1, 2)
    )
    part = (program.beta / pull.clamp_min(_TINY)).clamp(max=1.0)
    if program.loss == "squared":
        along, size = -(slope * y).sum(-1), slope.square().sum(-1)
        part = torch.minimum(part, (along / size.clamp_min(_TINY)).clamp_min(0))
        return part * along - part.square() * size / 2
    q = -part.unsqueeze(-1) * slope * y
    if program.loss == "hinge":
        return q.sum(-1)
    q = q / 2
    return -(torch.special.xlogy(q, q) + torch.special.xlogy(1 - q, 1 - q)).sum(-1)
