"""A top layer that is always the ridge solution, below it Adam (the official code's ``set_weight_reg``).

V <- V_F diag(s / (s^2 + rho)) U' (Y - 1/M),  F = U diag(s) V_F'       before every gradient
W <- Adam(gradient of the loss by W at (W, V))

Tian 2025 (arXiv 2509.21519), figures 12 and 13. It sees into the model: it needs the samples themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.given import is_number
from optenvs.core.ledger import Ledger
from optenvs.core.random import Keys
from optenvs.core.struct import select, static, struct
from optenvs.models import Part

from ..core import Agent, Observation, require
from ..gradient.adam import Adam, AdamState


@struct
class RidgeState:
    """The agent's memory.

    Attributes:
        adam: Adam's, of all layers but the top.
        work: singular value decompositions so far, as ``systems``.
        problem: what the problem tells: model and loss.
    """

    adam: AdamState
    work: Ledger
    problem: Any = static()


@dataclass(frozen=True, eq=False)
class RidgeTop(Agent):
    """Ridge regression for the last matrix of a network with ``features``, Adam for the layers below.

    The first query is the first weights with their ridge solution; from then on a query is a step.

    Args:
        rho: the ridge, > 0: n wd / 2 of a weight decay wd of the mean loss comes to the same.
        lr: Adam's rate; a tensor ``(B,)`` for one an instance.
        betas, eps: Adam's.
        weight_decay: Adam's, coupled, of the layers below.
    """

    rho: float = 1e-2
    lr: float | Float[Tensor, "B"] = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    needs: ClassVar[tuple[str, ...]] = ("minibatch",)

    def __post_init__(self) -> None:
        require(self, "rho", is_number(self.rho) and 0 < self.rho < float("inf"), "a number > 0")
        _ = self._adam  # it checks what is its

    @property
    def _adam(self) -> Adam:
        return Adam(self.lr, None, self.betas, self.eps, self.weight_decay)

    def init(self, problem: Any, observation: Observation, keys: Keys) -> RidgeState:
        model: Any = getattr(problem, "model", None)
        last = model.layout[-1] if hasattr(model, "features") else None
        if last is None or last.name != "output.weight":
            raise TypeError(
                "RidgeTop: needs a model with features and a last matrix 'output.weight', such as "
                f"optenvs/GroupGrokking-v0 has with oracle='minibatch'; got {type(model).__name__}"
            )
        if len(last.shape) != 2:
            raise TypeError("RidgeTop: output.weight: expected real numbers, got complex ones")
        below = observation["point"][:, : -last.size]
        adam = self._adam.init(problem, {"point": below}, keys)
        work = Ledger.empty(("systems",), len(keys), keys.device)
        told = (problem.objective, model)
        return RidgeState(adam=adam, work=work, problem=told)

    def act(self, state: RidgeState, observation: Observation) -> tuple[Tensor, RidgeState]:
        objective, model = state.problem
        point, part = observation["point"], Part(observation["inputs"], observation["targets"])
        size = model.layout[-1].size
        _, gradient = objective.value_and_gradient(point, part)
        below = point[:, :-size]
        seen = observation | {"point": below, "gradient": gradient[:, :-size]}
        moved, adam = self._adam.act(state.adam, seen)
        first = observation["k"] == 0  # V was drawn, and its slopes are nobody's
        moved = torch.where(first, below, moved)
        mu, nu, count = select(first.squeeze(1), _moments(state.adam), _moments(adam))
        whole = torch.cat((moved, torch.zeros_like(point[:, -size:])), 1)
        features = model.multiplier * model.features(model.unflatten(whole), part.inputs)
        top = self._ridge(features, part.targets, model.classes)
        action = torch.cat((moved, top.mT.flatten(1)), 1)
        work = state.work.bill({"systems": 1})
        return action, RidgeState(AdamState(mu, nu, None, count), work, state.problem)

    def _ridge(
        self, features: Float[Tensor, "B n K"], targets: Tensor, classes: int
    ) -> Float[Tensor, "B K M"]:
        """The ridge solution of the labels less their mean over the classes, by features as they are."""
        every = torch.arange(classes, device=targets.device)
        labels = (targets.unsqueeze(-1) == every).to(features.dtype) - 1 / classes
        u, s, v = torch.linalg.svd(features, full_matrices=False)
        return v.mT @ ((s / (s.square() + self.rho)).unsqueeze(-1) * (u.mT @ labels))


def _moments(adam: AdamState) -> tuple[Tensor, Tensor, Tensor]:
    return adam.mu, adam.nu, adam.count
