"""small_fc: the per-parameter MLP over Adafactor's features of Metz et al. (2022).

"Practical tradeoffs between memory, compute, and performance in learned optimizers", arXiv 2203.11860
("AdafacMLPLOpt" of the authors' library). One step, of every parameter by itself:

    averages of g, of g^2, and of g^2 by rows and columns, with decays that are weights, see ``_tensors``
    d, s = MLP([28 features, normalised tensor by tensor, 11 features of the time])
    x <- x - step_multiplier * d * exp(exp_multiplier * s)

A decay is ``1 - exp(10 (log(1 - b) / 10 + w))`` for its start b and its weight w, which begins at 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from optenvs.core.features import TIMES, second_moment_normalise, time_features
from optenvs.core.random import Keys

from ..core import Observation, require
from ..gradient.sgd import descend
from ._pieces import Layers, Sight, answers
from ._tensors import Averages, sizes_of
from .base import Affine, LearnedAgent, Numbers, perceptron
from .lolv2 import in_pieces

FEATURES = (
    "gradient",
    "parameter",
    "momenta",
    "squares",
    "scaled_momenta",
    "root",
    "factored_gradient",
    "rows",
    "columns",
    "row_roots",
    "column_roots",
    "factored_momenta",
)
"""In the order of the inputs; with the default decays they are 28."""
_RATE = 10.0
_EPSILON = 1e-6


class AdafacNet(nn.Module):
    """``mlp``, and the weights of the decays."""

    def __init__(
        self, counts: tuple[int, int, int], hidden: int, layers: int, outputs: int, dtype: torch.dtype
    ) -> None:
        super().__init__()
        momenta, squares, factors = counts
        inputs = 2 + 2 * momenta + 2 * squares + 6 * factors + len(TIMES)
        self.mlp = perceptron(inputs, hidden, layers, outputs, dtype)
        starts = {name: torch.zeros(count) for name, count in zip(_DECAYS, counts, strict=True)}
        self.decays = Numbers(dtype, starts)

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


_DECAYS = ("momentum_decays", "square_decays", "factor_decays")


@dataclass(frozen=True, eq=False)
class AdafacMLP(LearnedAgent):
    """A tiny MLP for each parameter, over momenta, second moments and their rows and columns.

    Where the problem names the layout of its parameters (``problem.model.layout``), second moments of tensors
    with two or more axes are factored, and features are normalised tensor by tensor; otherwise the point is
    one tensor with one axis. 190 weights and 7 of decays; ``hidden=32, step_multiplier=0.01`` is the form of
    the torch port PyLO, with 2402. A step is nearly free of the loss's scale: reciprocals of second moments
    fall under the epsilon of the normalisation where gradients are large (a few percent from 100 to 10,000).

    Args:
        hidden: units of a layer.
        layers: hidden layers.
        step_multiplier: the factor on the step.
        exp_multiplier: the factor on its log-magnitude.
        momentum_decays: the decays of momenta that the weights begin with.
        square_decays: those of second moments: one, or as many as there are momenta.
        factor_decays: those of second moments by rows and columns, as many as there are momenta.
        seed, dtype, net, weights: see :class:`agents.learned.base.LearnedAgent`.
    """

    hidden: int = 4
    layers: int = 2
    step_multiplier: float = 1e-3
    exp_multiplier: float = 1e-3
    momentum_decays: tuple[float, ...] = (0.9, 0.99, 0.999)
    square_decays: tuple[float, ...] = (0.999,)
    factor_decays: tuple[float, ...] = (0.9, 0.99, 0.999)

    def __post_init__(self) -> None:
        for name in ("hidden", "layers"):
            require(self, name, getattr(self, name) >= 1, "a whole number >= 1")
        for name in ("step_multiplier", "exp_multiplier"):
            require(self, name, 0 < getattr(self, name) < math.inf, "a number > 0")
        for name in _DECAYS:
            values = getattr(self, name)
            require(self, name, len(values) and all(0 <= v < 1 for v in values), "numbers in [0, 1)")
        count = len(self.momentum_decays)
        # momenta are multiplied by what the other two make
        require(self, "square_decays", len(self.square_decays) in (1, count), f"1 or {count} numbers")
        require(self, "factor_decays", len(self.factor_decays) == count, f"{count} numbers")
        super().__post_init__()

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many decays there are of each kind."""
        return len(self.momentum_decays), len(self.square_decays), len(self.factor_decays)

    @property
    def outputs(self) -> int:
        """Of the network."""
        return 2

    def build(self) -> AdafacNet:
        return AdafacNet(self.counts, self.hidden, self.layers, self.outputs, self.torch_dtype)

    def init(self, problem: Any, observation: Observation, keys: Keys) -> Averages:
        return Averages.begin(problem, observation["point"], self.counts)

    def rests(self, like: Tensor) -> tuple[Float[Tensor, "_ count"], ...]:
        """``1 - decay`` of each kind, between 0 and 1."""
        found = []
        for name in _DECAYS:
            starts = [math.log1p(-decay) for decay in getattr(self, name)]
            start = torch.tensor(starts, dtype=like.dtype, device=like.device)
            found.append((start + _RATE * self.own(f"decays.{name}", like)).exp().clamp(max=1.0))
        return tuple(found)

    def seen(self, state: Averages, observation: Observation) -> dict[str, Float[Tensor, "B n _"]]:
        """The features by name, not yet normalised."""
        return state.features(observation["point"], observation["gradient"], epsilon=_EPSILON)

    def answered(
        self, state: Averages, seen: dict[str, Tensor], observation: Observation
    ) -> Float[Tensor, "B n outputs"]:
        """The outputs of the network."""
        inputs = torch.cat([seen[name] for name in FEATURES], -1)
        time = time_features(observation["k"]).unsqueeze(1).expand(-1, inputs.shape[1], -1)
        return self.run(torch.cat((second_moment_normalise(inputs, sizes_of(state.shapes)), time), -1))

    def _answered_in_pieces(self, state: Averages, observation: Observation) -> Float[Tensor, "B n outputs"]:
        """The same to rounding for large points: the time, the same for all entries, is in the first bias."""
        point, time = observation["point"], time_features(observation["k"])
        affine = [layer for layer in self.net.mlp if isinstance(layer, Affine)]
        (weight, bias), *rest = [(layer.weight.to(point), layer.bias.to(point)) for layer in affine]
        inputs = weight.shape[1] - len(TIMES)

        def layers(row: int, tensor: int) -> Layers:
            return [(weight[:, :inputs], bias + weight[:, inputs:] @ time[row]), *rest]

        return answers(state, point, observation["gradient"], Sight(FEATURES, _EPSILON), layers, self.outputs)

    def act(self, state: Averages, observation: Observation) -> tuple[Tensor, Averages]:
        point, gradient = observation["point"], observation["gradient"]
        state = state.updated(gradient, self.rests(point))  # type: ignore[arg-type]
        if self.weights is None and in_pieces(point):
            answered = self._answered_in_pieces(state, observation)
        else:
            answered = self.answered(state, self.seen(state, observation), observation)
        direction, magnitude = answered.unbind(-1)
        step = direction * torch.exp(self.exp_multiplier * magnitude)
        return descend(point, step, self.step_multiplier), state
