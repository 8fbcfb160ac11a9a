"""The continuized acceleration of asynchronous dual gossip (Even et al. 2021, appendix H).

Each node has two dual vectors. With theta_i(y) the gradient of its conjugate function at y, they follow

    between its events:           y' = eta (z - y),   z' = eta (y - z)
    an exchange with node j:      D = theta_i(y_i) - theta_j(y_j);   y -= gamma R_ij D,   z -= gamma_t D

    eta = sqrt(mu / (2 L chi_1 chi_2))     gamma = mu / (4 chi_2)     gamma_t = sqrt(L mu chi_1 / chi_2) / 2

with chi_1, chi_2 and the resistances R_ij (no 1/2) of the Laplacian of the rates. At total rate 1 these are
the numbers of the paper, with 2 chi_2 for its largest resistance and a factor 2 corrected as in the code of
Nabli and Oyallon (2023); another unit of time changes eta alone.

It needs ``clock="edges"``, with which both ends compute theta just before they exchange it, and
``oracle="conjugate"``: a message costs two conjugate gradients, each the solution of a problem of its own.
The iterate is z, a dual point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.random import Keys
from optenvs.core.struct import struct

from ..core import Observation, by_row, require
from ._events import EXCHANGE, GRADIENT, AsynchronousAgent, announced, answer_to, query


@struct
class ContinuizedState:
    """The memory of the continuized method, at the time of each node's last event.

    Attributes:
        y, z: the dual vectors, ``(B, N, d)`` each.
        primal: theta at the last query, ``(B, N, d)``.
        resistance: R of the edge of the last exchange, ``(B, N, 1)``.
        resistances: R of the edge to each node, ``(B, N, M)``.
        mixing: the rate 2 eta at which y - z fades, ``(B, 1, 1)``.
        near, far: the factors gamma and gamma_t, ``(B, 1, 1)`` each.
    """

    y: Float[Tensor, "B N d"]
    z: Float[Tensor, "B N d"]
    primal: Float[Tensor, "B N d"]
    resistance: Float[Tensor, "B N 1"]
    resistances: Float[Tensor, "B N M"]
    mixing: Float[Tensor, "B 1 1"]
    near: Float[Tensor, "B 1 1"]
    far: Float[Tensor, "B 1 1"]


@dataclass(frozen=True, eq=False)
class Continuized(AsynchronousAgent):
    """The continuized method.

    Args:
        eta, gamma, gamma_t: factors on the constants above: a number, or a tensor ``(B,)`` for the instances.
    """

    eta: float | Float[Tensor, "B"] = 1.0
    gamma: float | Float[Tensor, "B"] = 1.0
    gamma_t: float | Float[Tensor, "B"] = 1.0

    needs: ClassVar[tuple[str, ...]] = ("conjugate", "exchange")

    def __post_init__(self) -> None:
        for name in ("eta", "gamma", "gamma_t"):
            value = torch.as_tensor(getattr(self, name))
            require(self, name, ((value > 0) & value.isfinite()).all(), "a finite number > 0")

    def init(self, problem: Any, observation: Observation, keys: Keys) -> ContinuizedState:
        point = observation["point"]
        mu, L, chi1, chi2 = problem.mu, problem.L, problem.chi1, problem.chi2

        def constant(value: Tensor, name: str) -> Tensor:
            factor = by_row(name, getattr(self, name), value)
            return (torch.where(chi2 == 0, 0.0, value).unsqueeze(-1) * factor).unsqueeze(-1)

        return ContinuizedState(
            y=point,
            z=point,
            primal=torch.zeros_like(point),
            resistance=torch.zeros_like(point[..., :1]),
            resistances=problem.local.resistance,
            mixing=constant((2 * mu / (L * chi1 * chi2)).sqrt(), "eta"),
            near=constant(mu / (4 * chi2), "gamma"),
            far=constant((L * mu * chi1 / chi2).sqrt() / 2, "gamma_t"),
        )

    def act(
        self, state: ContinuizedState, observation: Observation
    ) -> tuple[dict[str, Tensor], ContinuizedState]:
        primal = torch.where(answer_to(observation, GRADIENT), observation["gradient"], state.primal)
        apart = torch.where(answer_to(observation, EXCHANGE), primal - observation["message"][:, :, 0], 0.0)
        y = state.y - state.near * state.resistance * apart
        before = state.z - state.far * apart
        moved = torch.expm1(-state.mixing * observation["elapsed"]) * ((y - before) / 2)
        y, z = y + moved, before - moved
        edge = state.resistances.gather(-1, observation["peer"])
        state = ContinuizedState(
            y=y,
            z=z,
            primal=primal,
            resistance=torch.where(announced(observation, EXCHANGE), edge, state.resistance),
            resistances=state.resistances,
            mixing=state.mixing,
            near=state.near,
            far=state.far,
        )
        return query(observation, y, primal, before, z), state
