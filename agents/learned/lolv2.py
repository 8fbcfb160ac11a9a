"""LOLv2, the per-parameter MLP of Metz et al. (2020; "MLPLOpt" of the authors' library).

One step, of every parameter by itself:

    m_i <- b_i m_i + (1 - b_i) g                               six decays b_i, before they are read
    d, s = MLP([g, x, m_1 .. m_6] normalised tensor by tensor, time features of k)
    x <- x - step_multiplier * d * exp(exp_multiplier * s)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from optenvs.core.features import (
    DECAYS,
    LOLV2_FEATURES,
    empty_momenta,
    lolv2_moments,
    tensor_sizes,
    time_features,
    update_momenta,
)
from optenvs.core.oracles import inside_transform
from optenvs.core.random import Keys
from optenvs.core.struct import static, struct

from ..core import Observation, require
from ..gradient.sgd import descend
from .base import Affine, LearnedAgent, perceptron

MOMENTS = 2 + len(DECAYS)
PIECE = 8_192
"""Parameters taken at once where a point is large: what is made of them stays in the second cache."""


@struct
class LOLv2State:
    """``momenta``: ``(B, n, 6)``; ``sizes``: of the tensors in the parameter vector."""

    momenta: Float[Tensor, "B n 6"]
    sizes: tuple[int, ...] = static()


@dataclass(frozen=True, eq=False)
class LOLv2(LearnedAgent):
    """A small MLP for each parameter, over momenta of six time scales and the time.

    Where the problem names the layout of its parameters (``problem.model.layout``), features are normalised
    tensor by tensor; otherwise the point is one tensor.

    Args:
        hidden: units of a layer.
        layers: hidden layers.
        step_multiplier: the factor on the step.
        exp_multiplier: the factor on its log-magnitude.
        seed, dtype, net, weights: see :class:`agents.learned.base.LearnedAgent`.
    """

    hidden: int = 32
    layers: int = 2
    step_multiplier: float = 1e-3
    exp_multiplier: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("hidden", "layers"):
            require(self, name, getattr(self, name) >= 1, "a whole number >= 1")
        for name in ("step_multiplier", "exp_multiplier"):
            require(self, name, 0 < getattr(self, name) < float("inf"), "a number > 0")
        super().__post_init__()

    def build(self) -> nn.Sequential:
        return perceptron(LOLV2_FEATURES, self.hidden, self.layers, 2, self.torch_dtype)

    def init(self, problem: Any, observation: Observation, keys: Keys) -> LOLv2State:
        point = observation["point"]
        return LOLv2State(momenta=empty_momenta(point), sizes=tensor_sizes(problem, point.shape[-1]))

    def act(self, state: LOLv2State, observation: Observation) -> tuple[Tensor, LOLv2State]:
        point, gradient = observation["point"], observation["gradient"]
        if self.weights is None and in_pieces(point):
            return self._act_in_pieces(state, observation)
        momenta = update_momenta(state.momenta, gradient)
        seen = lolv2_moments(point, gradient, momenta, state.sizes)
        direction, magnitude = self.run_beside(seen, time_features(observation["k"])).unbind(-1)
        step = direction * torch.exp(self.exp_multiplier * magnitude)
        action = descend(point, step, self.step_multiplier)
        return action, LOLv2State(momenta=momenta, sizes=state.sizes)

    def _act_in_pieces(self, state: LOLv2State, observation: Observation) -> tuple[Tensor, LOLv2State]:
        """The same to rounding for large points: what is made of a piece of a tensor stays in the cache.

        What normalises a tensor and the time, which are the same for all its parameters, are folded into the
        first layer: its weights are scaled, and its bias is shifted.
        """
        point, gradient = observation["point"], observation["gradient"]
        first, *layers = [
            (layer.weight.to(point), layer.bias.to(point)) for layer in self.net if isinstance(layer, Affine)
        ]
        weight, bias = first
        times = time_features(observation["k"])
        momenta, action = torch.empty_like(state.momenta), torch.empty_like(point)
        for row in range(len(point)):
            shifted = bias + weight[:, MOMENTS:] @ times[row]
            for tensor in pieces_of(state.sizes):
                squares = point.new_zeros(MOMENTS)
                for piece in tensor:
                    torch.lerp(
                        state.momenta[row, piece],
                        gradient[row, piece].unsqueeze(-1),
                        fading(point),
                        out=momenta[row, piece],
                    )
                    squares += moments(point, gradient, momenta, row, piece).square_().sum(0)
                size = tensor[-1].stop - tensor[0].start
                scaled = (weight[:, :MOMENTS] * torch.rsqrt(1e-5 + squares / size)).T.contiguous()
                for piece in tensor:
                    seen = torch.addmm(shifted, moments(point, gradient, momenta, row, piece), scaled)
                    for inner, offset in layers:
                        seen = torch.addmm(offset, seen.relu_(), inner.T)
                    step = seen[:, 0] * torch.exp(self.exp_multiplier * seen[:, 1])
                    torch.sub(point[row, piece], step, alpha=self.step_multiplier, out=action[row, piece])
        return action, LOLv2State(momenta=momenta, sizes=state.sizes)


def in_pieces(point: Tensor) -> bool:
    """Whether a point is worth taking in pieces, and may be: nothing is recorded or differentiated."""
    if point.shape[1] < 2 * PIECE or not point.is_cpu:
        return False
    return not torch.is_grad_enabled() and not inside_transform(point)


@lru_cache(maxsize=64)
def pieces_of(sizes: tuple[int, ...]) -> tuple[tuple[slice, ...], ...]:
    """The places of each tensor in a parameter vector, in pieces."""
    found, start = [], 0
    for size in sizes:
        cuts = range(start, start + size, PIECE)
        found.append(tuple(slice(cut, min(cut + PIECE, start + size)) for cut in cuts))
        start += size
    return tuple(tensor for tensor in found if tensor)


def moments(point: Tensor, gradient: Tensor, momenta: Tensor, row: int, piece: slice) -> Float[Tensor, "p 8"]:
    """Gradient, parameter and momenta of a piece, side by side."""
    pair = torch.stack((gradient[row, piece], point[row, piece]), -1)
    return torch.cat((pair, momenta[row, piece]), -1)


def fading(like: Tensor) -> Float[Tensor, "6"]:
    """How much of a new gradient each momentum takes."""
    return torch.tensor([1 - decay for decay in DECAYS], dtype=like.dtype, device=like.device)
