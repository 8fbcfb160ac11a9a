"""A network on group arithmetic whose top layer is always the ridge solution: only W is asked for.

    J(W) = min_V |P (Y - F V)|^2 / 2 + eta/2 |V|^2 = eta/2 tr Y~' (F~ F~' + eta I)^-1 Y~,  F = sigma(X W)
    grad J = -X' D G_F,
    G_F = P (Y - F V) V' = eta (F~ F~' + eta I)^-1 Y~ Y~' F~ B,   B = (F~' F~ + eta I)^-1

* State: W as asked last, the instance's own training pairs, and its last evaluation.
* Query: W as a flat vector.
* Answer: J(W) and its gradient.
* Bill: one gradient and one value; the linear system of a query is part of its gradient.

A row whose system cannot be solved in this precision (eta far below the rounding of F~ F~') has diverged.
Tian 2025 (arXiv 2509.21519), equation 4 and section 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from optenvs.core.env import Action, Answer, State
from optenvs.core.errors import only_part
from optenvs.core.given import check_finite
from optenvs.models import Part

from .base import Arithmetic, Problem
from .network import ACTIVATIONS, GroupNetwork, spread, summed
from .objective import GroupObjective


class Top(NamedTuple):
    """The ridge solution at features F.

    Attributes:
        value: J, ``(B,)``; NaN where the system could not be solved.
        weights: V', ``(B, M, K)``.
        signal: G_F, ``(B, n, K)``.
        offset: what centring adds to the outputs, ``(B, 1, M)``: mean(Y - F V).
    """

    value: Float[Tensor, "B"]
    weights: Float[Tensor, "B M K"]
    signal: Float[Tensor, "B n K"]
    offset: Float[Tensor, "B 1 M"]


def ridge(features: Float[Tensor, "B n K"], labels: Float[Tensor, "B n M"], eta: float) -> Top:
    """The ridge solution of centred labels by centred features, in the smaller of its two forms."""
    mean, share = features.mean(1, keepdim=True), labels.mean(1, keepdim=True)
    f, y = features - mean, labels - share
    wide = f.shape[2] > f.shape[1]
    gram = f @ f.mT if wide else f.mT @ f
    system = gram + eta * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    factor, info = torch.linalg.cholesky_ex(system)
    found = torch.cholesky_solve(y if wide else f.mT @ y, factor)
    weights = f.mT @ found if wide else found  # (B, K, M)
    rest = eta * found if wide else y - f @ weights
    value = (rest.square().sum((1, 2)) + eta * weights.square().sum((1, 2))) / 2
    value = torch.where(info > 0, torch.nan, value)
    return Top(value, weights.mT, rest @ weights.mT, share - mean @ weights)


@dataclass(frozen=True, eq=False, kw_only=True)
class RidgeTop(Arithmetic):
    """W alone, on a group's product; V is the ridge solution. One query: W, an epoch.

    Args:
        eta: the ridge, > 0: n wd / 2 of a coupled weight decay wd under the mean loss.
        group, width, activation, fraction, ratio, data, goal, evaluation_period: see
            :class:`~optenvs.envs.grokking.base.Arithmetic`; ``data`` has W alone for ``weights``.
        budget, reward, tolerance, device, dtype: see :class:`optenvs.core.OptimizationEnv`. The merit is
            J(W) / n.
    """

    eta: float = 0.2

    meanings: ClassVar[dict[str, str]] = {
        "action": "W, one vector",
        "value": "J(W) / n, the loss with the best top layer",
        "gradient": "its gradient by W",
        "loss": "J(W) / n, the loss with the best top layer",
    }

    def __post_init__(self) -> None:
        check_finite("eta", self.eta)
        if self.eta <= 0:
            raise ValueError(f"eta: expected a number > 0, got {self.eta!r}")
        super().__post_init__()

    def _model(self, top: bool) -> GroupNetwork:
        return GroupNetwork((2,), self.algebra.order, self.width, activation=self.activation, top=top)

    @cached_property
    def network(self) -> GroupNetwork:  # type: ignore[override]
        """The model that ends in its features: its layout is W."""
        return self._model(top=False)

    @cached_property
    def objective(self) -> GroupObjective:  # type: ignore[override]
        return GroupObjective(self.network, "theory")

    @cached_property
    def full(self) -> GroupObjective:  # type: ignore[override]
        return GroupObjective(self._model(top=True), "theory")

    def told(self) -> Problem:
        return Problem(objective=self.objective, ridge=float(self.eta))

    def _top(self, point: Float[Tensor, "B D"], part: Part) -> Top:
        features = self.network.features(self.network.unflatten(point), part.inputs)
        return ridge(features, self._labels(part), float(self.eta))

    def _labels(self, part: Part) -> Float[Tensor, "B n M"]:
        classes = torch.arange(self.algebra.order, device=part.targets.device)
        return (part.targets.unsqueeze(-1) == classes).to(self.torch_dtype)

    def answer(self, state: State, action: Action) -> Answer:
        point = only_part(self.name, action)
        part = self.part(state.hidden.train)
        count = self.train_count
        weight = self.network.unflatten(point)["hidden.weight"]
        hidden, places = summed(weight, part.inputs)
        activation = ACTIVATIONS[self.activation]
        top = ridge(activation.value(hidden), self._labels(part), float(self.eta))
        # the envelope theorem: V is held, and G_F is what its best value leaves
        slope = -spread(top.signal * activation.slope(hidden), places, weight).flatten(1)
        value = top.value / count
        return Answer(
            observation={"point": point, "value": value.unsqueeze(-1), "gradient": slope / count},
            merit=value,
            metrics={"loss": value, **state.hidden.evaluation},
            solved=self.solved(state, value),
        )

    def whole(self, state: State, some: slice) -> tuple[Tensor, Tensor]:
        point = state.observation["point"][some]
        top = self._top(point, self.part(state.hidden.train[some]))
        return torch.cat((point, top.weights.flatten(1)), 1), top.offset
